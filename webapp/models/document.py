"""Uploaded documents: what we know of them; the bytes are in the blob store."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy import text as sql  # the model has a column of that name
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, BigInt, CreatedAt, Id


class Document(Base):
    __tablename__ = "documents"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    filename: Mapped[str]  # as the user named it: shown, never used as a path
    content_type: Mapped[str]
    bytes: Mapped[BigInt]
    sha256: Mapped[str]
    storage_key: Mapped[str] = mapped_column(unique=True)
    pages: Mapped[int]
    text: Mapped[str] = mapped_column(deferred=True)  # extracted once, at upload; "" for a scan
    provider_file_id: Mapped[str | None]  # set when the file itself is sent instead of its text
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]  # from then on nobody may use it
    bytes_deleted_at: Mapped[datetime | None]  # … and here it is gone from the blob store and from the provider

    __table_args__ = (
        Index("ix_documents_user_newest", "user_id", sql("id DESC")),
        # Retention: whose bytes are still there, and of these the ones that somebody has withdrawn.
        Index("ix_documents_keeps_bytes", "created_at", postgresql_where=sql("bytes_deleted_at IS NULL")),
        Index(
            "ix_documents_withdrawn",
            "id",
            postgresql_where=sql("deleted_at IS NOT NULL AND bytes_deleted_at IS NULL"),
        ),
    )
