"""THE only writer of states: jobs and windows move here, and nowhere else (a test reads the other modules).

Each move is one conditional UPDATE: it names the states it may come from and looks at what it changed.
The time stamp and the event row are written in the same transaction. The functions do not commit: the use
case that calls them does. `docs/lifecycle.md` tells the same as a story.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import DateTime, Text, and_, bindparam, case, func, insert, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from webapp.domain.states import (
    JOB_MOVES,
    TERMINAL_JOBS,
    TERMINAL_WINDOWS,
    WINDOW_MOVES,
    ExecutionMode,
    ItemOutcome,
    JobStatus,
    WindowStatus,
)
from webapp.models import BatchItem, BatchWindow, Job, JobEvent, JobRequest, WindowEvent
from webapp.services import webhook_outbox
from webapp.services.bulk import copy_rows, new_ids
from webapp.services.driver import cursor_of
from webapp.services.prepared import Ask, prepared

MAX_FREE_RETURNS = 10
NEW_JOB = ("user_id", "profile_id", "profile_version_id", "execution_mode", "batch_strategy", "queue_id", "inputs",
           "need_by", "retry_of", "submission_id")  # fmt: skip
NEW_REQUEST = ("endpoint", "model", "body", "body_bytes", "file_pages", "most_input_tokens", "max_output_tokens",
               "estimated_input_tokens", "estimated_output_tokens", "estimated_amount", "ceiling")  # fmt: skip
_FIRST_STATE = ("status", "created_at", "queued_at")
_STORED_JOB = (*_FIRST_STATE, *NEW_JOB)
_columns_of, _state_of = itemgetter(*NEW_JOB), itemgetter(*_FIRST_STATE)
_SUBMITTED = "submitted by the user"
_NEW_EVENT = ("at", "to_status", "actor", "reason", "attempt")


def _named(columns: Sequence[str]) -> str:
    return ", ".join(f"%({name})s" for name in columns)


_jobs: Any = Job.__table__
_job_events: Any = JobEvent.__table__


def first_state(mode: ExecutionMode, now: datetime) -> dict[str, Any]:
    """What a new job of this mode is in, by column."""
    status = JobStatus.CREATED if mode == ExecutionMode.SYNC else JobStatus.QUEUED
    return {"status": status, "created_at": now, "queued_at": now if status is JobStatus.QUEUED else None}


def insert_jobs(
    session: Session, rows: Sequence[Mapping[str, Any]], requests: Sequence[Sequence[Any]], *,
    now: datetime, actor: str,
) -> list[int]:  # fmt: skip
    """Store new jobs, each in the first state of its `execution_mode`; returns their ids in this order.

    `rows` have the columns that NEW_JOB names (`queue_id` goes with batch), and `requests` in the same order the
    values of NEW_REQUEST.
    """
    first = {mode: _state_of(first_state(mode, now)) for mode in ExecutionMode}
    stored = [(*first[row["execution_mode"]], *_columns_of(row)) for row in rows]
    events = [(now, status, actor, _SUBMITTED, 1) for status, *_ in stored]
    job_ids = new_ids(session, Job, len(rows))
    for table, key, columns, values in (
        (Job, "id", _STORED_JOB, stored),
        (JobEvent, "job_id", _NEW_EVENT, events),
        (JobRequest, "job_id", NEW_REQUEST, requests),
    ):
        copy_rows(session, table, (key, *columns), ((id_, *row) for id_, row in zip(job_ids, values, strict=True)))
    return job_ids


def insert_job(
    session: Session, row: Mapping[str, Any], request: Sequence[Any], *,
    now: datetime, actor: str, unless: str = "false",
) -> int | None:  # fmt: skip
    """`insert_jobs` for the one job that somebody waits for, in one statement. Returns its id; None when it stored
    nothing, because of a condition that holds: SQL, in which the row's columns have their names, as `%(user_id)s`.
    """
    first = first_state(row["execution_mode"], now)
    values = {**row, **first, **dict(zip(NEW_REQUEST, request, strict=True)), "actor": actor}
    with cursor_of(session) as cursor:
        stored = cursor.execute(_inserting(unless), values).fetchone()
    return stored[0] if stored else None


@lru_cache
def _inserting(unless: str) -> str:
    return f"""
        WITH job AS (
            INSERT INTO jobs ({", ".join(_STORED_JOB)})
            SELECT {_named(_STORED_JOB)} WHERE NOT {unless}
            RETURNING id, created_at, status
        ), told AS (
            INSERT INTO job_events (job_id, at, to_status, actor, reason, attempt)
            SELECT id, created_at, status, %(actor)s, '{_SUBMITTED}', 1 FROM job
        ), asked AS (
            INSERT INTO job_requests (job_id, {", ".join(NEW_REQUEST)})
            SELECT id, {_named(NEW_REQUEST)} FROM job
        )
        SELECT id FROM job
    """  # noqa: S608  (our own names)


def insert_repeats(session: Session, job_ids: Sequence[int], *, now: datetime, actor: str) -> list[int]:
    """Store a new job in its first state for each of these; returns the new ids, in order of the old ones.

    What belongs to a job in other tables is the caller's to copy.
    """
    return list(
        session.scalars(
            text("""
                WITH made AS (
                    INSERT INTO jobs (user_id, profile_id, profile_version_id, execution_mode, batch_strategy, queue_id,
                                      inputs, need_by, retry_of, created_at, status, queued_at)
                    SELECT user_id, profile_id, profile_version_id, execution_mode, batch_strategy, queue_id, inputs,
                           need_by, id, :now, CASE execution_mode WHEN 'sync' THEN 'created' ELSE 'queued' END,
                           CASE execution_mode WHEN 'sync' THEN NULL ELSE CAST(:now AS timestamptz) END
                    FROM jobs WHERE id = ANY(CAST(:job_ids AS bigint[])) ORDER BY id
                    RETURNING id, retry_of, status
                ), told AS (
                    INSERT INTO job_events (job_id, at, to_status, actor, reason, attempt)
                    SELECT id, :now, status, :actor, 'job ' || retry_of || ' is repeated', 1 FROM made ORDER BY id
                )
                SELECT id FROM made ORDER BY retry_of
            """),
            {"job_ids": list(job_ids), "now": now, "actor": actor},
        )
    )  # fmt: skip


def move_job(
    session: Session, job_id: int, target: JobStatus, *,
    now: datetime, actor: str, reason: str, sources: Sequence[JobStatus] | None = None, attempt: int | None = None,
    values: Mapping[str, Any] | None = None, detail: Any = None,
) -> JobStatus | None:  # fmt: skip
    """Move one job, if it is in one of `sources` (default: every state that may move there), and in this `attempt`.

    `values` are further columns. Returns the state it came from; None when nothing was changed, which the caller
    explains.
    """
    values = values or {}
    move = _move(target, tuple(sources or JOB_MOVES[target]), tuple(values), attempt is not None)
    new = {f"new_{name}": value for name, value in values.items()}
    found = move(
        session, job_id=job_id, of_attempt=attempt, now=now, actor=actor, reason=reason, detail=detail, **new
    )  # fmt: skip
    if not found:
        return None
    if target in TERMINAL_JOBS:
        webhook_outbox.tell_of_jobs(session, [job_id], target, now=now)
    return JobStatus(found[0].status)


@lru_cache
def _move(target: JobStatus, sources: Sequence[JobStatus], columns: Sequence[str], is_of_attempt: bool) -> Ask:
    """The statement of such a move, with its event."""
    now: Any = bindparam("now", type_=DateTime(timezone=True))
    before = _locked(select(Job.id, Job.status).where(Job.id == bindparam("job_id")))
    is_meant = [_jobs.c.id == before.c.id, or_(*(before.c.status == source for source in sources))]
    if is_of_attempt:
        is_meant.append(_jobs.c.attempt == bindparam("of_attempt"))
    new = {name: bindparam(f"new_{name}", type_=_jobs.c[name].type) for name in columns}
    moved = (
        update(_jobs).where(*is_meant).values(status=target, **_job_stamps(target, now), **new)
        .returning(_jobs.c.id, before.c.status, _jobs.c.attempt)
        .cte("moved")
    )  # fmt: skip
    event = {
        "job_id": moved.c.id, "at": now, "from_status": moved.c.status, "to_status": literal(str(target)),
        "actor": bindparam("actor", type_=Text), "reason": bindparam("reason", type_=Text),
        "attempt": moved.c.attempt, "detail": bindparam("detail", type_=JSONB),
    }  # fmt: skip
    told = insert(_job_events).from_select(list(event), select(*event.values())).cte("told")
    return prepared(select(moved.c.status).add_cte(told))


def open_window(
    session: Session,
    selection: str,
    values: Mapping[str, Any],
    *,
    queue_id: int,
    because: str,
    now: datetime,
    actor: str,
) -> Any:
    """Open a window of chosen jobs and claim them, in one statement; the event is the window's.

    `selection` is a WITH list in which `locked` has queued jobs, locked, and `chosen` those of them that fit into the
    window: (id, attempt, need_by, tokens). Returns (window_id, locked, jobs, first_need_by); without a job there is no
    window.
    """
    [opened] = _opening(selection)(session, **values, queue_id=queue_id, because=because, now=now, actor=actor)
    return opened


@lru_cache
def _opening(selection: str) -> Ask:
    statement = f"""
        WITH {selection}, opened AS (
            INSERT INTO batch_windows
                (queue_id, status, job_count, enqueued_tokens, opened_because, opened_at, due_at)
            SELECT :queue_id, 'open', count(*), sum(tokens), :because, :now, :now FROM chosen HAVING count(*) > 0
            RETURNING id, job_count
        ), told AS (
            INSERT INTO window_events (window_id, at, event, actor, detail)
            SELECT id, :now, 'opened', :actor,
                   jsonb_build_object('because', CAST(:because AS text), 'jobs', job_count)
            FROM opened
        ), placed AS (
            INSERT INTO batch_items (custom_id, window_id, job_id, attempt)
            SELECT 'w' || opened.id || '-j' || chosen.id || '-a' || attempt, opened.id, chosen.id, attempt
            FROM chosen, opened
        ), claimed AS (
            UPDATE jobs SET status = 'claimed', claimed_at = :now FROM chosen WHERE jobs.id = chosen.id
        )
        SELECT (SELECT id FROM opened) AS window_id, (SELECT count(*) FROM locked) AS locked, count(*) AS jobs,
               min(need_by) AS first_need_by
        FROM chosen
    """  # noqa: S608  (the caller's own words)
    return prepared(text(statement))


def submit_window_jobs(session: Session, window_id: int, *, now: datetime) -> None:
    """All jobs of a window are at the provider; the event is the window's.

    A job that left the window for its deadline has an open item there, too: it is not meant.
    """
    target = JobStatus.PROCESSING
    rides = and_(BatchItem.window_id == window_id, BatchItem.outcome.is_(None), BatchItem.attempt == Job.attempt)
    before = _locked(
        select(Job.id)
        .join(BatchItem, BatchItem.job_id == Job.id)
        .where(rides, Job.execution_mode == ExecutionMode.BATCH)
        .order_by(Job.id),
        of=Job,
    )
    session.execute(
        update(Job)
        .where(Job.id == before.c.id, Job.status.in_(JOB_MOVES[target]))
        .values(status=target, **_job_stamps(target, now))
        .execution_options(synchronize_session=False)
    )  # fmt: skip


def finish_jobs(
    session: Session, job_ids: Sequence[int], target: JobStatus, *, now: datetime, actor: str, reason: str,
    conditions: Sequence[Any] = (), values: dict[str, Any] | None = None,
) -> list[int]:  # fmt: skip
    """End many jobs at once, each if its state allows. Returns the ids that moved."""
    if not job_ids:
        return []
    before = _locked(select(Job.id, Job.status).where(Job.id == func.any(list(job_ids))).order_by(Job.id))
    moved = session.execute(
        update(Job)
        .where(Job.id == before.c.id, before.c.status.in_(JOB_MOVES[target]), *conditions)
        .values(status=target, **_job_stamps(target, now), **(values or {}))
        .returning(Job.id, before.c.status, Job.attempt)
        .execution_options(synchronize_session=False)
    ).all()
    _write_events(session, moved, target, now, actor, reason)
    return [row.id for row in moved]


def return_jobs(session: Session, job_ids: Sequence[int], *, now: datetime, counter: str | None) -> None:
    """Send jobs of an ended window back to their queue, where a job that has ridden counts as overdue.

    `counter` is what this costs them: `attempt`, `free_returns`, or nothing. The event is the window's.
    """
    if not job_ids:
        return
    counted = {counter: getattr(Job, counter) + 1} if counter else {}
    before = _locked(select(Job.id).where(Job.id == func.any(list(job_ids))).order_by(Job.id))
    session.execute(
        update(Job)
        .where(Job.id == before.c.id, Job.status.in_(JOB_MOVES[JobStatus.QUEUED]))
        .values(status=JobStatus.QUEUED, has_ridden=True, **_job_stamps(JobStatus.QUEUED, now), **counted)
        .execution_options(synchronize_session=False)
    )


def return_unrun_jobs(
    session: Session, window_id: int, jobs: Sequence[Any], *, now: datetime, is_blameless: bool, why: str | None = None
) -> None:
    """Send back jobs (rows of `unsettled_jobs`) that the provider never ran: no attempt is used, but not for ever.

    `is_blameless`: the window was cancelled by us, or the provider had no room for it, which says nothing against its
    jobs. `why` is the provider's word for its end, for the people whose jobs end here.
    """
    if is_blameless:
        return_jobs(session, [job.job_id for job in jobs], now=now, counter=None)
        return
    worn_out = [job.job_id for job in jobs if job.free_returns + 1 >= MAX_FREE_RETURNS]
    rest = [job.job_id for job in jobs if job.free_returns + 1 < MAX_FREE_RETURNS]
    return_jobs(session, rest, now=now, counter="free_returns")
    message = f"Its windows ended {MAX_FREE_RETURNS} times before the provider ran it."
    if why:
        message += f" The last time: {why}"
    finish_jobs(
        session, worn_out, JobStatus.FAILED, now=now, actor=f"window:{window_id}", reason=message,
        values={"failure_code": "returned_too_often", "failure_message": message},
    )  # fmt: skip


def cancel_unrun_jobs(session: Session, window_id: int, jobs: Sequence[Any], *, now: datetime) -> None:
    """Cancel the jobs (rows of `unsettled_jobs`) of a window that was cancelled together with them."""
    job_ids = [job.job_id for job in jobs]
    return_jobs(session, job_ids, now=now, counter=None)  # only a job that waits may be cancelled
    finish_jobs(
        session, job_ids, JobStatus.CANCELLED, now=now, actor=f"window:{window_id}", reason="cancelled with its window"
    )


def move_jobs_to_sync(session: Session, job_ids: Sequence[int], *, now: datetime, actor: str, reason: str) -> list[int]:
    """Take jobs out of the batch: they run now. Returns the ids that moved.

    A job that is in a window leaves its item behind, open, and goes on with the next attempt: what the window
    still brings answers an earlier one.
    """
    if not job_ids:
        return []
    before = _locked(select(Job.id, Job.status).where(Job.id == func.any(list(job_ids))).order_by(Job.id))
    rides = before.c.status.in_([JobStatus.CLAIMED, JobStatus.PROCESSING])
    moved = session.execute(
        update(Job)
        .where(
            Job.id == before.c.id, before.c.status.in_(JOB_MOVES[JobStatus.CREATED]),
            Job.execution_mode == ExecutionMode.BATCH,
        )
        .values(
            status=JobStatus.CREATED, **_job_stamps(JobStatus.CREATED, now), execution_mode=ExecutionMode.SYNC,
            queue_id=None, queued_at=None, claimed_at=None, first_started_at=None, not_before=None,
            attempt=case((rides, Job.attempt + 1), else_=Job.attempt),
        )
        .returning(Job.id, before.c.status, Job.attempt)
        .execution_options(synchronize_session=False)
    ).all()  # fmt: skip
    _write_events(session, moved, JobStatus.CREATED, now, actor, reason)
    return [row.id for row in moved]


def unsettled_jobs(session: Session, window_id: int) -> Sequence[Any]:
    """The jobs of a window that its answers did not end: (job_id, attempt, free_returns, outcome, error …).

    Locked, so that nobody else moves them before the settling commit.
    """
    return session.execute(
        select(
            Job.id.label("job_id"), Job.attempt, Job.free_returns, BatchItem.outcome, BatchItem.error_code,
            BatchItem.error_message,
        )
        .join(BatchItem, and_(BatchItem.job_id == Job.id, BatchItem.window_id == window_id))
        .where(Job.status.in_([JobStatus.PROCESSING, JobStatus.CLAIMED]), BatchItem.attempt == Job.attempt)
        .order_by(Job.id)
        .with_for_update(of=Job)
    ).all()  # fmt: skip


def close_open_items(session: Session, window_id: int, outcome: ItemOutcome) -> None:
    """Give every item that is still open this outcome."""
    session.execute(
        update(BatchItem)
        .where(BatchItem.window_id == window_id, BatchItem.outcome.is_(None))
        .values(outcome=outcome)
        .execution_options(synchronize_session=False)
    )


def move_window(
    session: Session, window_id: int, target: WindowStatus, *,
    now: datetime, actor: str, event: str, values: dict[str, Any] | None = None, detail: Any = None,
) -> WindowStatus | None:  # fmt: skip
    """Move one window, if its state allows. Returns the state it came from, None when nothing was changed."""
    before = _locked(select(BatchWindow.id, BatchWindow.status).where(BatchWindow.id == window_id))
    stamps: dict[str, Any] = {}
    if target is WindowStatus.SUBMITTED:
        stamps["submitted_at"] = now
    if target in TERMINAL_WINDOWS:
        stamps |= {"finished_at": now, "lease_token": None, "lease_step": None, "lease_until": None}
    moved = session.execute(
        update(BatchWindow)
        .where(BatchWindow.id == before.c.id, before.c.status.in_(WINDOW_MOVES[target]))
        .values(status=target, **stamps, **(values or {}))
        .returning(before.c.status)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if moved is None:
        return None
    write_window_event(session, window_id, event, now=now, actor=actor, detail=detail)
    return WindowStatus(moved.status)


def write_window_event(
    session: Session, window_id: int, event: str, *, now: datetime, actor: str, detail: Any = None
) -> None:
    session.execute(insert(WindowEvent).values(window_id=window_id, at=now, event=event, actor=actor, detail=detail))


def _locked(statement: Any, of: Any = None) -> Any:
    """Lock the rows first and keep their old state: UPDATE alone cannot return what it replaced (before PostgreSQL
    18), and takes its locks in no order."""
    return statement.with_for_update(of=of).cte("before")


def _job_stamps(target: JobStatus, now: Any) -> dict[str, Any]:
    released = {"execution_id": None, "lease_until": None, "started_at": None}
    if target in TERMINAL_JOBS:
        return {"finished_at": now, "lease_until": None}
    match target:
        case JobStatus.PROCESSING:
            return {"started_at": now, "first_started_at": func.coalesce(Job.first_started_at, now)}
        case JobStatus.QUEUED:
            return {**released, "claimed_at": None}
    return {**released, "dispatched_at": None}


def _write_events(
    session: Session, moved: Sequence[Any], target: JobStatus, now: datetime, actor: str, reason: str
) -> None:  # fmt: skip
    """One row for each (job id, from, attempt); ends are told to those who listen."""
    if not moved:
        return
    if target in TERMINAL_JOBS:
        webhook_outbox.tell_of_jobs(session, [job_id for job_id, *_ in moved], target, now=now)
    columns = ("job_id", "at", "from_status", "to_status", "actor", "reason", "attempt")
    copy_rows(session, JobEvent, columns, (
        (job_id, now, source, target, actor, reason, attempt) for job_id, source, attempt in moved
    ))  # fmt: skip
