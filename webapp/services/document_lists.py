"""The documents of a user, newest first, with what was made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from webapp.models import Document, Job, JobDocument

PAGE_SIZE = 30
MOST_COUNTED = 1_000


@dataclass(frozen=True)
class Page:
    documents: Sequence[Document]
    jobs: Mapping[int, int]  # {document id: how many jobs it was used in}, MOST_COUNTED + 1 for more
    needed: Mapping[int, int]  # {document id: how many unfinished jobs need it}; those without are not in it
    newer: int | None  # the `after` of the page before this one, if there is one
    older: int | None  # the `before` of the page behind this one, if there is one


def list_page(
    session: Session, user_id: int, *, before: int | None = None, after: int | None = None, size: int = PAGE_SIZE
) -> Page:
    """The newest documents that were not deleted, those older than `before`, or the next newer ones than `after`."""
    statement = select(Document).where(Document.user_id == user_id, Document.deleted_at.is_(None)).limit(size + 1)
    if after is not None:
        rows = session.scalars(statement.where(Document.id > after).order_by(Document.id)).all()
        if len(rows) <= size:  # the newest there are: a whole page of them
            return list_page(session, user_id, size=size)
        return _page(session, user_id, rows[size - 1 :: -1], newer=rows[size - 1].id, older=rows[0].id)
    if before is not None:
        statement = statement.where(Document.id < before)
    rows = session.scalars(statement.order_by(Document.id.desc())).all()
    shown = rows[:size]
    newer = None if before is None else shown[0].id if shown else before - 1
    return _page(session, user_id, shown, newer=newer, older=shown[-1].id if len(rows) > size else None)


def _page(
    session: Session, user_id: int, documents: Sequence[Document], *, newer: int | None, older: int | None
) -> Page:
    ids = [one.id for one in documents]
    used = (
        select(func.count().label("jobs"))
        .select_from(
            select(JobDocument.job_id).where(JobDocument.document_id == Document.id).limit(MOST_COUNTED + 1)
            .correlate(Document).subquery()
        )
        .lateral()
    )  # fmt: skip
    jobs = session.execute(select(Document.id, used.c.jobs).join(used, true()).where(Document.id == func.any(ids)))
    needed = session.execute(
        select(JobDocument.document_id, func.count())
        .join(Job, Job.id == JobDocument.job_id)
        .where(Job.user_id == user_id, Job.finished_at.is_(None), JobDocument.document_id == func.any(ids))
        .group_by(JobDocument.document_id)
    )
    return Page(documents, {one: count for one, count in jobs}, {one: count for one, count in needed}, newer, older)
