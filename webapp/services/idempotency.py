"""`Idempotency-Key`: a program that asks for the same thing twice gets what it got the first time.

The key's row is stored in the commit that makes the thing: there is never one without the other. Of two at the same
moment the second waits at the row's unique key for the first one's commit, and then makes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from webapp.domain.errors import ReusedKey, SluiceError, TakenKey
from webapp.models import IdempotencyKey
from webapp.services.clock import clock

KEPT = timedelta(hours=24)
Remember = Callable[[str], None]
Make = Callable[[Remember], str]  # makes a thing, and hands its name on in the transaction that makes it; returns it
MOST_DELETED = 10_000


@dataclass(frozen=True)
class Request:
    """One request under a key: whose, and what was asked (sha256 of method, path and body)."""

    user_id: int
    key: str
    digest: str


def once(session: Session, request: Request, make: Make) -> tuple[str, bool]:
    """Make a thing, if this request did not make it before: (`job:<id>`, did it).

    Raises ReusedKey, TakenKey and what `make` raises.
    """
    if found := find(session, request):
        return found, True
    try:
        return make(lambda target: remember(session, request, target)), False
    except SluiceError:  # of two at once the second may fail in many ways: its budget, too, is used by the first
        session.rollback()
        if found := find(session, request):
            return found, True
        raise


def find(session: Session, request: Request) -> str | None:
    """What this request made before (`job:<id>`), if it did. Raises ReusedKey when the key was another request's."""
    row = session.execute(
        select(IdempotencyKey.request_hash, IdempotencyKey.target).where(
            IdempotencyKey.user_id == request.user_id, IdempotencyKey.key == request.key,
            IdempotencyKey.created_at > clock(session) - KEPT,
        )
    ).one_or_none()  # fmt: skip
    if row is None:
        return None
    if row.request_hash != request.digest:
        raise ReusedKey
    return str(row.target)


def remember(session: Session, request: Request, target: str) -> None:
    """Store what this request makes, in the transaction that makes it. Raises TakenKey when somebody was quicker."""
    now = clock(session)
    statement = insert(IdempotencyKey).values(
        user_id=request.user_id, key=request.key, request_hash=request.digest, target=target, created_at=now
    )
    new = statement.excluded
    kept = session.execute(
        statement.on_conflict_do_update(  # a row that retention has not come to yet counts no more
            index_elements=["user_id", "key"],
            set_={"request_hash": new.request_hash, "target": new.target, "created_at": new.created_at},
            where=IdempotencyKey.created_at <= now - KEPT,
        ).returning(IdempotencyKey.key)
    ).all()
    if not kept:
        raise TakenKey


def delete_old(session: Session) -> int:
    """Forget keys after 24 hours, a portion at a time. Commits. Returns how many."""
    old = (
        select(IdempotencyKey.user_id, IdempotencyKey.key)
        .where(IdempotencyKey.created_at <= clock(session) - KEPT)
        .limit(MOST_DELETED)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    deleted = session.execute(
        delete(IdempotencyKey)
        .where(IdempotencyKey.user_id == old.c.user_id, IdempotencyKey.key == old.c.key)
        .execution_options(synchronize_session=False)
    )
    session.commit()
    return int(deleted.rowcount)  # type: ignore[attr-defined]
