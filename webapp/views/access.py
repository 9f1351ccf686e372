"""Who may see what. A stranger gets 404: that something exists is nobody's business."""

from __future__ import annotations

import hmac
import re

from flask import abort, g, request
from flask_login import current_user, login_required
from structlog.contextvars import bind_contextvars
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from webapp.domain.errors import NotFound
from webapp.extensions import db
from webapp.models import Job, User
from webapp.parts import parts
from webapp.services import accounts, jobs

_PATH_HERE = re.compile(r"/(?!/)[^\\\x00-\x20\x7f]*")


def job_or_404(job_id: int, user: User) -> Job:
    """The user's own job; an admin sees every job. Raises NotFound."""
    return jobs.get_job(db.session(), job_id, user_id=None if user.is_admin else user.id)


@login_required
def require_sign_in() -> None:
    """A `before_request` for pages of people who are signed in: everyone else is asked to."""


def require_admin() -> None:
    """A `before_request` for admin pages: everyone else finds nothing here."""
    if not (current_user.is_authenticated and current_user.is_admin):
        raise NotFound


def has_internal_token() -> bool:
    """The present token, or while it is changed the previous one; each compared in a time that tells nothing of it."""
    given, settings = request.headers.get("X-Internal-Token", "").encode(), parts().settings
    valid = filter(None, (settings.internal_token, settings.internal_token_previous))
    return any([hmac.compare_digest(given, token.get_secret_value().encode()) for token in valid])


def require_internal_token() -> None:
    """A `before_request` for n8n's door."""
    if not has_internal_token():
        abort(401, "The X-Internal-Token header is missing or wrong.")


def require_bearer_token() -> None:
    """For the API: sets `g.user`, `g.scopes`, `g.token_id` and `g.now`. Session cookies count for nothing here."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    bearer = accounts.find_bearer(db.session(), token.strip()) if scheme.lower() == "bearer" else None
    if bearer is None:
        said = "Send a valid API token (it may have expired or been revoked): Authorization: Bearer <token>."
        raise Unauthorized(said, www_authenticate=WWWAuthenticate("bearer"))
    g.user, g.scopes, g.token_id, g.now = bearer.user, bearer.scopes, bearer.token_id, bearer.now
    bind_contextvars(user_id=bearer.user.id)


def safe_next(target: str | None, default: str) -> str:
    """`next` if it stays on this site, else the default.

    Browsers take a backslash for a slash and leave tabs out, so neither may be in it, nor a second slash at its start.
    """
    return target if target and _PATH_HERE.fullmatch(target) else default
