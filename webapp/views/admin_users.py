"""Users, and what an administrator can do about them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, make_response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from webapp.domain.errors import InvalidInput, InvalidMove
from webapp.extensions import db
from webapp.models import User
from webapp.services import accounts, users
from webapp.services.audit import list_audit
from webapp.services.clock import clock
from webapp.views.access import require_admin
from webapp.views.deeds import actor, do

bp = Blueprint("users", __name__, url_prefix="/admin/users")
bp.before_request(require_admin)

STATES = {"enabled": True, "disabled": False}
END_OF_JOBS = {"keep": False, "cancel": True}


@bp.get("")
def index() -> ResponseReturnValue:
    return _list({}, {})


@bp.post("")
def create() -> ResponseReturnValue:
    """Shows the password in this answer and never again, so it is not a redirect."""
    given = {key: request.form.get(key, "") for key in ("email", "role", "password", "reason")}
    try:
        user, password = users.create_user(
            db.session(), given["email"], given["role"], given["password"] or None, by=actor(), reason=given["reason"]
        )
    except InvalidInput as error:
        return _list(given, error.errors), 422
    except InvalidMove as error:
        return _list(given, {"email": error.message}), 409
    return _with_secret(_page(user.id, new_password=password, is_new=True), 201)


@bp.get("/<int:user_id>")
def detail(user_id: int) -> ResponseReturnValue:
    return _page(user_id)


@bp.post("/<int:user_id>/role")
def change_role(user_id: int) -> ResponseReturnValue:
    role = request.form.get("role", "")

    def deed(by: User, reason: str) -> str:
        users.change_role(db.session(), user_id, role, by=by, reason=reason)
        return "This user is an administrator from now on." if role == "admin" else "This user is no admin any more."

    return do(deed, _address(user_id))


@bp.post("/<int:user_id>/disable")
def disable(user_id: int) -> ResponseReturnValue:
    def deed(by: User, reason: str) -> str:
        cancels_jobs = END_OF_JOBS.get(request.form.get("jobs", ""))
        if cancels_jobs is None:
            raise InvalidInput({"jobs": "Say what becomes of the jobs that wait: they run, or are cancelled."})
        cancelled = users.disable_user(db.session(), user_id, cancels_jobs=cancels_jobs, by=by, reason=reason)
        said = "Disabled: the sessions have ended, and the API tokens are revoked."
        return f"{said} {cancelled:,} waiting {'job was' if cancelled == 1 else 'jobs were'} cancelled."

    return do(deed, _address(user_id))


@bp.post("/<int:user_id>/enable")
def enable(user_id: int) -> ResponseReturnValue:
    def deed(by: User, reason: str) -> str:
        users.enable_user(db.session(), user_id, by=by, reason=reason)
        return "Enabled: the user can sign in again. API tokens have to be made anew."

    return do(deed, _address(user_id))


@bp.post("/<int:user_id>/password")
def reset_password(user_id: int) -> ResponseReturnValue:
    """Shows the password in this answer and never again; what is refused is a redirect, as everywhere."""
    made: list[str] = []

    def deed(by: User, reason: str) -> str:
        made.append(users.reset_password(db.session(), user_id, by=by, reason=reason))
        return "The password was reset, and every session has ended."

    answer = do(deed, _address(user_id))
    return _with_secret(_page(user_id, new_password=made[0]), 200) if made else answer


@bp.post("/<int:user_id>/sign-out")
def sign_out(user_id: int) -> ResponseReturnValue:
    def deed(by: User, reason: str) -> str:
        users.end_sessions(db.session(), user_id, by=by, reason=reason)
        return "Every session of this user has ended."

    return do(deed, _address(user_id))


@bp.post("/<int:user_id>/tokens/<int:token_id>/revoke")
def revoke_token(user_id: int, token_id: int) -> ResponseReturnValue:
    def deed(by: User, reason: str) -> str:
        users.revoke_token(db.session(), user_id, token_id, by=by, reason=reason)
        return "The token was revoked: programs that use it are refused."

    return do(deed, _address(user_id))


def _list(given: dict[str, str], errors: dict[str, str]) -> str:
    asked = request.args
    search, role, state = asked.get("q", "").strip(), asked.get("role", ""), asked.get("state", "")
    before = asked.get("before", type=int)
    found, older = users.list_users(
        db.session(), search=search, role=role if role in users.ROLES else None, is_enabled=STATES.get(state),
        before=before,
    )  # fmt: skip
    chosen = {"q": search, "role": role if role in users.ROLES else "", "state": state if state in STATES else ""}
    return render_template(
        "admin/users.html", accounts=found, query={key: value for key, value in chosen.items() if value},
        older=older, before=before, given=given, errors=errors, password_rule=accounts.PASSWORD_RULE,
    )  # fmt: skip


def _page(user_id: int, **more: Any) -> str:
    """Raises NotFound."""
    session = db.session()
    account = users.get_account(session, user_id)
    waiting, under_way = users.unfinished_jobs(session, user_id)
    return render_template(
        "admin/user.html", account=account, user=account.user, is_me=user_id == actor().id, waiting=waiting,
        under_way=under_way, tokens=accounts.list_tokens(session, account.user), now=clock(session),
        audit=list_audit(session, target=f"user:{user_id}"), **more,
    )  # fmt: skip


def _with_secret(page: str, status: int) -> ResponseReturnValue:
    """A page that nobody keeps a copy of."""
    answer = make_response(page, status)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _address(user_id: int) -> str:
    return url_for("users.detail", user_id=user_id)
