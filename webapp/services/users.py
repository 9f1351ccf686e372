"""Users, for administrators: find them, make and unmake them. Each deed is in the audit log, with its reason.

Whoever acts is locked together with whom it is about, and is refused if by then no administrator any more; nobody
takes a right from themselves. So there is always an administrator left, also when two act on each other at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from webapp.domain.errors import InvalidInput, InvalidMove, NotFound
from webapp.domain.states import JOB_MOVES, JobStatus
from webapp.models import ApiToken, Job, User
from webapp.services import accounts, budgets, costs, jobs, webhooks
from webapp.services.audit import audit
from webapp.services.clock import clock

ROLES = ("user", "admin")
USERS_PAGE = 50
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is taken for another when read aloud


@dataclass(frozen=True)
class Account:
    """A user, and what the answers of this month (UTC) cost: those of unknown cost are counted, but in no sum."""

    user: User
    answers: int
    spent: Decimal  # USD


def list_users(
    session: Session, *, search: str = "", role: str | None = None, is_enabled: bool | None = None,
    before: int | None = None, size: int = USERS_PAGE,
) -> tuple[list[Account], int | None]:  # fmt: skip
    """(users whose e-mail contains `search`, the newest first; the `before` of the next page, if any)."""
    statement = select(User).order_by(User.id.desc()).limit(size + 1)
    if search.strip():
        statement = statement.where(User.email.icontains(search.strip(), autoescape=True))
    if role is not None:
        statement = statement.where(User.role == role)
    if is_enabled is not None:
        statement = statement.where(User.is_enabled.is_(is_enabled))
    if before is not None:
        statement = statement.where(User.id < before)
    found = session.scalars(statement).all()
    return _with_costs(session, found[:size]), found[size - 1].id if len(found) > size else None


def get_account(session: Session, user_id: int) -> Account:
    """Raises NotFound."""
    user = session.get(User, user_id)
    if user is None:
        raise NotFound(f"There is no user {user_id}.")
    return _with_costs(session, [user])[0]


def unfinished_jobs(session: Session, user_id: int) -> tuple[int, int]:
    """(how many of the user's jobs wait and can be cancelled, how many are under way)."""
    can_be_cancelled = Job.status.in_(JOB_MOVES[JobStatus.CANCELLED])
    counts = select(func.count().filter(can_be_cancelled), func.count().filter(~can_be_cancelled))
    waiting, under_way = session.execute(counts.where(Job.user_id == user_id, Job.finished_at.is_(None))).one()
    return waiting, under_way


def make_password() -> str:
    """A random password that can be read aloud: 99 bits, as five groups of four letters."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(4)) for _ in range(5))


def create_user(
    session: Session, email: str, role: str, password: str | None = None, *, by: User, reason: str
) -> tuple[User, str]:
    """A new user and the password, made up if none is given: it is stored as a hash only. Commits.

    Raises InvalidInput with `email`, `role`, `password` or `reason`, or InvalidMove.
    """
    _known_role(role)
    _lock(session, by)
    password = password or make_password()
    user = accounts.add_user(session, email, password, role=role)
    audit(session, by, "create_user", f"user:{user.id}", reason, {"email": user.email, "role": role})
    session.commit()
    return user, password


def change_role(session: Session, user_id: int, role: str, *, by: User, reason: str) -> None:
    """Commits. Raises NotFound, InvalidInput, or InvalidMove when it is the own role, or the same as before."""
    _known_role(role)
    user = _lock_other(session, user_id, by)
    if user.role == role:
        raise _refused(session, f"{user.email} has this role already.")
    audit(session, by, "change_role", f"user:{user_id}", reason, {"from": user.role, "to": role})
    user.role = role
    session.commit()


def disable_user(session: Session, user_id: int, *, cancels_jobs: bool, by: User, reason: str) -> int:
    """Nobody signs in or calls as this user any more: sessions end, tokens are revoked for good, and webhooks
    disabled. Commits.

    Jobs that wait are cancelled (`cancels_jobs`) or run on, and are paid; those under way run on anyhow. Returns how
    many were cancelled. Raises NotFound, InvalidInput, or InvalidMove when it is oneself, or disabled already.
    """
    user = _lock_other(session, user_id, by)
    if not user.is_enabled:
        raise _refused(session, f"{user.email} is disabled already.")
    user.is_enabled = False
    user.session_epoch += 1
    revoked = session.scalars(
        update(ApiToken).where(ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=clock(session)).returning(ApiToken.id)
    ).all()  # fmt: skip
    silenced = webhooks.disable_all(session, user_id, now=clock(session))
    cancelled = _cancel_waiting(session, user_id, f"user:{by.id}") if cancels_jobs else 0
    detail = {"tokensRevoked": len(revoked), "webhooksDisabled": silenced, "jobsCancelled": cancelled}
    audit(session, by, "disable_user", f"user:{user_id}", reason, detail)
    session.commit()
    return cancelled


def enable_user(session: Session, user_id: int, *, by: User, reason: str) -> None:
    """The user may sign in again; old sessions and tokens stay dead. Commits.

    Raises NotFound, InvalidInput, or InvalidMove when the user is enabled already.
    """
    user = _lock_other(session, user_id, by)
    if user.is_enabled:
        raise _refused(session, f"{user.email} is enabled already.")
    user.is_enabled = True
    audit(session, by, "enable_user", f"user:{user_id}", reason)
    session.commit()


def reset_password(session: Session, user_id: int, *, by: User, reason: str) -> str:
    """A new password, which only the caller sees; every session ends, tokens stay. Commits.

    Raises NotFound, InvalidInput, or InvalidMove when it is the own one.
    """
    user = _lock_other(session, user_id, by)
    password = make_password()
    user.password_hash = accounts.hash_password(password)
    user.session_epoch += 1
    audit(session, by, "reset_password", f"user:{user_id}", reason)
    session.commit()
    return password


def end_sessions(session: Session, user_id: int, *, by: User, reason: str) -> None:
    """Sign the user out everywhere, oneself too. Commits. Raises NotFound, InvalidInput or InvalidMove."""
    _lock(session, by, user_id).session_epoch += 1
    audit(session, by, "end_sessions", f"user:{user_id}", reason)
    session.commit()


def revoke_token(session: Session, user_id: int, token_id: int, *, by: User, reason: str) -> None:
    """Commits. Raises NotFound, InvalidInput, or InvalidMove when the token was revoked already."""
    _lock(session, by, user_id)
    token = session.scalars(
        select(ApiToken).where(ApiToken.id == token_id, ApiToken.user_id == user_id)
        .with_for_update(key_share=True).execution_options(populate_existing=True)
    ).one_or_none()  # fmt: skip
    if token is None:
        session.rollback()
        raise NotFound("This user has no such token.")
    if token.revoked_at:
        raise _refused(session, "This token was revoked already.")
    token.revoked_at = clock(session)
    audit(session, by, "revoke_token", f"user:{user_id}", reason, {"token": token_id, "name": token.name})
    session.commit()


def _with_costs(session: Session, users: Sequence[User]) -> list[Account]:
    start, end = budgets.month_of(clock(session))
    fact = costs.facts().c
    sums = session.execute(
        select(fact.user_id, func.sum(fact.entries), func.sum(fact.amount))
        .where(fact.user_id.in_([user.id for user in users]), fact.day >= start.date(), fact.day < end.date())
        .group_by(fact.user_id)
    )
    found = {user_id: (int(answers), spent) for user_id, answers, spent in sums}
    return [Account(user, *found.get(user.id, (0, Decimal()))) for user in users]


def _lock(session: Session, by: User, user_id: int | None = None) -> User:
    """The user (or, without an id, whoever acts), locked together with whoever acts. Raises NotFound or InvalidMove."""
    ids = {by.id, by.id if user_id is None else user_id}
    # In one order, so that two who act on each other wait for one another, and what was read before is read again.
    locked = session.scalars(
        select(User).where(User.id.in_(ids)).order_by(User.id)
        .with_for_update(key_share=True).execution_options(populate_existing=True)
    )  # fmt: skip
    found = {user.id: user for user in locked}
    if not (by.id in found and found[by.id].is_admin and found[by.id].is_enabled):
        raise _refused(session, "You are no administrator any more; nothing was changed.")
    if user_id is not None and user_id not in found:
        session.rollback()
        raise NotFound(f"There is no user {user_id}.")
    return found[by.id if user_id is None else user_id]


def _lock_other(session: Session, user_id: int, by: User) -> User:
    """As `_lock`; what this leads to, nobody does to themselves. Raises NotFound or InvalidMove."""
    user = _lock(session, by, user_id)
    if user.id == by.id:
        raise _refused(session, "This is your own account: another administrator has to do that.")
    return user


def _cancel_waiting(session: Session, user_id: int, actor: str) -> int:
    waiting = select(Job.id).where(Job.user_id == user_id, Job.finished_at.is_(None))
    job_ids = session.scalars(waiting.where(Job.status.in_(JOB_MOVES[JobStatus.CANCELLED])).order_by(Job.id)).all()
    return len(jobs.cancel_jobs(session, job_ids, actor=actor))


def _known_role(role: str) -> None:
    if role not in ROLES:
        raise InvalidInput({"role": "Choose user or admin."})


def _refused(session: Session, message: str) -> InvalidMove:
    session.rollback()
    return InvalidMove(message)
