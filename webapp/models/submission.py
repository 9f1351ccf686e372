"""Jobs that were made together, and the keys under which programs ask for the same thing twice."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.models.base import Base, Id
from webapp.models.user import User


class Submission(Base):
    """What one form, one file of rows or one call made: its jobs name it, its progress is a query over them."""

    __tablename__ = "submissions"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    profile_id: Mapped[str]
    source: Mapped[str]  # form | rows | api | retry
    name: Mapped[str]  # what people see: the file of rows, or "12 documents"
    job_count: Mapped[int]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]  # set when its last job ended and that was told (webhooks)

    user: Mapped[User] = relationship()

    __table_args__ = (
        CheckConstraint("source IN ('form', 'rows', 'api', 'retry')", name="source"),
        CheckConstraint("job_count >= 1", name="has_jobs"),
        Index("ix_submissions_user_newest", "user_id", text("id DESC")),
        Index("ix_submissions_unfinished", "id", postgresql_where=text("finished_at IS NULL")),
    )


class IdempotencyKey(Base):
    """A program's `Idempotency-Key` and what it made: the same key with the same request finds it again."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[str]  # sha256 of method, path and body
    target: Mapped[str]  # job:<id> | submission:<id> | document:<id>
    created_at: Mapped[datetime] = mapped_column(index=True)
