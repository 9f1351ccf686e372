"""The account page: API tokens."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from webapp.domain.errors import NotFound
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import accounts, budgets
from webapp.views.htmx import go_to

bp = Blueprint("account", __name__, url_prefix="/account")


@bp.before_request
@login_required
def _signed_in() -> None:
    pass


@bp.get("")
def index() -> ResponseReturnValue:
    return _page()


@bp.post("/tokens")
def create_token() -> ResponseReturnValue:
    """Shows the new token in this answer and never again, so it is not a redirect."""
    token = accounts.create_token(db.session(), current_user, request.form.get("name", ""))
    return _page(token), 201


@bp.post("/tokens/<int:token_id>/revoke")
def revoke_token(token_id: int) -> ResponseReturnValue:
    if not accounts.revoke_token(db.session(), current_user, token_id):
        raise NotFound
    flash("The token was revoked.", "success")
    return go_to(url_for("account.index"))


def _page(new_token: str | None = None) -> str:
    tokens = accounts.list_tokens(db.session(), current_user)
    return render_template(
        "account/index.html", tokens=tokens, new_token=new_token, api_url=f"{parts().settings.public_url}/api/v1/jobs",
        budgets=budgets.budgets_of(db.session(), user_id=current_user.id),
    )  # fmt: skip
