"""Many jobs at once: which ones somebody wants, their lines, and the results of a submission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Text, TextClause, bindparam, func, literal, select, text
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.orm import Session

from webapp.domain.states import TERMINAL_JOBS, ExecutionMode, JobStatus
from webapp.models import Document, Job, JobDocument, JobResult, ProfileVersion

RESULTS_AT_ONCE = 200
LONGEST_MAKING = timedelta(hours=1)  # from the moment that jobs bear as theirs until the last of them has its id
LINE = (Job.id, Job.profile_id, Job.status, Job.execution_mode, Job.batch_strategy, Job.need_by, Job.submission_id,
        Job.retry_of, Job.attempt, Job.created_at, Job.finished_at, Job.failure_code, Job.failure_message)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which jobs; None wants all."""

    user_id: int | None  # whose; it has no default, so that nobody asks for everybody's by forgetting it
    status: JobStatus | None = None
    profile_id: str | None = None
    execution_mode: ExecutionMode | None = None
    submission_id: int | None = None
    document_id: int | None = None  # made from it
    created_after: datetime | None = None  # this moment included
    created_before: datetime | None = None  # this moment excluded
    job_ids: Sequence[int] | None = None  # of these only
    oldest: int | None = None  # the job ids between which, included
    newest: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        asked = [
            (self.user_id, Job.user_id.__eq__),
            (self.profile_id, Job.profile_id.__eq__),
            (self.execution_mode, Job.execution_mode.__eq__),
            (self.submission_id, Job.submission_id.__eq__),
            (self.created_after, Job.created_at.__ge__),
            (self.created_before, Job.created_at.__lt__),
            (self.created_after, lambda moment: Job.id >= _first_since(moment, -LONGEST_MAKING)),
            (self.created_before, lambda moment: Job.id < _first_since(moment, LONGEST_MAKING)),
            (self.oldest, Job.id.__ge__),
            (self.newest, Job.id.__le__),
        ]
        conditions: list[Any] = [test(value) for value, test in asked if value is not None]
        if self.status is not None:
            # Written out, and said twice, in words that partial indexes know.
            conditions.append(Job.status == literal(self.status.value, Text, literal_execute=True))
            if self.status not in TERMINAL_JOBS:
                conditions.append(Job.finished_at.is_(None))
        if self.document_id is not None:
            conditions.append(Job.id.in_(select(JobDocument.job_id).where(JobDocument.document_id == self.document_id)))
        if self.job_ids is not None:
            conditions.append(Job.id == func.any(list(self.job_ids)))
        return conditions


def _first_since(moment: datetime, later: timedelta) -> TextClause:
    """The id from which on jobs were created so much later than `moment`: a list of some days begins and ends there.

    Found by halving: ids are given out in the order of time, but for the jobs that are being made at one moment.
    """
    return text("""(
        WITH RECURSIVE half (low, high) AS (
            SELECT min(id), max(id) + 1 FROM jobs
            UNION ALL
            SELECT CASE WHEN found.created_at < :moment + :later THEN found.id + 1 ELSE low END,
                   CASE WHEN found.created_at < :moment + :later THEN high ELSE (low + high) / 2 END
            FROM half LEFT JOIN LATERAL (
                SELECT id, created_at FROM jobs WHERE id >= (low + high) / 2 AND id < high ORDER BY id LIMIT 1
            ) AS found ON true
            WHERE low < high
        )
        SELECT max(low) FROM half
    )""").bindparams(bindparam("moment", moment, unique=True), bindparam("later", later, INTERVAL, unique=True))


def find_jobs(session: Session, wanted: Wanted, *, after: int | None, size: int) -> tuple[list[Any], int | None]:
    """(jobs, newest first, each with the columns of LINE; the `after` of the next page, if any)."""
    statement = select(*LINE).where(*wanted.conditions()).order_by(Job.id.desc()).limit(size + 1)
    if after is not None:
        statement = statement.where(Job.id < after)
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
