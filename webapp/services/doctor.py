"""Look over the whole database: does everything that must hold, hold? `flask doctor` prints what does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.batch_objects import BatchObject, read_mark, request_counts
from webapp.domain.errors import InvalidMove, NotFound
from webapp.domain.states import TERMINAL_AT_PROVIDER
from webapp.gateways.provider_batches import ProviderBatches
from webapp.models import AuditEvent, BatchWindow, User
from webapp.services.audit import audit
from webapp.services.clock import clock
from webapp.services.invariants import INVARIANTS
from webapp.services.ledger import LOST_KEY

MOST_SHOWN = 20
ACKNOWLEDGE = "acknowledge_stray"  # the audit's word
UNMARKED = "it does not say which Sluice made it: look, and cancel it at the provider if it was this one"
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
    """A provider batch that we made, or may have made, and no window knows."""

    provider_batch_id: str
    window_id: int
    status: str  # the provider's word
    completed: int | None  # answers, as the provider counts them; None if it does not say
    is_ours: bool  # False: an older version made it, of this Sluice or of another with the same key
    acknowledged: str | None = None  # who has looked into it, and why that is enough

    @property
    def is_harmless(self) -> bool:
        """Its validation failed: it never ran and costs nothing."""
        return self.status == "failed"

    @property
    def is_running(self) -> bool:
        return self.status not in TERMINAL_AT_PROVIDER

    @property
    def is_settled(self) -> bool:
        """Nobody has to do anything about it any more."""
        return self.is_harmless or (not self.is_running and self.acknowledged is not None)

    @property
    def words(self) -> str:
        if self.is_harmless:
            return "failed unbilled"
        if self.is_running:
            return f"STRAY, {self.status}: it may be billed{'' if self.is_ours else f' ({UNMARKED})'}"
        answers = "an unknown number of" if self.completed is None else self.completed
        billed = f"{self.status} with {answers} answers, which were billed and are in no ledger entry"
        return f"acknowledged by {self.acknowledged} ({billed})" if self.acknowledged else f"STRAY, {billed}"


def find_strays(
    session: Session, settings: Settings, batches: ProviderBatches, restored: datetime | None = None
) -> list[Stray]:
    """Compare the provider's list with our windows. Raises UnavailableService.

    `restored`: the moment of the backup that this database comes from. What was made in our name since, and no window
    knows, is stray as well: the rows of its window are gone.
    """
    ours = session.execute(
        select(BatchWindow.input_file_id, BatchWindow.id, BatchWindow.provider_batch_id, BatchWindow.opened_at)
        .where(BatchWindow.input_file_id.is_not(None))
    ).all()  # fmt: skip
    session.rollback()  # no network call inside a transaction
    known = {row.input_file_id: row for row in ours}
    since = min((*(row.opened_at for row in ours), *((restored,) if restored else ())), default=None)
    strays = [
        stray
        for batch in batches.list_since(since)
        if (stray := _as_stray(settings, batch, known.get(batch.input_file_id), restored))
    ]
    acknowledged = _acknowledged(session)
    session.rollback()
    return [replace(stray, acknowledged=acknowledged.get(stray.provider_batch_id)) for stray in strays]


def _as_stray(settings: Settings, batch: BatchObject, known: Any, restored: datetime | None) -> Stray | None:
    """The batch as a stray; None when its window knows it, or another Sluice made it, or none did.

    `known`: the row of the window with its input file, if there is one. Another Sluice with the same key makes batches
    as well, so a mark in the metadata is believed only after a restore, and only with our address in it.
    """
    is_since = restored is not None and (batch.created_at is None or batch.created_at >= restored)
    if known is not None:
        window_id, is_ours, is_stray = known.id, True, batch.id != known.provider_batch_id
    elif is_since and (mark := read_mark(batch.raw)):
        sluice, window_id = mark
        is_ours, is_stray = sluice is not None, sluice in (settings.public_url, None)
    else:
        return None
    completed = request_counts(batch.raw).get("completed")
    return Stray(batch.id, window_id, batch.status, completed, is_ours) if is_stray else None


def acknowledge_stray(
    session: Session, settings: Settings, batches: ProviderBatches, provider_batch_id: str, *,
    admin_email: str, reason: str, restored: datetime | None = None,
) -> None:  # fmt: skip
    """Note in the audit log that an administrator has looked into a stray that has ended. Commits.

    Raises NotFound, InvalidInput, UnavailableService, or InvalidMove when it still runs.
    """
    strays = find_strays(session, settings, batches, restored)
    stray = next((one for one in strays if one.provider_batch_id == provider_batch_id), None)
    if stray is None:
        raise NotFound(f"The provider lists no batch {provider_batch_id} of ours that no window knows.")
    if stray.is_running:
        raise InvalidMove(f"{provider_batch_id} still runs ({stray.status}): cancel it first.")
    is_meant = (func.lower(User.email) == admin_email.strip().lower(), User.role == "admin")
    admin = session.scalars(select(User).where(*is_meant)).one_or_none()
    if admin is None:
        raise NotFound(f"There is no administrator {admin_email}.")
    detail = {"providerBatch": provider_batch_id, "status": stray.status, "completed": stray.completed}
    audit(session, admin, ACKNOWLEDGE, f"window:{stray.window_id}", reason, detail)
    session.commit()


def _acknowledged(session: Session) -> dict[str, str]:
    """{provider batch: who acknowledged it, and why}"""
    rows = session.execute(
        select(AuditEvent.detail["providerBatch"].astext, User.email, AuditEvent.reason)
        .join(User, User.id == AuditEvent.user_id)
        .where(AuditEvent.action == ACKNOWLEDGE)
        .order_by(AuditEvent.id)
    )
    return {batch_id: f"{email}: {reason}" for batch_id, email, reason in rows}


def _parameters(session: Session, settings: Settings) -> dict[str, object]:
    now = clock(session)
    late, deadlines = now - HEARTBEAT_PATIENCE, settings.deadlines
    return {
        "lost": LOST_KEY, "heartbeat_limit": late, "n8n_limit": now - N8N_PATIENCE,
        "sync_limit": late - timedelta(seconds=settings.sync_deadline_seconds),
        "last_ride_limit": deadlines.past_last_ride(late), "last_call_limit": deadlines.past_last_call(late),
    }  # fmt: skip
