"""The account page: API tokens, the password, the sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, flash, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from webapp.domain.errors import InvalidInput, NotFound, TooManyTries
from webapp.domain.scopes import SENTENCES, Scope
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import accounts, budgets, sign_ins
from webapp.services.clock import clock
from webapp.views.access import require_sign_in
from webapp.views.forms import PasswordForm
from webapp.views.htmx import go_to
from webapp.views.security import begin_session

TOKEN_LIVES = {str(days or "never"): days for days in accounts.TOKEN_DAYS}
NO_CHOICE = 0  # is none of them
bp = Blueprint("account", __name__, url_prefix="/account")
bp.before_request(require_sign_in)


@bp.get("")
def index() -> ResponseReturnValue:
    return _page()


@bp.post("/tokens")
def create_token() -> ResponseReturnValue:
    """Shows the new token in this answer and never again, so it is not a redirect."""
    form = request.form
    days = TOKEN_LIVES.get(form.get("expiry", ""), NO_CHOICE)
    try:
        token = accounts.create_token(
            db.session(), current_user, form.get("name", ""), form.getlist("scopes"), days=days
        )  # fmt: skip
    except InvalidInput as error:
        return _page(given=form, errors=error.errors), 422
    return _page(token), 201, {"Cache-Control": "no-store"}


@bp.post("/tokens/<int:token_id>/revoke")
def revoke_token(token_id: int) -> ResponseReturnValue:
    if not accounts.revoke_token(db.session(), current_user, token_id):
        raise NotFound
    flash("The token was revoked.", "success")
    return go_to(url_for("account.index"))


@bp.post("/password")
def change_password() -> ResponseReturnValue:
    form, user = PasswordForm(), current_user._get_current_object()
    old, new = form.old.data or "", form.new.data or ""
    try:
        sign_ins.change_password(db.session(), user, old, new, address=request.remote_addr or "")
    except InvalidInput as error:
        for key, message in error.errors.items():
            form[key].errors = [message]
        return _page(password_form=form), 422
    except TooManyTries as error:
        form.old.errors = [error.message]
        return _page(password_form=form), 429, {"Retry-After": str(error.seconds)}
    begin_session(user)
    flash("Your password was changed. Everywhere else you are signed out.", "success")
    return go_to(url_for("account.index"))


@bp.post("/sessions/end")
def end_sessions() -> ResponseReturnValue:
    sign_ins.end_sessions(db.session(), current_user)
    session.clear()
    flash("You are signed out everywhere.", "success")
    return go_to(url_for("public.landing"))


def _page(new_token: str | None = None, *, given: Any = None, errors: Mapping[str, str] | None = None,
          password_form: PasswordForm | None = None) -> str:  # fmt: skip
    tokens = accounts.list_tokens(db.session(), current_user)
    return render_template(
        "account/index.html", tokens=tokens, new_token=new_token, api_url=f"{parts().settings.public_url}/api/v1",
        budgets=budgets.budgets_of(db.session(), user_id=current_user.id), scopes=SENTENCES, lives=TOKEN_LIVES,
        chosen_scopes=given.getlist("scopes") if given else [Scope.JOBS_READ, Scope.JOBS_WRITE],
        given=given or {"expiry": "90"}, errors=errors or {}, now=clock(db.session()),
        password_form=password_form or PasswordForm(formdata=None),
    )  # fmt: skip
