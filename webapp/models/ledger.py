"""The ledger: append-only, one entry for each answer that was or may have been paid. And what is made of it:
roll-ups, which make its sums quick, and budgets, which limit them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, Numeric, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.domain.states import ExecutionMode
from webapp.models.base import Base, BigInt, CreatedAt, Id
from webapp.models.user import User

Usd = Numeric(20, 12)
UsdSum = Numeric(38, 12)  # of a day; a provider may claim any number of tokens


class LedgerEntry(Base):
    __tablename__ = "ledger"

    id: Mapped[Id]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    answer_key: Mapped[str]  # response id, else sha256 of the answer; 'lost' when none came
    reason: Mapped[str]  # answer | discarded | refused | answer_lost
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    profile_id: Mapped[str]
    execution_mode: Mapped[ExecutionMode]
    model: Mapped[str | None]
    service_tier: Mapped[str | None]  # what the provider says it used
    answered_at: Mapped[datetime]  # the answer's own time: prices are those of this moment
    recorded_at: Mapped[datetime]
    input_tokens: Mapped[BigInt | None]
    cached_input_tokens: Mapped[BigInt | None]
    cache_write_tokens: Mapped[BigInt | None]
    output_tokens: Mapped[BigInt | None]
    input_price: Mapped[Decimal | None] = mapped_column(Usd)  # USD per million tokens
    cached_input_price: Mapped[Decimal | None] = mapped_column(Usd)
    cache_write_price: Mapped[Decimal | None] = mapped_column(Usd)
    output_price: Mapped[Decimal | None] = mapped_column(Usd)
    amount: Mapped[Decimal | None] = mapped_column(Usd)  # USD; NULL = unknown, never 0
    sync_amount: Mapped[Decimal | None] = mapped_column(Usd)  # USD; the same tokens at the sync prices of that moment

    __table_args__ = (
        UniqueConstraint("job_id", "attempt", "answer_key"),
        Index("ix_ledger_unknown", "id", postgresql_where=text("amount IS NULL")),
        # Which lost answers came after all: few are lost, but where no model has a price every amount is unknown.
        Index("ix_ledger_lost", "job_id", "attempt", postgresql_where=text("answer_key = 'lost'")),
    )


class CostDay(Base):
    """The ledger summed up by day (UTC, of the answers), as far as `roll_ups` says. Only the heartbeat writes it."""

    __tablename__ = "cost_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    profile_id: Mapped[str] = mapped_column(primary_key=True)
    execution_mode: Mapped[ExecutionMode] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)  # "" where the ledger has none
    reason: Mapped[str] = mapped_column(primary_key=True)
    entries: Mapped[BigInt]
    without_amount: Mapped[BigInt]  # of these; of lost answers also those that came after all
    input_tokens: Mapped[BigInt]
    cached_input_tokens: Mapped[BigInt]
    output_tokens: Mapped[BigInt]
    amount: Mapped[Decimal] = mapped_column(UsdSum)  # USD; of the entries whose amount is known
    sync_amount: Mapped[Decimal] = mapped_column(UsdSum)  # USD; one without a sync price counts with its amount

    __table_args__ = (
        Index("ix_cost_days_user", "user_id", "day"),
        Index("ix_cost_days_profile", "profile_id", "day"),
    )


class CostHour(Base):
    """The same by hour, of the version before: it may run beside this one for the time of a roll-out. Nobody else
    reads or writes it; a later migration takes it away."""

    __tablename__ = "cost_hours"

    hour: Mapped[datetime] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    profile_id: Mapped[str] = mapped_column(primary_key=True)
    execution_mode: Mapped[ExecutionMode] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)  # "" where the ledger has none
    reason: Mapped[str] = mapped_column(primary_key=True)
    entries: Mapped[BigInt]
    input_tokens: Mapped[BigInt]
    cached_input_tokens: Mapped[BigInt]
    output_tokens: Mapped[BigInt]
    amount: Mapped[Decimal] = mapped_column(UsdSum)  # USD; of the entries whose amount is known
    sync_amount: Mapped[Decimal] = mapped_column(UsdSum)  # USD; one without a sync price counts with its amount

    __table_args__ = (
        Index("ix_cost_hours_user", "user_id", "hour"),
        Index("ix_cost_hours_profile", "profile_id", "hour"),
    )


class RollUp(Base):
    """How far the roll-up has come."""

    __tablename__ = "roll_ups"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    last_ledger_id: Mapped[BigInt]  # of `cost_hours`
    summed_up_to: Mapped[BigInt] = mapped_column(server_default="0")  # ledger entries up to this id are in `cost_days`

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class Budget(Base):
    """What a user, or all runs of a profile, may cost in a month (UTC)."""

    __tablename__ = "budgets"

    id: Mapped[Id]
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), unique=True)
    profile_id: Mapped[str | None] = mapped_column(unique=True)
    monthly_amount: Mapped[Decimal] = mapped_column(Usd)  # USD
    created_at: Mapped[CreatedAt]

    user: Mapped[User | None] = relationship()

    __table_args__ = (
        CheckConstraint("(user_id IS NULL) <> (profile_id IS NULL)", name="user_or_profile"),
        CheckConstraint("monthly_amount >= 0", name="amount_not_negative"),
    )
