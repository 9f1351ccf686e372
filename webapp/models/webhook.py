"""Addresses that want to hear of ends, and what is to be said to them (the outbox)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.models.base import Base, BigInt, Id


class Webhook(Base):
    """One address of one user. Its secret is not stored: it is derived from SECRET_KEY and `salt`."""

    __tablename__ = "webhooks"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    url: Mapped[str]
    event_types: Mapped[list[str]] = mapped_column(ARRAY(Text))  # domain/webhooks.py
    salt: Mapped[str]
    old_salt: Mapped[str | None]  # its secret signs beside the new one, until
    old_salt_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]
    disabled_because: Mapped[str | None]  # a sentence for its owner


class WebhookDelivery(Base):
    """One message to one address, written in the commit that it tells of, and tried until it is taken."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[Id]
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_type: Mapped[str]
    target_id: Mapped[BigInt]  # of the job or the submission
    created_at: Mapped[datetime] = mapped_column(index=True)  # retention
    due_at: Mapped[datetime | None]  # the next try; NULL = delivered, or given up
    attempts: Mapped[int] = mapped_column(server_default="0")
    delivered_at: Mapped[datetime | None]
    last_status: Mapped[int | None]  # HTTP
    last_error: Mapped[str | None]

    webhook: Mapped[Webhook] = relationship()

    __table_args__ = (
        UniqueConstraint("webhook_id", "event_type", "target_id"),  # an end is told once
        CheckConstraint("delivered_at IS NULL OR due_at IS NULL", name="delivered_is_done"),
        # Sending goes by address; the log of an address is newest first.
        Index("ix_webhook_deliveries_due", "webhook_id", "due_at", "id", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_webhook_deliveries_newest", "webhook_id", text("id DESC")),
    )
