"""What somebody picked in the history, many jobs at once: cancel them, or run them again.

A selection is `Wanted`; of more than MOST_SELECTED jobs it means the newest. Those that do not allow it are left, and
counted by the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.domain.states import JOB_MOVES, TERMINAL_JOBS, JobStatus
from webapp.models import Job, User
from webapp.services import jobs, retries, submissions
from webapp.services.audit import audit
from webapp.services.job_lists import Wanted

MOST_SELECTED = 10_000
CANCELLABLE = JOB_MOVES[JobStatus.CANCELLED]
ENDED, UNDER_WAY = "ended already", "under way"
NOT_ENDED, ANSWERED, REPEATED = "not ended", "answered", "repeated already"


@dataclass(frozen=True)
class Outlook:
    """What would be done to a selection."""

    possible: int
    left: Mapping[str, int]  # {why not: how many}
    of_others: int  # jobs of other users, for which a reason is wanted
    is_cut: bool  # there are more than MOST_SELECTED
    newest: int | None  # the newest of them: what is made from now on is not meant


@dataclass(frozen=True)
class Done:
    count: int
    left: Mapping[str, int]  # {why not: how many}
    said: str | None = None  # of one that could not be repeated: what keeps it
    submission_id: int | None = None  # what keeps the repeated ones together, if it is one


def foresee_cancel(session: Session, wanted: Wanted, *, user: User) -> Outlook:
    return _outlook(_picked(session, wanted, MOST_SELECTED + 1), _why_not_cancelled, user)


def foresee_retry(session: Session, wanted: Wanted, *, user: User) -> Outlook:
    rows = _picked(session, wanted, MOST_SELECTED + 1)
    again = retries.repeated_among(session, [row.id for row in rows])
    return _outlook(rows, lambda row: REPEATED if row.id in again else _why_not_repeated(row), user)


def cancel_selected(session: Session, wanted: Wanted, *, user: User, reason: str = "") -> Done:
    """Cancel those that nobody has started. Commits. Raises InvalidInput without a reason for jobs of others."""
    rows = _picked(session, wanted)
    waiting = sorted(row.id for row in rows if not _why_not_cancelled(row))
    cancelled = set(jobs.cancel_jobs(session, waiting, actor=f"user:{user.id}"))
    done = [row for row in rows if row.id in cancelled]
    left = Counter(_why_not_cancelled(row) or UNDER_WAY for row in rows if row.id not in cancelled)
    _note(session, user, "cancel_jobs", done, reason, left)
    session.commit()
    return Done(len(done), left)


def retry_selected(session: Session, wanted: Wanted, *, user: User, reason: str = "") -> Done:
    """Run those again that ended without an answer and were not repeated yet: new jobs, kept together as a submission
    for each user and profile when they are more than one. Commits.

    Raises InvalidInput without a reason for jobs of others, or OverBudget.
    """
    rows = _picked(session, wanted)
    ended = [row.id for row in rows if not _why_not_repeated(row)]
    unrepeated = retries.lock_unrepeated(session, ended)
    repeated = jobs.retry_jobs(session, unrepeated, actor=f"user:{user.id}") if unrepeated else jobs.Repeated([], {})
    made = submissions.keep_together(session, repeated.new_ids)
    done = {*unrepeated} - {*repeated.left_out}
    left = Counter(_why_not_repeated(row) or REPEATED for row in rows if row.id not in {*unrepeated})
    _note(session, user, "retry_jobs", [row for row in rows if row.id in done], reason, left)
    session.commit()
    return Done(
        len(done), left + Counter({"kept from it": len(repeated.left_out)}),
        said=next(iter(repeated.left_out.values()), None), submission_id=made[0] if len(made) == 1 else None,
    )  # fmt: skip


def _picked(session: Session, wanted: Wanted, most: int | None = None) -> Sequence[Any]:
    """(id, status, user_id) of the newest."""
    statement = select(Job.id, Job.status, Job.user_id).where(*wanted.conditions()).order_by(Job.id.desc())
    return session.execute(statement.limit(most or MOST_SELECTED)).all()


def _why_not_cancelled(row: Any) -> str | None:
    if row.status in CANCELLABLE:
        return None
    return ENDED if row.status in TERMINAL_JOBS else UNDER_WAY


def _why_not_repeated(row: Any) -> str | None:
    if row.status in jobs.REPEATABLE:
        return None
    return ANSWERED if row.status in TERMINAL_JOBS else NOT_ENDED


def _outlook(rows: Sequence[Any], why_not: Any, user: User) -> Outlook:
    counted = rows[:MOST_SELECTED]
    left = Counter(why for row in counted if (why := why_not(row)))
    return Outlook(
        len(counted) - left.total(), left, sum(row.user_id != user.id for row in counted), len(rows) > MOST_SELECTED,
        rows[0].id if rows else None,
    )  # fmt: skip


def _note(session: Session, user: User, action: str, done: Sequence[Any], reason: str, left: Counter[str]) -> None:
    """What was done to jobs of others; which jobs those were, the event of each says."""
    others = [row for row in done if row.user_id != user.id]
    if not others:
        return
    target = f"job:{others[0].id}" if len(others) == 1 else f"jobs:{others[-1].id}-{others[0].id}"
    detail = {"jobs": len(others), "users": len({row.user_id for row in others}), "left": dict(left)}
    audit(session, user, action, target, reason, detail)
