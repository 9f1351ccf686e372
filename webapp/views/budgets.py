"""The budgets, and what an administrator can do about them."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from webapp.domain.errors import InvalidInput, NotFound
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import budgets
from webapp.views.access import require_admin
from webapp.views.htmx import go_to

bp = Blueprint("budgets", __name__, url_prefix="/admin/budgets")
bp.before_request(require_admin)


@bp.get("")
def index() -> ResponseReturnValue:
    return _page({}, {})


@bp.post("")
def set_budget() -> ResponseReturnValue:
    given = {key: request.form.get(key, "") for key in ("email", "profile", "amount", "reason")}
    try:
        budgets.set_budget(
            db.session(), parts().profiles, email=given["email"], profile_id=given["profile"], amount=given["amount"],
            user=current_user._get_current_object(), reason=given["reason"],
        )  # fmt: skip
    except InvalidInput as error:
        return _page(given, error.errors), 422
    flash("The budget holds from now on; what is under way is counted.", "success")
    return go_to(url_for("budgets.index"))


@bp.post("/<int:budget_id>/remove")
def remove_budget(budget_id: int) -> ResponseReturnValue:
    try:
        budgets.remove_budget(
            db.session(), budget_id, user=current_user._get_current_object(), reason=request.form.get("reason", "")
        )
        flash("There is no limit there any more.", "success")
    except InvalidInput as error:
        flash(" ".join(error.errors.values()), "error")
    except NotFound as error:
        flash(error.message, "error")
    return go_to(url_for("budgets.index"))


def _page(given: dict[str, str], errors: dict[str, str]) -> str:
    return render_template(
        "admin/budgets.html", budgets=budgets.list_budgets(db.session()), profiles=list(parts().profiles),
        given=given, errors=errors,
    )  # fmt: skip
