"""The ledger: append-only, one entry for each answer that was or may have been paid."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, Index, Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from webapp.domain.states import ExecutionMode
from webapp.models.base import Base, BigInt, Id

Usd = Numeric(20, 12)


class LedgerEntry(Base):
    __tablename__ = "ledger"

    id: Mapped[Id]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    answer_key: Mapped[str]  # response id, else sha256 of the answer; 'lost' when none came
    reason: Mapped[str]  # answer | discarded | refused | answer_lost
    execution_mode: Mapped[ExecutionMode]
    model: Mapped[str | None]
    answered_at: Mapped[datetime]  # the answer's own time: prices are those of this moment
    recorded_at: Mapped[datetime]
    input_tokens: Mapped[BigInt | None]
    cached_input_tokens: Mapped[BigInt | None]
    output_tokens: Mapped[BigInt | None]
    input_price: Mapped[Decimal | None] = mapped_column(Usd)  # USD per million tokens
    cached_input_price: Mapped[Decimal | None] = mapped_column(Usd)
    output_price: Mapped[Decimal | None] = mapped_column(Usd)
    amount: Mapped[Decimal | None] = mapped_column(Usd)  # USD; NULL = unknown, never 0

    __table_args__ = (
        UniqueConstraint("job_id", "attempt", "answer_key"),
        Index("ix_ledger_answered_at", "answered_at"),
    )
