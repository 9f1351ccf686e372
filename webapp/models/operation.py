"""What keeps the system honest: who is alive, what n8n reported as failed, what operators did, what was deleted."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from sqlalchemy import CheckConstraint, ForeignKey, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.models.base import Base, Id, Json
from webapp.models.user import User

BEAT_ROW, VITALS_ROW = "heartbeat", "vitals"


class Heartbeat(Base):
    """Written by the process that leads: when it beat last, and until when its vitals have told of failed windows."""

    __tablename__ = "heartbeats"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class ExecutionFailure(Base):
    """A failed or crashed n8n execution. n8n reports a crash twice, so its id is the key."""

    __tablename__ = "execution_failures"

    execution_id: Mapped[str] = mapped_column(primary_key=True)
    workflow: Mapped[str | None]
    last_node: Mapped[str | None]
    message: Mapped[str | None]
    reported_at: Mapped[datetime] = mapped_column(index=True)


class AuditEvent(Base):
    """What an administrator did: who, what, to what, and why."""

    __tablename__ = "audit_events"

    id: Mapped[Id]
    at: Mapped[datetime]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    action: Mapped[str]  # what was done: hold_queue, set_budget, cancel_benchmark …
    target: Mapped[str]  # queue:<id>, window:<id>, job:<id>, budget:<id>, benchmark:<id>, user:<id>
    reason: Mapped[str]
    detail: Mapped[Json | None] = mapped_column()

    user: Mapped[User] = relationship()

    __table_args__ = (Index("ix_audit_events_target", "target", text("id DESC")),)


class RetentionReceipt(Base):
    """One thing that was deleted because its time had come; written after the deed, so it is a proof."""

    __tablename__ = "retention_receipts"

    id: Mapped[Id]
    kind: Mapped[str]  # document | request | provider_file
    target: Mapped[str]  # document:<id> | job:<id> | the provider's file id
    deleted_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("kind", "target"),)


class ProviderModel(Base):
    """What the provider said of its models when it was last asked."""

    __tablename__ = "provider_models"

    model: Mapped[str] = mapped_column(primary_key=True)
    shutdown_on: Mapped[date | None]
    seen_at: Mapped[datetime]


class ClockOffset(Base):
    """How far the clock runs ahead, for tests that make hours pass. Nobody looks here unless TEST_CLOCK is on."""

    __tablename__ = "test_clock"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    ahead: Mapped[timedelta]

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
