"""Queues and the claim: jobs that wait, and the one transaction that takes them into a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
    text,
    true,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import InsufficientJobs, NotFound
from webapp.domain.policy import QueueState, Readiness, readiness
from webapp.domain.states import BatchStrategy, JobStatus
from webapp.models import BatchWindow, Job, JobRequest, Queue
from webapp.services import lifecycle
from webapp.services.clock import clock
from webapp.services.prepared import Ask, prepared
from webapp.services.registry import Profiles

QUEUE_LOCK = 7_302  # advisory lock class; the second key is the queue's id
MODEL_LOCK = 7_303  # … the hash of the model
_lock = prepared(
    text(  # the two keys are of 32 bits
        f"SELECT pg_advisory_xact_lock({QUEUE_LOCK}, CAST(CAST(:queue_id AS bigint) % 2147483647 AS integer))"
    )
)
BLOCKED = {
    "held": "This queue is held: it opens no window until it is resumed.",
    "not_before": "This queue pauses because the provider asked for it.",
    "no_room": "The provider's allowance of enqueued tokens is used up for now.",
}
MOST_QUEUED = 50_000  # jobs in a queue that pages count: no window takes more
LINE_OVERHEAD_BYTES = 200  # custom_id, method, url and punctuation of one JSONL line


@dataclass(frozen=True)
class QueueView:
    """One queue as the internal API and the admin page see it."""

    queue: Any  # the columns of a Queue
    state: QueueState
    oldest_age_seconds: float
    readiness: Readiness


def list_queues(
    session: Session, settings: Settings, profiles: Profiles, *, at_most: int | None = None, now: datetime | None = None
) -> list[QueueView]:
    """Every queue that has jobs waiting or is held, with the policy's judgement of it now.

    `queued` is counted up to `at_most`, which must not be less than a full window takes.
    """
    now = now or clock(session)
    rows = _waiting_in_all()(session, **_bounds(settings, now, at_most))
    enqueued = _enqueued_tokens(session, settings)
    views = []
    for row in rows:
        queue = row._replace(strategy=BatchStrategy(row.strategy))
        waiting = Waiting(*(getattr(row, field.name) for field in fields(Waiting)))
        size, wait = _limits(session, settings, profiles, queue)
        state = _state(settings, queue, size, wait, waiting, enqueued.get(queue.model, 0))
        age = (now - waiting.oldest_queued_at).total_seconds() if waiting.oldest_queued_at else 0.0
        views.append(QueueView(queue, state, age, readiness(state, now)))
    return views


def has_ready_queue(session: Session, settings: Settings, profiles: Profiles) -> bool:
    """May a window be opened now? Each queue is counted no further than a full window."""
    now = clock(session)
    waits = select(Job.id).where(*_is_waiting()).exists()
    queues = session.scalars(select(Queue).where(waits)).all()
    return any(readiness(queue_state(session, settings, profiles, queue, now), now).ready for queue in queues)


def queue_state(
    session: Session, settings: Settings, profiles: Profiles, queue: Queue, now: datetime, *, most: int | None = None
) -> QueueState:  # fmt: skip
    """What is known of this queue; `queued` is counted no further than a full window: a million more do not matter.
    `most` may lower the size of a full window."""
    size, wait = _limits(session, settings, profiles, queue)
    size = min(size, most or size)
    enqueued = _enqueued_tokens(session, settings, queue.model).get(queue.model, 0)
    [row] = _waiting_in_one()(session, queue_id=queue.id, **_bounds(settings, now, at_most=size)) or [Waiting()]
    return _state(settings, queue, size, wait, row, enqueued)


def open_window(
    session: Session, settings: Settings, profiles: Profiles, *,
    queue_id: int, max_batch_size: int | None = None, job_ids: Sequence[int] | None = None, flush: bool = False,
    actor: str,
) -> BatchWindow:  # fmt: skip
    """Claim a full window of queued jobs, all or nothing. Commits.

    The policy is judged here, under the queue's lock; `max_batch_size` may only lower the size of a window;
    with `job_ids` just these jobs are taken, all or none; `flush` takes what there is without the wait.
    Raises NotFound, or InsufficientJobs (with `needed`, `available` and the policy's `reason`): then nothing is
    changed.
    """
    queue = lock_queue(session, queue_id)
    if settings.max_enqueued_tokens:  # so do the openers of one model, which share its allowance
        session.execute(select(func.pg_advisory_xact_lock(MODEL_LOCK, func.hashtext(queue.model))))
    now = clock(session)
    state = queue_state(session, settings, profiles, queue, now, most=max_batch_size)
    judged = readiness(state, now, flush=flush)
    if job_ids is not None and judged.reason not in BLOCKED:
        chosen = len(set(job_ids))
        judged = Readiness(chosen <= state.size, chosen, "chosen")
    if not judged.ready:
        raise _insufficient(session, queue_id, state.size, state.queued, judged.reason)
    selection, values = _first_jobs(session, settings, queue, judged.take, job_ids, now)
    opened = lifecycle.open_window(
        session, selection, values, queue_id=queue_id, because=judged.reason, now=now, actor=actor
    )
    if opened.locked and not opened.jobs:
        raise _insufficient(session, queue_id, judged.take, opened.locked, "no_room")
    if opened.locked < judged.take or opened.jobs < (judged.take if job_ids is not None else 1):
        raise _insufficient(session, queue_id, judged.take, opened.locked, judged.reason)
    if opened.first_need_by:
        cut_off_at = settings.deadlines.cut_off(opened.first_need_by)
        session.execute(update(BatchWindow).where(BatchWindow.id == opened.window_id).values(cut_off_at=cut_off_at))
    session.commit()  # the next opener's turn
    return session.get_one(BatchWindow, opened.window_id)


def lock_queue(session: Session, queue_id: int) -> Queue:
    """Take one's turn at a queue until the commit: openers, and whoever holds it. Raises NotFound.

    With SKIP LOCKED alone two openers can each lock a part of the jobs and both give up.
    """
    _lock(session, queue_id=queue_id)
    queue = session.get(Queue, queue_id, populate_existing=True)
    if queue is None:
        raise NotFound(f"There is no queue {queue_id}.")
    return queue


def _first_jobs(
    session: Session, settings: Settings, queue: Queue, take: int, job_ids: Sequence[int] | None, now: datetime
) -> tuple[str, dict[str, Any]]:
    """What locks the first queued jobs, in total order, for `lifecycle.open_window`: a WITH list, and its values.

    The selection is materialised: `IN (SELECT … LIMIT n FOR UPDATE SKIP LOCKED)` may run it more than once and
    take more than n. A window closes early at MAX_WINDOW_BYTES and at MAX_ENQUEUED_TOKENS; what does not fit stays
    queued. With a deadline the most urgent come first, and none whose time for a batch is over.
    """
    by_deadline = queue.strategy is BatchStrategy.DEADLINE
    chosen = "AND id = ANY(:job_ids)" if job_ids is not None else ""
    in_time = "AND need_by > :past_last_ride" if by_deadline else ""
    order = "need_by, queued_at, id" if by_deadline else "queued_at, id"
    selection = f"""
        locked AS MATERIALIZED (
            SELECT id, attempt, need_by, row_number() OVER () AS place FROM (
                SELECT id, attempt, need_by FROM jobs
                WHERE queue_id = :queue_id AND status = 'queued' {chosen} {in_time}
                ORDER BY {order} LIMIT :take
                FOR UPDATE SKIP LOCKED
            ) AS first_jobs
        ), sized AS (
            SELECT locked.*, r.most_input_tokens AS tokens,
                   sum(r.body_bytes + :line_overhead) OVER so_far AS bytes_so_far,
                   sum(r.most_input_tokens) OVER so_far AS tokens_so_far
            FROM locked JOIN job_requests r ON r.job_id = locked.id
            WINDOW so_far AS (ORDER BY place)
        ), chosen AS MATERIALIZED (
            SELECT id, attempt, need_by, tokens FROM sized
            WHERE bytes_so_far <= :max_bytes
              AND (CAST(:most_tokens AS bigint) IS NULL OR :enqueued + tokens_so_far <= CAST(:most_tokens AS bigint)
                   -- one that is too large alone is for the provider to judge
                   OR (:enqueued = 0 AND place = 1))
        )
    """  # noqa: S608  (the parts that vary are constants)
    values = {
        "take": take, "line_overhead": LINE_OVERHEAD_BYTES, "max_bytes": settings.max_window_bytes,
        "most_tokens": settings.max_enqueued_tokens,
        "enqueued": _enqueued_tokens(session, settings, queue.model).get(queue.model, 0),
        **({"job_ids": list(job_ids)} if job_ids is not None else {}),
        **({"past_last_ride": settings.deadlines.past_last_ride(now)} if by_deadline else {}),
    }  # fmt: skip
    return selection, values


def _is_waiting() -> tuple[Any, ...]:
    return (Job.queue_id == Queue.id, Job.status == JobStatus.QUEUED)


@dataclass(frozen=True)
class Waiting:
    """The jobs that wait in one queue."""

    queued: int = 0
    oldest_queued_at: datetime | None = None
    has_ridden: bool = False  # the oldest has been in a window before
    tokens: int = 0  # of the job that is claimed first: the oldest, or with a deadline the most urgent


def _bounds(settings: Settings, now: datetime, at_most: int | None) -> dict[str, Any]:
    return {"past_last_ride": settings.deadlines.past_last_ride(now), "at_most": at_most}


@cache  # made once: an opener asks this under the queue's lock, and all others wait for it
def _waiting_in_one() -> Ask:
    """Of one queue the columns of `Waiting`."""
    columns = [_waiting().selected_columns[field.name] for field in fields(Waiting)]
    return prepared(_waiting().where(Queue.id == bindparam("queue_id")).with_only_columns(*columns))


@cache
def _waiting_in_all() -> Ask:
    """Each queue in which jobs wait, or that is held: its columns, and those of `Waiting`."""
    statement = _waiting()
    return prepared(statement.where(or_(statement.selected_columns.queued > 0, Queue.held_at.is_not(None))))


@cache
def _waiting() -> Select[Any]:
    """Each queue, and after it the columns of `Waiting`, within `_bounds`; `queued` is counted up to `at_most`.

    One row of each index is read: ix_jobs_claim, and ix_jobs_claim_by_deadline from the first job that may still ride;
    and they are counted in that index which knows all that is asked, without a look at the jobs.
    """
    by_deadline = Queue.strategy == BatchStrategy.DEADLINE
    may_ride = Job.need_by > bindparam("past_last_ride")  # as the claim says; the others run now, soon
    is_waiting = (*_is_waiting(), or_(~by_deadline, may_ride))
    some = [
        select(Job.id).where(*_is_waiting(), *conditions).limit(bindparam("at_most")).correlate(Queue).subquery()
        for conditions in ((~by_deadline,), (by_deadline, may_ride))
    ]
    counts = union_all(*(select(func.count().label("jobs")).select_from(one) for one in some)).subquery()
    counted = select(cast(func.sum(counts.c.jobs), BigInteger).label("queued")).correlate(Queue).lateral("counted")
    oldest = (
        select(Job.queued_at, Job.has_ridden, JobRequest.most_input_tokens)
        .join(JobRequest, JobRequest.job_id == Job.id)
        .where(*is_waiting)
        .order_by(Job.queued_at, Job.id)
        .limit(1)
        .correlate(Queue)
        .lateral("oldest")
    )
    urgent = (
        select(JobRequest.most_input_tokens)
        .join(Job, JobRequest.job_id == Job.id)
        .where(*_is_waiting(), by_deadline, may_ride)
        .order_by(Job.need_by, Job.queued_at, Job.id)
        .limit(1)
        .correlate(Queue)
        .lateral("urgent")
    )
    first = case((by_deadline, urgent.c.most_input_tokens), else_=oldest.c.most_input_tokens)
    return (
        select(
            Queue, counted.c.queued, oldest.c.queued_at.label("oldest_queued_at"),
            func.coalesce(oldest.c.has_ridden, False).label("has_ridden"), func.coalesce(first, 0).label("tokens"),
        )
        .select_from(Queue)
        .join(counted, true())
        .join(oldest, true(), isouter=True)
        .join(urgent, true(), isouter=True)
        .order_by(Queue.id)
    )  # fmt: skip


def _limits(session: Session, settings: Settings, profiles: Profiles, queue: Queue) -> tuple[int, int]:
    """(jobs in a full window, seconds that the oldest may wait): the profile's, else the settings'."""
    batch = profiles.live(session, queue.profile_id).batch
    return batch.max_batch_size or settings.max_batch_size, batch.max_wait_seconds or settings.max_wait_seconds


def _state(settings: Settings, queue: Queue, size: int, wait: int, waiting: Waiting, enqueued: int) -> QueueState:
    """A job that has ridden keeps its place in the queue, so the oldest one tells whether there is any."""
    most = settings.max_enqueued_tokens
    return QueueState(
        strategy=queue.strategy, queued=waiting.queued, size=size, max_wait_seconds=wait,
        oldest_queued_at=waiting.oldest_queued_at, has_ridden=waiting.has_ridden, is_held=queue.held_at is not None,
        not_before=queue.not_before, has_room=not most or not enqueued or enqueued + waiting.tokens <= most,
    )  # fmt: skip


def _enqueued_tokens(session: Session, settings: Settings, model: str | None = None) -> dict[str, int]:
    """{model: input tokens that its unfinished windows hold of the provider's allowance}; {} without a limit."""
    if not settings.max_enqueued_tokens:
        return {}
    statement = (
        select(Queue.model, func.sum(BatchWindow.enqueued_tokens))
        .join(Queue, Queue.id == BatchWindow.queue_id)
        .where(BatchWindow.finished_at.is_(None))
        .group_by(Queue.model)
    )
    if model is not None:
        statement = statement.where(Queue.model == model)
    return {name: int(tokens) for name, tokens in session.execute(statement)}


def _insufficient(session: Session, queue_id: int, needed: int, available: int, reason: str) -> InsufficientJobs:
    session.rollback()
    return InsufficientJobs(
        BLOCKED.get(reason) or f"Queue {queue_id} has {available} of the {needed} jobs that a window takes.",
        needed=needed, available=available, reason=reason,
    )  # fmt: skip
