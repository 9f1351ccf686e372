"""Find jobs by a word: a number, the name of a document, an id of the provider. And people by their address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.models import BatchItem, BatchWindow, Document, JobAnswer, JobDocument, User

MOST_FOUND = 10_000  # jobs that one search finds, and documents whose names it looks at
MOST_NAMED_SO = 1_000  # documents whose name fits
MOST_ID = 2**63 - 1


def find_owner(session: Session, email: str) -> int | None:
    """The id of the user with this e-mail address."""
    return session.scalar(select(User.id).where(func.lower(User.email) == email.lower()))


def search(session: Session, text: str, *, user_id: int | None) -> list[int]:
    """The ids of jobs with this id, with a document whose name has `text` in it, or with this id at the provider (of
    an answer, a batch, or a line of a batch). Each way is an index and has its bound: at most MOST_FOUND, newest first;
    names are those of the newest MOST_FOUND documents.

    `user_id` narrows the names; the ids are for `Wanted`, which says whose jobs they may be.
    """
    found = set(_by_provider_id(session, text)) | set(_by_filename(session, text, user_id))
    word = text.lower().removeprefix("job").lstrip(" #")
    if word.isdecimal() and len(word) < 20 and int(word) <= MOST_ID:
        found.add(int(word))
    return sorted(found, reverse=True)[:MOST_FOUND]


def _by_provider_id(session: Session, text: str) -> Iterator[int]:
    yield from session.scalars(select(BatchItem.job_id).where(BatchItem.custom_id == text))
    yield from session.scalars(select(JobAnswer.job_id).where(JobAnswer.answer_key == text).limit(MOST_FOUND))
    window_id = session.scalar(select(BatchWindow.id).where(BatchWindow.provider_batch_id == text))
    if window_id is not None:
        yield from session.scalars(
            select(BatchItem.job_id)
            .where(BatchItem.window_id == window_id)
            .order_by(BatchItem.job_id.desc())
            .limit(MOST_FOUND)
        )


def _by_filename(session: Session, text: str, user_id: int | None) -> Sequence[int]:
    newest = select(Document.id, Document.filename).order_by(Document.id.desc()).limit(MOST_FOUND)
    if user_id is not None:
        newest = newest.where(Document.user_id == user_id)
    looked_at = newest.subquery()
    named_so = session.scalars(
        select(looked_at.c.id)
        .where(looked_at.c.filename.icontains(text, autoescape=True))
        .order_by(looked_at.c.id.desc())
        .limit(MOST_NAMED_SO)
    ).all()
    if not named_so:
        return []
    # A statement of its own: the planner sees how few they are, and does not read every job's documents.
    return session.scalars(
        select(JobDocument.job_id)
        .where(JobDocument.document_id == func.any(list(named_so)))
        .order_by(JobDocument.job_id.desc())
        .limit(MOST_FOUND)
    ).all()
