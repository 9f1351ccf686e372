"""What happened to a job, in order: its own events, and those of the windows that it rode in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session

from webapp.domain.errors import NotFound
from webapp.domain.states import ExecutionMode, JobStatus
from webapp.models import BatchItem, Job, JobEvent, User, WindowEvent
from webapp.services.clock import NOW
from webapp.services.driver import alone
from webapp.services.prepared import prepared

WINDOW_WORDS = {
    "opened": "claimed into window {window}",
    "input_uploaded": "window {window}: input file uploaded",
    "submitted": "processing: window {window} was submitted to the provider",
    "provider_status": "window {window}: the provider says {to}",
    "create_refused": "window {window}: the provider refused the batch for now",
    "cancel_requested": "window {window}: its end was wished for",
    "cancel_asked": "window {window}: cancelling was asked for",
    "input_deleted": "window {window}: its input file was withdrawn",
    "restored": "window {window}: a backup was restored; its batch is looked for",
    "settled": "window {window} was settled",
}


@dataclass(frozen=True)
class Entry:
    at: datetime
    what: str  # a state of the job, or words of its window
    actor: str  # as in models/job.py
    why: str
    since_previous: timedelta | None
    window_id: int | None  # whose event it was
    times: int = 1  # so often in a row, from `at` on


def timeline_of(session: Session, job_id: int) -> list[Entry]:
    """All that happened to this job, oldest first."""
    own = [
        (event.at, 0, event.to_status, event.actor, event.reason, None)
        for event in session.scalars(select(JobEvent).where(JobEvent.job_id == job_id))
    ]
    ridden = session.scalars(
        select(WindowEvent)
        .join(BatchItem, BatchItem.window_id == WindowEvent.window_id)
        .where(BatchItem.job_id == job_id)
    )
    windows = [(event.at, 1, _window_words(event), event.actor, "", event.window_id) for event in ridden]
    entries: list[Entry] = []
    previous = None
    for at, _, what, actor, why, window_id in sorted([*own, *windows], key=lambda row: row[:2]):
        if window_id and entries and (entries[-1].what, entries[-1].actor) == (what, actor):
            entries[-1] = replace(entries[-1], times=entries[-1].times + 1)  # a refusal may come every minute of a day
        else:
            entries.append(Entry(at, what, actor, why, at - previous if previous else None, window_id))
        previous = at
    return entries


_own = select(func.count()).where(JobEvent.job_id == Job.id).scalar_subquery()
_ridden = (
    select(func.count())
    .select_from(WindowEvent)
    .join(BatchItem, BatchItem.window_id == WindowEvent.window_id)
    .where(BatchItem.job_id == Job.id)
    .scalar_subquery()
)
# Every open page asks this every few seconds.
_glance = prepared(
    select(
        Job.id, Job.status, Job.attempt, Job.execution_mode, Job.created_at, Job.queue_id, Job.need_by,
        Job.dispatched_at, Job.not_before, (_own + _ridden).label("events"), NOW,
    )
    .join(User, and_(User.id == bindparam("user_id"), User.session_epoch == bindparam("epoch"), User.is_enabled))
    .where(Job.id == bindparam("job_id"), or_(Job.user_id == User.id, User.role == "admin"))
)  # fmt: skip


def glance(connection: Connection, job_id: int, *, user_id: int, epoch: int) -> Any | None:
    """How far a job is, in one query that also looks whether this user may see it: a row of the columns that decide
    what it waits for, `events` (how many `timeline_of` tells of) and `now`. None: the whole way has to tell why not.

    `user_id` and `epoch` are what the session's cookie names.
    """
    with alone(connection):
        found = _glance(connection, job_id=job_id, user_id=user_id, epoch=epoch)
    for row in found:
        return row._replace(status=JobStatus(row.status), execution_mode=ExecutionMode(row.execution_mode))
    return None


def look(session: Session, job_id: int, *, user_id: int | None) -> tuple[Job, int, datetime]:
    """A job, how many events `timeline_of` tells of it, and the moment.

    A page that has told as many events has nothing new to tell. `user_id` None means any user's. Raises NotFound.
    """
    statement = select(Job, _own + _ridden, NOW).where(Job.id == job_id)
    if user_id is not None:
        statement = statement.where(Job.user_id == user_id)
    found = session.execute(statement).one_or_none()
    if found is None:
        raise NotFound
    job, events, now = found
    return job, events, now


def _window_words(event: WindowEvent) -> str:
    detail: dict[str, Any] = event.detail if isinstance(event.detail, dict) else {}
    words = WINDOW_WORDS.get(event.event, "window {window}: " + event.event)
    return words.format(window=event.window_id, to=str(detail.get("to", "")).replace("_", " "))
