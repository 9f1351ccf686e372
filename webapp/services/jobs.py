"""Create, find, list and cancel jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any, BinaryIO

from sqlalchemy import Select, and_, func, insert, or_, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session, joinedload

from webapp.config import Settings
from webapp.domain.errors import InvalidInput, InvalidMove, NotFound, SluiceError
from webapp.domain.pricing import PriceList
from webapp.domain.states import BatchStrategy, ExecutionMode, JobStatus
from webapp.gateways.storage import Storage
from webapp.models import Document, Job, JobDocument, JobRequest, Person, Queue, User
from webapp.services import budgets, lifecycle
from webapp.services.bulk import copy_rows, read_ahead
from webapp.services.clock import clock
from webapp.services.driver import alone
from webapp.services.estimates import Quote, quoted_chunks, recent_calibration
from webapp.services.registry import Profiles, stored_version
from webapp.services.runs import Run

PAGE_SIZE = 30
CANCELLED_AT_ONCE = 5000
REPEATABLE = (JobStatus.FAILED, JobStatus.EXPIRED, JobStatus.CANCELLED)


def create_jobs(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, *,
    user: Person, profile_id: str, runs: Iterable[Mapping[str, Any]], retry_of: int | None = None,
    then: Callable[[list[int]], None] | None = None,
) -> list[int]:  # fmt: skip
    """Store runs of a profile, all or none; returns the jobs' ids. Commits, and before that gives `then` the ids,
    for rows that must not be there without these jobs. Rolls back and raises what `store_jobs` raises.
    """
    with _undone_when_refused(session):
        job_ids = store_jobs(
            session, settings, profiles, prices, user=user, profile_id=profile_id, runs=runs, retry_of=retry_of
        )
        if then:
            then(job_ids)
    session.commit()
    return job_ids


def create_job(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, *,
    user: Person, profile_id: str, values: Mapping[str, Any], then: Callable[[int], None] | None = None,
    now: datetime | None = None,
) -> Any:  # fmt: skip
    """Like `create_jobs`, for one run; returns the columns of a Job as they were stored: to read it again would take
    as long as to store it. `now` is the moment of this use case, if the caller knows it.
    """
    now = now or clock(session)
    with _undone_when_refused(session):
        [chunk] = _chunks(session, settings, profiles, prices, user=user, profile_id=profile_id, runs=[values], now=now)
        job_id = None if then or chunk.documents else _store_whole(session, chunk, now=now)
        if job_id is None:
            [job_id] = _store(session, chunk, now=now)
            budgets.reserve(session, [budgets.Wanted(user.id, profile_id, chunk.ceilings)], now)
            if then:
                then(job_id)
            session.commit()
    [row] = chunk.rows
    first = lifecycle.first_state(row["execution_mode"], now)
    return SimpleNamespace(id=job_id, attempt=1, finished_at=None, failure_message=None, **row, **first)


@contextmanager
def _undone_when_refused(session: Session) -> Iterator[None]:
    try:
        yield
    except SluiceError:
        session.rollback()  # a caller that catches the refusal and commits must not store half of it
        raise


def store_jobs(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, *,
    user: Person, profile_id: str, runs: Iterable[Mapping[str, Any] | InvalidInput], retry_of: int | None = None,
    submission_id: int | None = None,
) -> list[int]:  # fmt: skip
    """Store runs of a profile; returns the jobs' ids. They wait as `created` (sync) or `queued` (batch).

    `runs` are the values of each, by field key; a document is named by its id. They may come from a stream: a chunk
    of them is in memory at a time. Does not commit; after an error the caller has to roll back.
    Raises UnknownProfile, PlannedProfile, OverBudget, or InvalidRows with a message per run and field.
    """
    now, job_ids, ceilings = clock(session), list[int](), list[Decimal | None]()
    for chunk in _chunks(
        session, settings, profiles, prices, user=user, profile_id=profile_id, runs=runs, retry_of=retry_of,
        submission_id=submission_id, now=now,
    ):  # fmt: skip
        job_ids += _store(session, chunk, now=now)
        ceilings += chunk.ceilings
    budgets.reserve(session, [budgets.Wanted(user.id, profile_id, ceilings)], now)
    return job_ids


@dataclass(frozen=True)
class _Chunk:
    """Runs of one user, ready to be stored: for each what `lifecycle.insert_jobs` takes, and its ceiling."""

    rows: list[dict[str, Any]]
    requests: list[tuple[Any, ...]]
    documents: list[tuple[int, int]]  # (place of the run, id of a document)
    ceilings: list[Decimal | None]


def _chunks(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, *,
    user: Person, profile_id: str, runs: Iterable[Mapping[str, Any] | InvalidInput], now: datetime,
    retry_of: int | None = None, submission_id: int | None = None,
) -> Iterator[_Chunk]:  # fmt: skip
    """Check, render and quote runs, some at a time. Raises what `store_jobs` raises, but for OverBudget."""
    profile = profiles.runnable(profile_id)
    calibration = recent_calibration(session, profiles, profile.id)
    constant = {
        "user_id": user.id, "profile_id": profile.id, "profile_version_id": stored_version(session, profiles, profile),
        "retry_of": retry_of, "submission_id": submission_id,
    }  # fmt: skip
    queue_of = lru_cache(partial(_queue_id, session, profiles, profile.id))
    quoted = quoted_chunks(session, settings, prices, profile, runs, user, calibration, now)
    if submission_id and not profile.document_fields:  # documents are looked up: the session serves one thread
        quoted = read_ahead(quoted)
    for chunk in quoted:
        yield _Chunk(
            [constant | _row(run, queue_of) for run, _ in chunk],
            [_request(run, quote) for run, quote in chunk],
            [(place, one.id) for place, (run, _) in enumerate(chunk) for one in run.documents],
            [quote.own.ceiling for _, quote in chunk],
        )


def _row(run: Run, queue_of: Callable[[str, str, BatchStrategy], int]) -> dict[str, Any]:
    is_batch = run.mode is ExecutionMode.BATCH
    return {
        "execution_mode": run.mode, "inputs": run.inputs, "batch_strategy": run.strategy if is_batch else None,
        "need_by": run.need_by, "queue_id": queue_of(run.endpoint, run.model, run.strategy) if is_batch else None,
    }  # fmt: skip


def _request(run: Run, quote: Quote) -> tuple[Any, ...]:
    """The values of `lifecycle.NEW_REQUEST`."""
    return (
        run.endpoint, run.model, run.body, run.size.body_bytes, run.size.file_pages, run.size.most_input_tokens,
        run.size.max_output_tokens, quote.estimate.input_tokens, quote.estimate.output_tokens, quote.own.likely,
        quote.own.ceiling,
    )  # fmt: skip


@dataclass(frozen=True)
class Repeated:
    new_ids: list[int]  # in order of the jobs that they repeat
    left_out: dict[int, str]  # {job id: what keeps it from being repeated}


def retry_jobs(session: Session, job_ids: Sequence[int], *, actor: str) -> Repeated:
    """Make a new job from each of these that can be repeated, of the same user, version, inputs and request.

    Does not commit. The caller has locked the jobs. Raises OverBudget when they do not all fit into their budgets.
    """
    now = clock(session)
    left_out = why_not_repeatable(session, job_ids, now)
    repeated = [job_id for job_id in job_ids if job_id not in left_out]
    rows = session.execute(
        select(Job.user_id, Job.profile_id, func.array_agg(JobRequest.ceiling))
        .join(JobRequest, JobRequest.job_id == Job.id)
        .where(Job.id == func.any(repeated))
        .group_by(Job.user_id, Job.profile_id)
    )
    wanted = [budgets.Wanted(*row) for row in rows]
    with session.begin_nested():
        new_ids = lifecycle.insert_repeats(session, repeated, now=now, actor=actor)
        for table in (JobRequest, JobDocument):
            _copy_rows(session, table, new_ids)
        budgets.reserve(session, wanted, now)
    return Repeated(new_ids, left_out)


def why_not_repeatable(session: Session, job_ids: Sequence[int], now: datetime) -> dict[int, str]:
    """{job id: what keeps it from being repeated}, for the person who wants that; the others can be.

    What was needed by a time that has passed would run at once, at the full price: nobody who presses "repeat" asks
    for that. Retention leaves the documents of these jobs alone until the commit.
    """
    is_file = (JobDocument.document_id == Document.id, Document.provider_file_id.is_not(None))
    session.execute(
        select(Document.id)
        .join(JobDocument, and_(*is_file, JobDocument.job_id == func.any(list(job_ids))))
        .order_by(Document.id)
        .with_for_update(read=True, of=Document)
    )
    gone = (
        select(func.min(Document.filename))
        .join(JobDocument, and_(*is_file, JobDocument.job_id == Job.id, Document.deleted_at.is_not(None)))
        .correlate(Job)
        .scalar_subquery()
    )
    is_deleted = JobRequest.body.is_(None)
    is_late = and_(Job.execution_mode == ExecutionMode.BATCH, func.coalesce(Job.need_by <= now, False))
    rows = session.execute(
        select(Job.id, Job.status, is_deleted.label("is_deleted"), gone.label("gone"), is_late.label("is_late"))
        .join(JobRequest, JobRequest.job_id == Job.id)
        .where(
            Job.id == func.any(list(job_ids)),
            or_(Job.status.not_in(REPEATABLE), is_deleted, is_late, gone.is_not(None)),
        )
        .order_by(Job.id)
    )
    return {row.id: _obstacle(row) for row in rows}


def _obstacle(job: Any) -> str:
    if job.status not in REPEATABLE:
        return f"Job {job.id} is {job.status}; only a job that ended without an answer can be repeated."
    if job.is_deleted:
        return f"The request of job {job.id} was deleted after its time: start a new run instead."
    if job.gone:
        return f"Job {job.id} needs {job.gone}, which was deleted: start a new run instead."
    return f"The time by which job {job.id} was needed has passed: start a new run instead."


def _copy_rows(session: Session, table: type[JobRequest | JobDocument], new_ids: Sequence[int]) -> None:
    """Give these jobs what the jobs that they repeat have in this table."""
    kept = [column for column in table.__table__.columns if column.name != "job_id"]
    rows = (
        select(Job.id, *kept)
        .join(table, table.job_id == Job.retry_of)
        .where(Job.id == func.any(list(new_ids)))
    )  # fmt: skip
    session.execute(insert(table).from_select(["job_id", *(column.name for column in kept)], rows))


def cancel_job(session: Session, job: Job, *, actor: str) -> None:
    """Withdraw a job that nobody has started. Commits. Raises InvalidMove once it is under way or has ended."""
    now = clock(session)
    if not lifecycle.move_job(session, job.id, JobStatus.CANCELLED, now=now, actor=actor, reason="cancelled"):
        session.refresh(job)
        raise InvalidMove(f"This job is {job.status} and cannot be cancelled any more.")
    session.commit()


def cancel_jobs(session: Session, job_ids: Sequence[int], *, actor: str) -> list[int]:
    """Withdraw those of these jobs (oldest first) that nobody has started; returns their ids. Does not commit."""
    now, cancelled = clock(session), []
    for first in range(0, len(job_ids), CANCELLED_AT_ONCE):
        cancelled += lifecycle.finish_jobs(
            session, job_ids[first : first + CANCELLED_AT_ONCE], JobStatus.CANCELLED, now=now, actor=actor,
            reason="cancelled",
        )  # fmt: skip
    return cancelled


def get_job(session: Session, job_id: int, *, user_id: int | None) -> Job:
    """One job with its result; `user_id` None means any user's. Raises NotFound."""
    statement = select(Job).where(Job.id == job_id).options(joinedload(Job.result))
    if user_id is not None:
        statement = statement.where(Job.user_id == user_id)
    job = session.scalars(statement).one_or_none()
    if job is None:
        raise NotFound
    return job


def repeats_of(session: Session, job_id: int, most: int = 5) -> list[int]:
    """The newest jobs that repeat this one."""
    return list(session.scalars(select(Job.id).where(Job.retry_of == job_id).order_by(Job.id.desc()).limit(most)))


def list_jobs(session: Session, *, before: int | None = None, size: int = PAGE_SIZE) -> tuple[list[Any], int | None]:
    """The newest jobs of all users (what a line shows, no inputs), and the `before` of the next page, if any."""
    statement = select(
        Job.id, Job.status, Job.profile_id, Job.execution_mode, Job.created_at, Job.finished_at, User.email
    ).join(User, User.id == Job.user_id)
    if before is not None:
        statement = statement.where(Job.id < before)
    found = list(session.execute(statement.order_by(Job.id.desc()).limit(size + 1)))
    return found[:size], found[size - 1].id if len(found) > size else None


def _store(session: Session, chunk: _Chunk, *, now: datetime) -> list[int]:
    """Store what belongs to these runs: jobs, events, requests, documents. Returns the jobs' ids."""
    actor = f"user:{chunk.rows[0]['user_id']}"
    if len(chunk.rows) == 1:  # somebody waits
        job_id = lifecycle.insert_job(session, chunk.rows[0], chunk.requests[0], now=now, actor=actor)
        assert job_id
        job_ids = [job_id]
    else:
        job_ids = lifecycle.insert_jobs(session, chunk.rows, chunk.requests, now=now, actor=actor)
    if chunk.documents:
        copy_rows(
            session, JobDocument, ("job_id", "document_id"), [(job_ids[place], id_) for place, id_ in chunk.documents]
        )
    return job_ids


def _store_whole(session: Session, chunk: _Chunk, *, now: datetime) -> int | None:
    """Store a job that nothing else is stored with and no budget limits, in one statement that is the transaction.

    Returns its id; None when there is a budget, and nothing was stored.
    """
    [row], [request] = chunk.rows, chunk.requests
    with alone(session) as is_alone:
        job_id = lifecycle.insert_job(
            session, row, request, now=now, actor=f"user:{row['user_id']}", unless=budgets.LIMITS_JOB
        )
    if not is_alone:  # what a first job of its kind stored: its version, its queue
        session.commit()
    return job_id


def _queue_id(
    session: Session, profiles: Profiles, profile_id: str, endpoint: str, model: str, strategy: BatchStrategy
) -> int:
    key = {"profile_id": profile_id, "endpoint": endpoint, "model": model, "strategy": strategy}

    def find() -> Select[int]:
        return select(Queue.id).filter_by(**key)

    if (queue_id := profiles.place(f"queue of {key}", session, find)) is not None:
        return queue_id
    session.execute(pg_insert(Queue).values(**key).on_conflict_do_nothing())
    return session.execute(find()).scalar_one()


def open_document(session: Session, storage: Storage, job_id: int) -> tuple[Document, BinaryIO]:
    """The job's (first) document and its bytes; the caller closes the stream. Raises NotFound."""
    document = session.scalars(
        select(Document)
        .join(JobDocument, JobDocument.document_id == Document.id)
        .where(JobDocument.job_id == job_id, Document.deleted_at.is_(None))
        .order_by(Document.id)
        .limit(1)
    ).one_or_none()
    if document is None:
        raise NotFound("This job has no document, or it was deleted.")
    try:
        return document, storage.open(document.storage_key)
    except FileNotFoundError:
        raise NotFound("This document's bytes are not in the blob store any more.") from None
