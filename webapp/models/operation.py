"""What keeps the system honest: who is alive, and what n8n reported as failed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base


class Heartbeat(Base):
    """One row, written on each beat by the process that leads."""

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
    reported_at: Mapped[datetime]
