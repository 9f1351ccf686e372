"""The ledger: what was paid, or may have been. Append-only; the same answer is written once.

A price is the one valid at the answer's own time. Tokens that nobody reported, or a model without a price,
give an unknown amount: counted and shown, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from webapp.domain.answers import Answer
from webapp.domain.pricing import PriceList
from webapp.domain.states import ExecutionMode, ItemOutcome
from webapp.models import BatchItem, Job, LedgerEntry

LOST_KEY = "lost"  # the answer_key of an answer that never came


def entry(
    prices: PriceList, answer: Answer, *,
    job_id: int, attempt: int, mode: ExecutionMode, requested_model: str, reason: str, now: datetime,
) -> dict[str, Any]:  # fmt: skip
    """One ledger row for a billable answer. The answer's own model prices it; a dated or deployment name
    that has no price falls back to the model that was asked for."""
    unit = None
    model = answer.model or requested_model
    for model in dict.fromkeys((answer.model or requested_model, requested_model)):
        if unit := prices.unit_prices(model, mode, now):
            break
    usage = answer.usage
    return {
        "job_id": job_id, "attempt": attempt, "answer_key": answer.key, "reason": reason, "execution_mode": mode,
        "model": model, "answered_at": now, "recorded_at": now,
        "input_tokens": usage and usage.input_tokens,
        "cached_input_tokens": usage and usage.cached_input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "input_price": unit and unit.input,
        "cached_input_price": unit and unit.cached_input,
        "output_price": unit and unit.output,
        "amount": unit.cost(usage) if unit and usage else None,
    }  # fmt: skip


def record(session: Session, entries: Sequence[dict[str, Any]]) -> None:
    """Append entries; one that is there already (same job, attempt and answer) stays as it is. Does not commit."""
    if entries:
        session.execute(
            insert(LedgerEntry).on_conflict_do_nothing(index_elements=["job_id", "attempt", "answer_key"]), entries
        )


def record_lost_answer(session: Session, job: Job, now: datetime) -> None:
    """An attempt was started and never answered: it may have been paid. Does not commit."""
    record(session, [lost_entry(job.id, job.attempt, now)])


def lost_entry(job_id: int, attempt: int, now: datetime) -> dict[str, Any]:
    """The row for a sync attempt whose answer reached nobody; a second entry settles it if the answer still comes."""
    return {
        "job_id": job_id, "attempt": attempt, "answer_key": LOST_KEY, "reason": "answer_lost",
        "execution_mode": ExecutionMode.SYNC, "answered_at": now, "recorded_at": now,
    }  # fmt: skip


def record_lost_batch_answers(session: Session, window_id: int, now: datetime) -> None:
    """The provider lost what it answered to the missing items of this window. Does not commit."""
    lost = select(
        BatchItem.job_id, BatchItem.attempt, literal(LOST_KEY), literal("answer_lost"),
        literal(ExecutionMode.BATCH.value), literal(now), literal(now),
    ).where(BatchItem.window_id == window_id, BatchItem.outcome == ItemOutcome.MISSING)  # fmt: skip
    columns = ["job_id", "attempt", "answer_key", "reason", "execution_mode", "answered_at", "recorded_at"]
    session.execute(insert(LedgerEntry).from_select(columns, lost).on_conflict_do_nothing())
