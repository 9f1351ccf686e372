"""What programs read of many jobs at once: lists, and the results of a submission."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.domain.states import TERMINAL_JOBS, ExecutionMode, JobStatus
from webapp.models import Document, Job, JobDocument, JobResult, ProfileVersion

RESULTS_AT_ONCE = 200
LINE = (Job.id, Job.profile_id, Job.status, Job.execution_mode, Job.batch_strategy, Job.need_by, Job.submission_id,
        Job.retry_of, Job.attempt, Job.created_at, Job.finished_at, Job.failure_code, Job.failure_message)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Which jobs; None wants all."""

    status: JobStatus | None = None
    profile_id: str | None = None
    execution_mode: ExecutionMode | None = None
    submission_id: int | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


def find_jobs(
    session: Session, user_id: int, wanted: Wanted, *, after: int | None, size: int
) -> tuple[list[Any], int | None]:
    """(the user's jobs, newest first, each with the columns of LINE; the `after` of the next page, if any)."""
    equal = {name: getattr(wanted, name) for name in ("status", "profile_id", "execution_mode", "submission_id")}
    statement = (
        select(*LINE)
        .where(Job.user_id == user_id)
        .filter_by(**{name: value for name, value in equal.items() if value is not None})
        .order_by(Job.id.desc())
        .limit(size + 1)
    )
    if after is not None:
        statement = statement.where(Job.id < after)
    if wanted.created_after is not None:
        statement = statement.where(Job.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        statement = statement.where(Job.created_at < wanted.created_before)
    rows = list(session.execute(statement))
    return rows[:size], rows[size - 1].id if len(rows) > size else None


def results_of(session: Session, submission_id: int, *, after: int = 0) -> Iterator[Any]:
    """The jobs of a submission that have ended, oldest first, those with an id above `after`.

    Each has id, status, failure, `text`, the `output` type and `files`, the names of its documents (None without).
    Each portion is a transaction of its own: whoever reads slowly holds no connection.
    """
    files = (
        select(func.array_agg(Document.filename))
        .join(JobDocument, JobDocument.document_id == Document.id)
        .where(JobDocument.job_id == Job.id)
        .scalar_subquery()
    )
    statement = (
        select(Job.id, Job.status, Job.failure_code, Job.failure_message, JobResult.text,
               ProfileVersion.document["output"]["type"].astext.label("output"), files.label("files"))
        .join(ProfileVersion, ProfileVersion.id == Job.profile_version_id)
        .outerjoin(JobResult, JobResult.job_id == Job.id)
        .where(Job.submission_id == submission_id, Job.status.in_(TERMINAL_JOBS))
        .order_by(Job.id)
        .limit(RESULTS_AT_ONCE)
    )  # fmt: skip
    last = after
    while rows := session.execute(statement.where(Job.id > last)).all():
        session.rollback()
        yield from rows
        last = rows[-1].id
    session.rollback()
