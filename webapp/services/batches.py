"""Queues and the claim: jobs that wait, and the one transaction that takes them into a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, true
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import InsufficientJobs, NotFound
from webapp.domain.policy import QueueState, Readiness, readiness
from webapp.domain.states import JobStatus, WindowStatus
from webapp.models import BatchWindow, Job, Queue
from webapp.services import lifecycle
from webapp.services.clock import clock
from webapp.services.registry import Profiles

QUEUE_LOCK = 7_302  # advisory lock class; the second key is the queue's id


LINE_OVERHEAD_BYTES = 200  # custom_id, method, url and punctuation of one JSONL line


@dataclass(frozen=True)
class QueueView:
    """One queue as the internal API and the admin page see it."""

    queue: Queue
    queued: int
    size: int  # jobs in a full window
    max_wait_seconds: int
    oldest_age_seconds: float
    readiness: Readiness


def list_queues(session: Session, settings: Settings, profiles: Profiles) -> list[QueueView]:
    """Every queue that has jobs waiting, with the policy's judgement of it now."""
    now = clock(session)
    oldest = _waiting(Queue.id).add_columns(Job.queued_at, Job.has_ridden).limit(1).lateral()
    counted = select(func.count().label("n")).where(*_is_waiting(Queue.id)).lateral()
    rows = session.execute(
        select(Queue, counted.c.n, oldest.c.queued_at, oldest.c.has_ridden)
        .select_from(Queue)
        .join(oldest, true())
        .join(counted, true())
        .order_by(Queue.id)
    ).all()
    views = []
    for queue, queued, queued_at, has_ridden in rows:
        size, wait = _limits(session, settings, profiles, queue)
        judged = readiness(_state(queue, queued, size, wait, queued_at, has_ridden, now), now)
        views.append(QueueView(queue, queued, size, wait, (now - queued_at).total_seconds(), judged))
    return views


def open_window(
    session: Session, settings: Settings, profiles: Profiles, *,
    queue_id: int, max_batch_size: int | None = None, job_ids: Sequence[int] | None = None, actor: str,
) -> BatchWindow:  # fmt: skip
    """Claim a full window of queued jobs, all or nothing. Commits.

    The policy is judged here, under the queue's lock; `max_batch_size` may only lower the size of a window;
    with `job_ids` just these jobs are taken, all or none.
    Raises NotFound, or InsufficientJobs (with `needed` and `available`): then nothing is changed.
    """
    # Openers of one queue take turns: with SKIP LOCKED alone two of them can each lock a part and both give up.
    session.execute(select(func.pg_advisory_xact_lock(QUEUE_LOCK, queue_id)))
    queue = session.get(Queue, queue_id, populate_existing=True)
    if queue is None:
        raise NotFound(f"There is no queue {queue_id}.")
    now = clock(session)
    size, wait = _limits(session, settings, profiles, queue)
    size = min(size, max_batch_size or size)
    available, oldest, has_ridden = _count(session, queue, size)
    judged = readiness(_state(queue, available, size, wait, oldest, has_ridden, now), now)
    if job_ids is not None and judged.reason not in ("held", "not_before"):
        chosen = len(set(job_ids))
        judged = Readiness(chosen <= size, chosen, "chosen")
    if not judged.ready:
        raise _insufficient(session, queue_id, size, available)
    window = BatchWindow(
        queue_id=queue_id, status=WindowStatus.OPEN, job_count=judged.take, opened_because=judged.reason,
        opened_at=now, due_at=now,
    )  # fmt: skip
    session.add(window)
    session.flush()  # its id names the items
    locked, window.job_count = _insert_items(session, settings, window.id, queue_id, judged.take, job_ids)
    if locked < judged.take or window.job_count < (judged.take if job_ids is not None else 1):
        raise _insufficient(session, queue_id, judged.take, locked)
    lifecycle.move_window_jobs(session, window.id, JobStatus.CLAIMED, now=now)
    lifecycle.write_window_event(
        session, window.id, "opened", now=now, actor=actor,
        detail={"because": judged.reason, "jobs": window.job_count},
    )  # fmt: skip
    session.commit()
    return window


def _insert_items(
    session: Session, settings: Settings, window_id: int, queue_id: int, take: int, job_ids: Sequence[int] | None
) -> tuple[int, int]:
    """Lock the oldest queued jobs, in total order, and give each a place: (locked, placed).

    The selection is materialised: `IN (SELECT … LIMIT n FOR UPDATE SKIP LOCKED)` may run it more than once and
    take more than n. A window closes early at MAX_WINDOW_BYTES; what does not fit stays queued.
    """
    chosen = "AND id = ANY(:job_ids)" if job_ids is not None else ""
    row = session.execute(
        text(f"""
            WITH locked AS MATERIALIZED (
                SELECT id, attempt, queued_at FROM jobs
                WHERE queue_id = :queue_id AND status = 'queued' {chosen}
                ORDER BY queued_at, id LIMIT :take
                FOR UPDATE SKIP LOCKED
            ), sized AS (
                SELECT locked.id, locked.attempt,
                       sum(r.body_bytes + :line_overhead) OVER (ORDER BY locked.queued_at, locked.id) AS bytes_so_far
                FROM locked JOIN job_requests r ON r.job_id = locked.id
            ), placed AS (
                INSERT INTO batch_items (custom_id, window_id, job_id, attempt)
                SELECT 'w' || :window_id || '-j' || id || '-a' || attempt, :window_id, id, attempt
                FROM sized WHERE bytes_so_far <= :max_bytes
                RETURNING 1
            )
            SELECT (SELECT count(*) FROM locked) AS locked, (SELECT count(*) FROM placed) AS placed
        """),  # noqa: S608  (`chosen` is one of two constants)
        {"queue_id": queue_id, "take": take, "window_id": window_id, "line_overhead": LINE_OVERHEAD_BYTES,
         "max_bytes": settings.max_window_bytes, **({"job_ids": list(job_ids)} if job_ids is not None else {})},
    ).one()  # fmt: skip
    return row.locked, row.placed


def _is_waiting(queue_id: Any) -> tuple[Any, ...]:
    return (Job.queue_id == queue_id, Job.status == JobStatus.QUEUED)


def _waiting(queue_id: Any) -> Any:
    """The waiting jobs of a queue in the order of the claim (index ix_jobs_claim)."""
    return select().where(*_is_waiting(queue_id)).order_by(Job.queued_at, Job.id)


def _limits(session: Session, settings: Settings, profiles: Profiles, queue: Queue) -> tuple[int, int]:
    """(jobs in a full window, seconds that the oldest may wait): the profile's, else the settings'."""
    batch = profiles.live(session, queue.profile_id).batch
    return batch.max_batch_size or settings.max_batch_size, batch.max_wait_seconds or settings.max_wait_seconds


@dataclass(frozen=True)
class Depth:
    """How full a queue is. `queued` is counted no further than a full window: a million more do not matter."""

    queued: int
    size: int
    max_wait_seconds: int
    oldest_queued_at: datetime
    has_ridden: bool


def queue_depth(session: Session, settings: Settings, profiles: Profiles, queue: Queue) -> Depth:
    """How far this queue is from its next window."""
    size, wait = _limits(session, settings, profiles, queue)
    queued, oldest, has_ridden = _count(session, queue, size)
    return Depth(queued, size, wait, oldest or clock(session), has_ridden)


def _count(session: Session, queue: Queue, size: int) -> tuple[int, datetime | None, bool]:
    oldest = session.execute(_waiting(queue.id).add_columns(Job.queued_at, Job.has_ridden).limit(1)).one_or_none()
    some = select(Job.id).where(*_is_waiting(queue.id)).limit(size).subquery()
    queued = session.execute(select(func.count()).select_from(some)).scalar_one()
    return (queued, oldest.queued_at, oldest.has_ridden) if oldest else (queued, None, False)


def _state(
    queue: Queue, queued: int, size: int, wait: int, oldest: datetime | None, has_ridden: bool, now: datetime
) -> QueueState:
    """A job that has ridden keeps its place in the queue, so the oldest one tells whether there is any."""
    return QueueState(
        strategy=queue.strategy, queued=queued, size=size, max_wait_seconds=wait,
        oldest_age_seconds=(now - oldest).total_seconds() if oldest else None, has_ridden=has_ridden,
        is_held=queue.held_at is not None, not_before=queue.not_before,
    )  # fmt: skip


def _insufficient(session: Session, queue_id: int, needed: int, available: int) -> InsufficientJobs:
    session.rollback()
    return InsufficientJobs(
        f"Queue {queue_id} has {available} of the {needed} jobs that a window takes.",
        needed=needed, available=available,
    )  # fmt: skip
