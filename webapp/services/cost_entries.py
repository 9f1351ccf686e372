"""The entries behind the costs: those whose amount nobody knows, and all of them as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import date
from typing import Any, TextIO

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.domain.csv_cells import cells
from webapp.domain.pricing import PLAIN_TIERS
from webapp.domain.states import ExecutionMode
from webapp.models import LedgerEntry, User
from webapp.services.cost_reports import Dimension, Line, Scope
from webapp.services.ledger import LOST_KEY, is_unknown

UNKNOWN_PAGE = 20


def list_unknown(session: Session, scope: Scope, before: int | None = None, size: int = UNKNOWN_PAGE) -> list[Any]:
    """Entries whose amount nobody knows, newest first."""
    statement = select(LedgerEntry).where(is_unknown(), *scope.covers_entries())
    if before is not None:
        statement = statement.where(LedgerEntry.id < before)
    return list(session.scalars(statement.order_by(LedgerEntry.id.desc()).limit(size)))


def why_unknown(entry: Any) -> str:
    """Why an entry has no amount, in words."""
    if entry.answer_key == LOST_KEY:
        return "the answer was lost"
    if entry.input_tokens is None or entry.output_tokens is None:
        return "the provider reported no usage"
    if entry.execution_mode is ExecutionMode.SYNC and entry.service_tier not in PLAIN_TIERS:
        return f"no price for tier {entry.service_tier} of model {entry.model}"
    return f"no price for model {entry.model}, or for a kind of its tokens"


GROUP_COLUMNS = ("answers", "input_tokens", "cached_input_tokens", "output_tokens", "amount", "saved", "unknown")


def write_groups(lines: Iterable[Line], dimension: Dimension, file: TextIO) -> None:
    """The lines of one dimension as CSV."""
    writer = csv.writer(file)
    writer.writerow([dimension.value, *GROUP_COLUMNS])
    for line in lines:
        key = line.key.isoformat() if isinstance(line.key, date) else line.label
        writer.writerow(cells(key, line.answers, line.input_tokens, line.cached_input_tokens, line.output_tokens,
                               line.amount, line.saved, line.unknown))  # fmt: skip


ENTRY_COLUMNS = (
    "id", "job_id", "attempt", "answer_key", "reason", "user_id", "profile_id", "execution_mode", "model",
    "service_tier", "answered_at", "recorded_at", "input_tokens", "cached_input_tokens", "cache_write_tokens",
    "output_tokens", "input_price", "cached_input_price", "cache_write_price", "output_price", "amount", "sync_amount",
)  # fmt: skip


def write_entries(session: Session, scope: Scope, file: TextIO) -> None:
    """All entries of the scope as CSV, oldest first; prices are USD per million tokens. Reads them in portions."""
    statement = (
        select(*(getattr(LedgerEntry, name) for name in ENTRY_COLUMNS), User.email, is_unknown().label("is_unknown"))
        .join(User, User.id == LedgerEntry.user_id)
        .where(*scope.covers_entries())
        .order_by(LedgerEntry.id)
        .execution_options(yield_per=1000)
    )
    writer = csv.writer(file)
    writer.writerow([*ENTRY_COLUMNS, "user", "unknown_because"])
    for row in session.execute(statement):
        values = row[: len(ENTRY_COLUMNS)]
        writer.writerow(cells(*values, row.email, why_unknown(row) if row.is_unknown else None))
