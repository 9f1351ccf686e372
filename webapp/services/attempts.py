"""The attempts of one job: each start by n8n, each ride in a window, how it ended, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.domain.pricing import MILLION
from webapp.domain.states import ExecutionMode, ItemOutcome, JobStatus
from webapp.models import BatchItem, BatchWindow, Job, JobEvent, LedgerEntry

RIDES = {
    ItemOutcome.COMPLETED: ("answered", ""),
    ItemOutcome.FAILED: ("failed", "The provider answered with an error."),
    ItemOutcome.MISSING: ("lost", "The provider ended the batch and has no answer to it."),
    ItemOutcome.EXPIRED: ("expired", "The provider's time for the batch was over before it ran."),
    ItemOutcome.RELEASED: ("returned", "The window ended without running it."),
}


@dataclass(frozen=True)
class Attempt:
    number: int  # several rides that used none have the same
    mode: ExecutionMode
    window_id: int | None  # of a ride
    started_at: datetime
    ended_at: datetime | None
    outcome: str  # under way | answered | failed | lost | expired | returned | given up | left
    why: str  # a sentence, or ""
    entries: list[LedgerEntry] = field(default_factory=list)

    @property
    def tokens(self) -> int | None:
        """Input and output together; None when nobody said."""
        known = [(e.input_tokens or 0) + (e.output_tokens or 0) for e in self.entries if e.input_tokens is not None]
        return sum(known) if known else None

    @property
    def amount(self) -> Decimal | None:
        """USD, as far as it is known; None when nothing is."""
        known = [entry.amount for entry in self.entries if entry.amount is not None]
        return sum(known, Decimal()) if known else None

    @property
    def is_partly_unknown(self) -> bool:
        return any(entry.amount is None for entry in self.entries)


def attempts_of(session: Session, job: Job, entries: Sequence[LedgerEntry]) -> list[Attempt]:
    """All attempts of a job, oldest first, each with those of `entries` (the job's in the ledger) that are its own."""
    found = sorted(_rides(session, job) + _starts(session, job), key=lambda attempt: attempt.started_at)
    for entry in entries:
        own = [a for a in found if (a.number, a.mode) == (entry.attempt, entry.execution_mode)]
        ran = [a for a in own if a.outcome not in ("returned", "expired")] or own
        if ran:
            ran[-1].entries.append(entry)
    return found


def _rides(session: Session, job: Job) -> list[Attempt]:
    rows = session.execute(
        select(BatchItem, BatchWindow.opened_at, BatchWindow.finished_at)
        .join(BatchWindow, BatchWindow.id == BatchItem.window_id)
        .where(BatchItem.job_id == job.id)
    )
    return [
        Attempt(item.attempt, ExecutionMode.BATCH, item.window_id, opened_at, ended_at, *_end_of_ride(job, item))
        for item, opened_at, ended_at in rows
    ]


def _end_of_ride(job: Job, item: BatchItem) -> tuple[str, str]:
    if item.outcome:
        outcome, why = RIDES[item.outcome]
        return outcome, item.error_message or why
    if item.attempt < job.attempt:
        return "left", "Its deadline was near: it left the window and ran at once."
    return "under way", ""


def _starts(session: Session, job: Job) -> list[Attempt]:
    """Each start by n8n lasts until the job's next event."""
    events = session.scalars(select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.at, JobEvent.id)).all()
    found = []
    for event, after in pairwise([*events, None]):
        if event and event.to_status == JobStatus.PROCESSING:
            ended_at = after.at if after else None
            outcome, why = _end_of_start(after)
            found.append(Attempt(event.attempt, ExecutionMode.SYNC, None, event.at, ended_at, outcome, why))
    return found


def _end_of_start(after: JobEvent | None) -> tuple[str, str]:
    if after is None:
        return "under way", ""
    if after.to_status == JobStatus.COMPLETED:
        return "answered", ""
    return "given up" if after.to_status == JobStatus.CREATED else "failed", after.reason


@dataclass(frozen=True)
class PriceLine:
    """One kind of an entry's tokens."""

    kind: str
    tokens: int
    price: Decimal | None  # USD per million tokens; None is unknown
    amount: Decimal | None  # USD


def price_lines(entry: LedgerEntry) -> list[PriceLine]:
    """How an entry's amount comes about; nothing where nobody said how many tokens it took."""
    if entry.input_tokens is None or entry.output_tokens is None:
        return []
    cached, written = entry.cached_input_tokens or 0, entry.cache_write_tokens or 0
    cached_price = entry.input_price if entry.cached_input_price is None else entry.cached_input_price
    kinds = [
        ("Input", entry.input_tokens - cached - written, entry.input_price),
        ("Cached input", cached, cached_price),
        ("Written to the cache", written, entry.cache_write_price),
        ("Output", entry.output_tokens, entry.output_price),
    ]
    return [
        PriceLine(kind, tokens, price, None if price is None else tokens * price / MILLION)
        for kind, tokens, price in kinds if tokens or kind in ("Input", "Output")
    ]  # fmt: skip
