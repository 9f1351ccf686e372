"""Look over the whole database: does everything that must hold, hold? `flask doctor` prints what does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.states import TERMINAL_AT_PROVIDER
from webapp.gateways.provider_batches import ProviderBatches
from webapp.models import BatchWindow
from webapp.services.clock import clock
from webapp.services.invariants import INVARIANTS
from webapp.services.ledger import LOST_KEY

MOST_SHOWN = 20
HEARTBEAT_PATIENCE = timedelta(minutes=1)
N8N_PATIENCE = timedelta(minutes=15)


@dataclass(frozen=True)
class Finding:
    name: str
    holds: str
    broken_by: str
    what: list[str]  # the first of what breaks it
    count: int


def examine(session: Session, settings: Settings) -> list[Finding]:
    """Every invariant that does not hold now; [] for a healthy database. Changes nothing."""
    parameters = _parameters(session, settings)
    findings = []
    for invariant in INVARIANTS:
        what = session.execute(text(invariant.query), parameters).scalars().all()
        if what:
            findings.append(
                Finding(invariant.name, invariant.holds, invariant.broken_by, list(what[:MOST_SHOWN]), len(what))
            )
    session.rollback()
    return findings


@dataclass(frozen=True)
class Stray:
    """A provider batch of one of our input files that no window knows."""

    provider_batch_id: str
    window_id: int
    status: str  # the provider's word

    @property
    def is_harmless(self) -> bool:
        """Its validation failed: it never ran and costs nothing."""
        return self.status == "failed"

    @property
    def is_running(self) -> bool:
        return self.status not in TERMINAL_AT_PROVIDER


def find_strays(session: Session, batches: ProviderBatches) -> list[Stray]:
    """Compare the provider's list with our windows. Raises UnavailableService."""
    ours = session.execute(
        select(BatchWindow.input_file_id, BatchWindow.id, BatchWindow.provider_batch_id, BatchWindow.opened_at)
        .where(BatchWindow.input_file_id.is_not(None))
    ).all()  # fmt: skip
    session.rollback()  # no network call inside a transaction
    known = {row.input_file_id: row for row in ours}
    return [
        Stray(batch.id, known[batch.input_file_id].id, batch.status)
        for batch in batches.list_since(_first(row.opened_at for row in ours))
        if batch.input_file_id in known and batch.id != known[batch.input_file_id].provider_batch_id
    ]


def _first(moments: Iterable[datetime]) -> datetime | None:
    return min(moments, default=None)


def _parameters(session: Session, settings: Settings) -> dict[str, object]:
    now = clock(session)
    late, deadlines = now - HEARTBEAT_PATIENCE, settings.deadlines
    return {
        "lost": LOST_KEY, "heartbeat_limit": late, "n8n_limit": now - N8N_PATIENCE,
        "sync_limit": late - timedelta(seconds=settings.sync_deadline_seconds),
        "last_ride_limit": deadlines.past_last_ride(late), "last_call_limit": deadlines.past_last_call(late),
    }  # fmt: skip
