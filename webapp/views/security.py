"""Headers on every page, and what happens to visitors without a session."""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

from flask import Flask, Request, Response, redirect, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask.typing import ResponseReturnValue
from flask_login import login_user
from itsdangerous import BadSignature, URLSafeTimedSerializer
from secure import (
    ContentSecurityPolicy,
    ReferrerPolicy,
    Secure,
    StrictTransportSecurity,
    XContentTypeOptions,
    XFrameOptions,
)
from structlog.contextvars import bind_contextvars

from webapp.extensions import db, login_manager
from webapp.models import User
from webapp.parts import parts
from webapp.services import accounts
from webapp.views import api
from webapp.views.htmx import client_redirect, is_htmx

POLICY = (
    ContentSecurityPolicy()
    .default_src("'none'").script_src("'self'").style_src("'self'").font_src("'self'").connect_src("'self'")
    .img_src("'self'", "data:").form_action("'self'").frame_ancestors("'none'").base_uri("'none'")
)  # fmt: skip

SEEN_NOTED_EVERY = 60  # seconds: not every answer sets the cookie anew


COOKIES_KEPT = 1_000  # of each process, 4 KB at most each


@lru_cache(maxsize=COOKIES_KEPT)
def _read(serializer: URLSafeTimedSerializer, cookie: str, max_age: int, _minute: int) -> Mapping[str, Any]:
    """What a cookie says, read anew in another minute: a page that polls shows the same one again and again.

    Raises BadSignature, which is not kept.
    """
    return dict(serializer.loads(cookie, max_age=max_age))


class _Sessions(SecureCookieSessionInterface):
    """Flask's own, but none for programs: they show a token, and a cookie counts for nothing there. Where
    nothing was changed there is no cookie to set: ours are not permanent.

    What signs the cookies is made once, not for each request: the keys stay.
    """

    _serializer: URLSafeTimedSerializer | None = None

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if request.path.startswith(f"{api.bp.url_prefix}/"):
            return None
        cookie, serializer = request.cookies.get(self.get_cookie_name(app)), self.get_signing_serializer(app)
        if not cookie or serializer is None:
            return self.session_class()
        max_age = int(app.permanent_session_lifetime.total_seconds())
        try:
            return self.session_class(deepcopy(_read(serializer, cookie, max_age, int(time.time()) // 60)))
        except BadSignature:
            return self.session_class()

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session.modified:
            super().save_session(app, session, response)
        elif session.accessed:
            response.vary.add("Cookie")

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        self._serializer = self._serializer or super().get_signing_serializer(app)
        return self._serializer


def register(app: Flask) -> None:
    """The headers, and the sessions of people."""
    app.session_interface = _Sessions()
    register_headers(app)
    login_manager.user_loader(_load_user)
    login_manager.unauthorized_handler(_ask_to_sign_in)
    login_manager.session_protection = "basic"


def register_headers(app: Flask) -> None:
    headers = Secure(
        csp=POLICY, referrer=ReferrerPolicy().same_origin(), xcto=XContentTypeOptions().nosniff(),
        xfo=XFrameOptions().deny(),
        hsts=StrictTransportSecurity().max_age(31_536_000) if app.config["SESSION_COOKIE_SECURE"] else None,
    ).header_items()  # fmt: skip

    @app.after_request
    def set_headers(response: Response) -> Response:
        response.headers.extend(headers)
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "private, no-cache")
        return response


def begin_session(user: User) -> None:
    """Nothing of the anonymous session survives a sign-in (session fixation)."""
    session.clear()
    login_user(user)
    session["began"] = session["seen"] = int(time.time())


def _is_over() -> bool:
    """Too old, or unused for too long; a poll of a page that nobody looks at is no use. Notes the use otherwise."""
    settings, now = parts().settings, int(time.time())
    began, seen = session.get("began", 0), session.get("seen", 0)
    if now - began >= settings.session_hours * 3600 or now - seen >= settings.session_idle_minutes * 60:
        return True
    if now - seen >= SEEN_NOTED_EVERY and not (is_htmx() and request.method == "GET"):
        session["seen"] = now
    return False


def named_user() -> tuple[int, int] | None:
    """(id, epoch) of whom the session names, while it lasts; whether they are still let in is for the caller to see."""
    named = accounts.named_by(str(session.get("_user_id", "")))
    if named is None or _is_over():
        return None
    bind_contextvars(user_id=named[0])
    return named


def _load_user(session_id: str) -> User | None:
    if _is_over():
        return None
    user = accounts.load_session_user(db.session(), session_id)
    if user:
        bind_contextvars(user_id=user.id)  # in every line that this request logs
    return user


def _ask_to_sign_in() -> ResponseReturnValue:
    target = request.full_path.rstrip("?") if request.method == "GET" and not is_htmx() else None
    address = url_for("public.login", next=target)
    return client_redirect(address, 401) if is_htmx() else redirect(address)


def registration_is_open() -> bool:
    return parts().settings.registration == "open"
