"""The ledger: what was paid, or may have been. Append-only; the same answer is written once.

A price is the one valid at the answer's own time. Tokens that nobody reported, or a model without a price,
give an unknown amount: counted and shown, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Text, and_, literal, not_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from webapp.domain.answers import LOST_KEY as LOST_KEY  # the rest of the app has it from here
from webapp.domain.answers import Answer
from webapp.domain.pricing import PriceList
from webapp.domain.states import ExecutionMode, ItemOutcome
from webapp.models import BatchItem, Job, LedgerEntry
from webapp.services.bulk import insert_new

NEW_ENTRY = ("job_id", "attempt", "answer_key", "reason", "user_id", "profile_id", "execution_mode", "model",
             "service_tier", "answered_at", "recorded_at", "input_tokens", "cached_input_tokens", "cache_write_tokens",
             "output_tokens", "input_price", "cached_input_price", "cache_write_price", "output_price", "amount",
             "sync_amount")  # fmt: skip
CLOCK_SKEW = timedelta(minutes=5)  # between the provider's clock and ours


class BilledJob(Protocol):
    """What an entry says of its job: a `Job`, or a row with these columns."""

    @property
    def user_id(self) -> int: ...
    @property
    def profile_id(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


def entry(
    prices: PriceList, answer: Answer, *,
    job_id: int, job: BilledJob, attempt: int, mode: ExecutionMode, requested_model: str, reason: str, now: datetime,
) -> dict[str, Any]:  # fmt: skip
    """One ledger row for a billable answer. The answer's own model prices it; a dated or deployment name
    that has no price falls back to the model that was asked for."""
    at = answer_time(answer, job.created_at, now)
    usage = answer.usage
    tokens = usage.input_tokens if usage else 0
    unit = sync_unit = None
    model = answer.model or requested_model
    for model in dict.fromkeys((answer.model or requested_model, requested_model)):
        unit = prices.unit_prices(model, mode, at, input_tokens=tokens, tier=answer.service_tier)
        sync_unit = prices.unit_prices(model, ExecutionMode.SYNC, at, input_tokens=tokens)
        if sync_unit:
            break
    amount = unit.cost(usage) if unit and usage else None
    if usage and amount is None:
        unit = None  # a kind of its tokens has no price: the prices of the others would say more than is known
    sync_amount = amount if mode is ExecutionMode.SYNC else sync_unit.cost(usage) if sync_unit and usage else None
    return {
        "job_id": job_id, "attempt": attempt, "answer_key": answer.key, "reason": reason, "user_id": job.user_id,
        "profile_id": job.profile_id, "execution_mode": mode, "model": model, "service_tier": answer.service_tier,
        "answered_at": at, "recorded_at": now,
        "input_tokens": usage and usage.input_tokens,
        "cached_input_tokens": usage and usage.cached_input_tokens,
        "cache_write_tokens": usage and usage.cache_write_tokens,
        "output_tokens": usage and usage.output_tokens,
        "input_price": unit and unit.input,
        "cached_input_price": unit and unit.cached_input,
        "cache_write_price": unit and usage and unit.cache_write_price(usage),
        "output_price": unit and unit.output,
        "amount": amount, "sync_amount": sync_amount,
    }  # fmt: skip


def answer_time(answer: Answer, job_created_at: datetime, now: datetime) -> datetime:
    """When the answer was made, by the provider's clock, as far as it can be believed; else now.

    A batch is ingested hours after its lines were answered; prices and months are those of the answer.
    """
    at = answer.answered_at
    if at is None or not job_created_at - CLOCK_SKEW <= at <= now + CLOCK_SKEW:
        return now
    return min(at, now)


def record(session: Session, entries: Sequence[dict[str, Any]]) -> None:
    """Append entries; one that is there already (same job, attempt and answer) stays as it is. Does not commit."""
    rows = [tuple(map(entry.get, NEW_ENTRY)) for entry in entries]
    insert_new(session, LedgerEntry, NEW_ENTRY, rows, key=["job_id", "attempt", "answer_key"])


def record_lost_answer(session: Session, job: Job, now: datetime) -> None:
    """An attempt was started and never answered: it may have been paid. Does not commit."""
    record(session, [lost_entry(job.id, job, job.attempt, now)])


def lost_entry(job_id: int, job: BilledJob, attempt: int, now: datetime) -> dict[str, Any]:
    """The row for a sync attempt whose answer reached nobody; a second entry settles it if the answer still comes."""
    return {
        "job_id": job_id, "attempt": attempt, "answer_key": LOST_KEY, "reason": "answer_lost",
        "user_id": job.user_id, "profile_id": job.profile_id, "execution_mode": ExecutionMode.SYNC,
        "answered_at": now, "recorded_at": now,
    }  # fmt: skip


def record_lost_batch_answers(session: Session, window_id: int, now: datetime) -> None:
    """The provider lost what it answered to the missing items of this window. Does not commit."""
    lost = (
        select(
            BatchItem.job_id, BatchItem.attempt, literal(LOST_KEY), literal("answer_lost"), Job.user_id,
            Job.profile_id, literal(ExecutionMode.BATCH.value), literal(now), literal(now),
        )
        .join(Job, Job.id == BatchItem.job_id)
        .where(BatchItem.window_id == window_id, BatchItem.outcome == ItemOutcome.MISSING)
    )  # fmt: skip
    columns = ["job_id", "attempt", "answer_key", "reason", "user_id", "profile_id", "execution_mode", "answered_at",
               "recorded_at"]  # fmt: skip
    session.execute(insert(LedgerEntry).from_select(columns, lost).on_conflict_do_nothing())


@cache
def is_unknown() -> ColumnElement[bool]:
    """The entries whose amount nobody knows; not those of a lost answer that came after all."""
    return and_(LedgerEntry.amount.is_(None), not_(is_lost_and_settled()))


@cache
def is_lost_and_settled() -> ColumnElement[bool]:
    """The entries of lost answers that came after all: another entry of the attempt says what it cost."""
    other = aliased(LedgerEntry)
    settled = (
        select(other.id)
        .where(other.job_id == LedgerEntry.job_id, other.attempt == LedgerEntry.attempt, other.answer_key != LOST_KEY)
        .exists()
    )
    return and_(LedgerEntry.answer_key == literal(LOST_KEY, Text, literal_execute=True), settled)  # by ix_ledger_lost
