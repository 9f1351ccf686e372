"""Create, find, list and cancel jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import Session, joinedload

from webapp.config import Settings
from webapp.domain.errors import InvalidInput, InvalidMove, NotFound
from webapp.domain.profiles import BATCH_STRATEGY, EXECUTION_MODE, NEED_BY, Profile
from webapp.domain.rendering import most_input_tokens, render, to_json
from webapp.domain.states import BatchStrategy, ExecutionMode, JobStatus
from webapp.gateways.storage import Storage
from webapp.models import Document, Job, JobDocument, JobRequest, Queue, User
from webapp.services import lifecycle
from webapp.services.clock import clock
from webapp.services.documents import documents_of
from webapp.services.registry import Profiles, store_version

PAGE_SIZE = 30
MOST_AHEAD = timedelta(days=366)


@dataclass(frozen=True)
class Run:
    """One run, checked and rendered, ready to be stored."""

    mode: ExecutionMode
    strategy: BatchStrategy
    inputs: dict[str, Any]
    document_ids: set[int]
    file_pages: int  # pages of documents that are sent as files
    endpoint: str
    model: str
    need_by: datetime | None  # strategy deadline
    body: str  # JSON text of the provider request: what is sent in either mode


def create_jobs(
    session: Session, settings: Settings, profiles: Profiles, *,
    user: User, profile_id: str, runs: Sequence[Mapping[str, Any]], retry_of: int | None = None,
) -> list[int]:  # fmt: skip
    """Store runs of a profile, all or none; returns the jobs' ids. They wait as `created` (sync) or `queued` (batch).

    `runs` are the values of each, by field key; a document is named by its id. Commits.
    Raises UnknownProfile, PlannedProfile, or InvalidInput with a message per field.
    """
    profile = profiles.runnable(profile_id)
    now = clock(session)
    prepared = [_prepare(session, settings, profile, values, user, now) for values in runs]
    version_id = store_version(session, profile)
    job_ids = [_store(session, profile, version_id, run, user, retry_of, now) for run in prepared]
    session.commit()
    return job_ids


def retry_jobs(session: Session, jobs: Sequence[Job], *, actor: str) -> list[int]:
    """Make a new job from each of these, of the same version, inputs and request; returns the new ids, in order.

    They belong to the same users. Does not commit. Raises InvalidMove when one cannot be repeated.
    """
    now = clock(session)
    return [_retry(session, job, now, actor) for job in jobs]


def why_not_repeatable(session: Session, job: Job) -> str | None:
    """What keeps this job from being repeated, for the person who wants that; None if nothing does."""
    if job.status not in (JobStatus.FAILED, JobStatus.EXPIRED, JobStatus.CANCELLED):
        return f"Job {job.id} is {job.status}; only a job that ended without an answer can be repeated."
    if session.get_one(JobRequest, job.id).body is None:
        return f"The request of job {job.id} was deleted after its time: start a new run instead."
    if names := [d.filename for d in job.documents if d.provider_file_id and d.deleted_at]:
        return f"Job {job.id} needs {names[0]}, which was deleted: start a new run instead."
    return None


def _retry(session: Session, job: Job, now: datetime, actor: str) -> int:
    if obstacle := why_not_repeatable(session, job):
        raise InvalidMove(obstacle)
    request = session.get_one(JobRequest, job.id)
    columns = ("user_id", "profile_id", "profile_version_id", "execution_mode", "batch_strategy", "queue_id", "inputs",
               "need_by")  # fmt: skip
    row = {column: getattr(job, column) for column in columns} | {"retry_of": job.id}
    status = JobStatus.CREATED if job.execution_mode is ExecutionMode.SYNC else JobStatus.QUEUED
    reason = f"job {job.id} is repeated"
    new_id = lifecycle.insert_job(session, now=now, actor=actor, status=status, values=row, reason=reason)
    kept = ("endpoint", "model", "body", "body_bytes", "most_input_tokens")
    session.execute(insert(JobRequest).values(job_id=new_id, **{column: getattr(request, column) for column in kept}))
    if documents := [{"job_id": new_id, "document_id": d.id} for d in job.documents]:
        session.execute(insert(JobDocument), documents)
    return new_id


def cancel_job(session: Session, job: Job, *, actor: str) -> None:
    """Withdraw a job that nobody has started. Commits. Raises InvalidMove once it is under way or has ended."""
    now = clock(session)
    if not lifecycle.move_job(session, job.id, JobStatus.CANCELLED, now=now, actor=actor, reason="cancelled"):
        session.refresh(job)
        raise InvalidMove(f"This job is {job.status} and cannot be cancelled any more.")
    session.commit()


def get_job(session: Session, job_id: int, *, user_id: int | None) -> Job:
    """One job with its result; `user_id` None means any user's. Raises NotFound."""
    statement = select(Job).where(Job.id == job_id).options(joinedload(Job.result), joinedload(Job.profile_version))
    if user_id is not None:
        statement = statement.where(Job.user_id == user_id)
    job = session.scalars(statement).one_or_none()
    if job is None:
        raise NotFound
    return job


def list_jobs(
    session: Session, *, user_id: int | None, before: int | None = None, size: int = PAGE_SIZE
) -> tuple[list[Job], int | None]:
    """The newest jobs, of one user or (None) of all, and the id to pass as `before` for the next page, if any."""
    statement = select(Job).options(joinedload(Job.result), joinedload(Job.user)).order_by(Job.id.desc())
    if user_id is not None:
        statement = statement.where(Job.user_id == user_id)
    if before is not None:
        statement = statement.where(Job.id < before)
    jobs = list(session.scalars(statement.limit(size + 1)))
    return jobs[:size], jobs[size - 1].id if len(jobs) > size else None


def _load_documents(session: Session, profile: Profile, inputs: Mapping[str, Any], user_id: int) -> dict[str, Document]:
    """{field key: document} for the document fields that are filled in."""
    wanted = {field.key: inputs[field.key] for field in profile.document_fields if inputs[field.key] is not None}
    found = documents_of(session, user_id, list(wanted.values())) if wanted else {}
    missing = {key: "There is no such document of yours." for key, id_ in wanted.items() if id_ not in found}
    if missing:
        raise InvalidInput(missing)
    return {key: found[id_] for key, id_ in wanted.items()}


def _prepare(
    session: Session, settings: Settings, profile: Profile, values: Mapping[str, Any], user: User, now: datetime
) -> Run:
    inputs = profile.validate_inputs(values)
    documents = _load_documents(session, profile, inputs, user.id)
    mode = ExecutionMode(inputs.pop(EXECUTION_MODE, None) or ExecutionMode.SYNC)
    strategy = BatchStrategy(inputs.pop(BATCH_STRATEGY, None) or BatchStrategy.COUNT_ONLY)
    need_by = _need_by(inputs.pop(NEED_BY, None), mode, strategy, now)
    model = settings.sync_model if mode is ExecutionMode.SYNC else settings.batch_model
    shown = {key: _in_templates(document, profile.request.endpoint) for key, document in documents.items()}
    body = to_json(render(profile.request.body, {
        "model": model, "inputs": inputs, "documents": shown, "document": next(iter(shown.values()), None),
        "user": {"id": user.id},
    }))  # fmt: skip
    if len(body.encode()) > settings.max_window_bytes // 2:
        raise InvalidInput({}, "This run's request is too large to send.")
    ids = {document.id for document in documents.values()}
    pages = sum(document.pages for document in documents.values() if document.provider_file_id)
    return Run(mode, strategy, inputs, ids, pages, profile.request.endpoint, model, need_by, body)


def _need_by(given: str | None, mode: ExecutionMode, strategy: BatchStrategy, now: datetime) -> datetime | None:
    """When a batch job has to be there, for the strategy that asks for it. Raises InvalidInput."""
    if mode is not ExecutionMode.BATCH or (strategy is not BatchStrategy.DEADLINE and given is None):
        return None
    if strategy is not BatchStrategy.DEADLINE:
        raise InvalidInput({NEED_BY: "Only the strategy “deadline” keeps to a time: choose it, or leave this empty."})
    if given is None:
        raise InvalidInput({NEED_BY: "The strategy “deadline” needs to know by when."})
    need_by = datetime.fromisoformat(given)
    if need_by <= now:
        raise InvalidInput({NEED_BY: "This moment has passed."})
    if need_by > now + MOST_AHEAD:
        raise InvalidInput({NEED_BY: "This is more than a year ahead."})
    return need_by


def _in_templates(document: Document, endpoint: str) -> dict[str, Any]:
    """What templates see of a document. `content` fits into a message: the text, or the part that names the file."""
    file_id = document.provider_file_id
    is_chat = endpoint == "/v1/chat/completions"
    part = {"type": "file", "file": {"file_id": file_id}} if is_chat else {"type": "input_file", "file_id": file_id}
    return {
        "text": document.text, "content": [part] if file_id else document.text, "file": file_id,
        "filename": document.filename, "pages": document.pages,
    }  # fmt: skip


def _store(
    session: Session, profile: Profile, version_id: int, run: Run, user: User, retry_of: int | None, now: datetime
) -> int:
    row: dict[str, Any] = {
        "user_id": user.id, "profile_id": profile.id, "profile_version_id": version_id, "execution_mode": run.mode,
        "inputs": run.inputs, "retry_of": retry_of,
    }  # fmt: skip
    if run.mode is ExecutionMode.BATCH:
        row |= {
            "batch_strategy": run.strategy, "need_by": run.need_by, "queue_id": _queue_id(session, profile.id, run),
        }  # fmt: skip
    status = JobStatus.CREATED if run.mode is ExecutionMode.SYNC else JobStatus.QUEUED
    job_id = lifecycle.insert_job(session, now=now, actor=f"user:{user.id}", status=status, values=row)
    session.execute(
        insert(JobRequest).values(
            job_id=job_id, endpoint=run.endpoint, model=run.model, body=run.body,
            body_bytes=len(run.body.encode()), most_input_tokens=most_input_tokens(run.body, run.file_pages),
        )
    )  # fmt: skip
    if run.document_ids:
        rows = [{"job_id": job_id, "document_id": document_id} for document_id in run.document_ids]
        session.execute(insert(JobDocument), rows)
    return job_id


def _queue_id(session: Session, profile_id: str, run: Run) -> int:
    key = {"profile_id": profile_id, "endpoint": run.endpoint, "model": run.model, "strategy": run.strategy}
    statement = select(Queue.id).filter_by(**key)
    if (queue_id := session.execute(statement).scalar_one_or_none()) is not None:
        return queue_id
    session.execute(pg_insert(Queue).values(**key).on_conflict_do_nothing())
    return session.execute(statement).scalar_one()


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
