"""The history page: a page of jobs, newest first, and how many there are of which state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.domain.states import JobStatus
from webapp.models import Document, Job, JobDocument, JobResult, User
from webapp.services.job_lists import LINE, Wanted

PAGE_SIZE = 30
MOST_COUNTED = 10_000


@dataclass(frozen=True)
class Page:
    jobs: Sequence[Any]  # the columns of LINE, and user_id, email, input_tokens, output_tokens
    files: Mapping[int, list[str]]  # {job id: the names of its documents}
    newer: int | None  # the `after` of the page before this one, if there is one
    older: int | None  # the `before` of the page behind this one, if there is one


@dataclass(frozen=True)
class Tally:
    """Of the newest MOST_COUNTED jobs: how many are in which state."""

    counts: Mapping[JobStatus, int]
    is_cut: bool  # there are more

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def list_page(
    session: Session, wanted: Wanted, *, before: int | None = None, after: int | None = None, size: int = PAGE_SIZE
) -> Page:
    """The newest jobs, those older than the job `before`, or the next newer ones than the job `after`."""
    statement = (
        select(*LINE, Job.user_id, User.email, JobResult.input_tokens, JobResult.output_tokens)
        .join(User, User.id == Job.user_id)
        .outerjoin(JobResult, JobResult.job_id == Job.id)
        .where(*wanted.conditions())
        .limit(size + 1)
    )
    if after is not None:
        rows = session.execute(statement.where(Job.id > after).order_by(Job.id)).all()
        if len(rows) <= size:  # the newest there are: a whole page of them
            return list_page(session, wanted, size=size)
        return _page(session, rows[size - 1 :: -1], newer=rows[size - 1].id, older=rows[0].id)
    if before is not None:
        statement = statement.where(Job.id < before)
    rows = session.execute(statement.order_by(Job.id.desc())).all()
    shown = rows[:size]
    newer = None if before is None else shown[0].id if shown else before - 1
    return _page(session, shown, newer=newer, older=shown[-1].id if len(rows) > size else None)


def tally(session: Session, wanted: Wanted) -> Tally:
    newest = (
        select(Job.status).where(*wanted.conditions()).order_by(Job.id.desc()).limit(MOST_COUNTED + 1).subquery()
    )  # fmt: skip
    rows = session.execute(select(newest.c.status, func.count()).group_by(newest.c.status))
    counts = {JobStatus(status): count for status, count in rows}
    return Tally(counts, sum(counts.values()) > MOST_COUNTED)


def _page(session: Session, jobs: Sequence[Any], *, newer: int | None, older: int | None) -> Page:
    rows = session.execute(
        select(JobDocument.job_id, func.array_agg(Document.filename))
        .join(Document, Document.id == JobDocument.document_id)
        .where(JobDocument.job_id == func.any([job.id for job in jobs]))
        .group_by(JobDocument.job_id)
    )
    return Page(jobs, {job_id: sorted(names) for job_id, names in rows}, newer, older)
