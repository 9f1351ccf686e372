"""Read-only questions: is everything there, what is going on, what did it cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import and_, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, joinedload

from webapp.domain.errors import NotFound, UnavailableService
from webapp.domain.states import ExecutionMode, JobStatus
from webapp.gateways.n8n import N8n
from webapp.gateways.storage import Storage
from webapp.models import BatchItem, BatchWindow, Heartbeat, Job, JobResult, LedgerEntry, Queue, WindowEvent
from webapp.models.operation import BEAT_ROW
from webapp.services import costs
from webapp.services.clock import clock
from webapp.services.ledger import LOST_KEY

HEARTBEAT_STALE_SECONDS = 15
STORAGE_CHECK_SECONDS = 10.0
_storage_said: WeakKeyDictionary[Storage, tuple[float, str]] = WeakKeyDictionary()  # when asked (monotonic), and what


def readiness_checks(
    make_session: Callable[[], Session], config: Config, n8n: N8n, storage: Storage
) -> dict[str, str]:  # fmt: skip
    """{part: "ok" or what is wrong} for the database, its migrations, the heartbeat, n8n and the document store."""
    checks = {"database": "ok", "migrations": "unknown", "heartbeat": "unknown"}
    try:
        session = make_session()
        checks["migrations"] = _check_migrations(session, config)
        if checks["migrations"] == "ok":
            checks["heartbeat"] = _check_heartbeat(session)
        session.rollback()
    except SQLAlchemyError:
        checks["database"] = "no answer"
    checks["n8n"] = "ok" if n8n.is_healthy() else "no answer"
    checks["documents"] = _check_storage(storage)
    return checks


def _check_storage(storage: Storage) -> str:
    """What it said when it was last asked, ten seconds ago at most: anybody may ask us, and a token can take long."""
    now = time.monotonic()
    asked_at, said = _storage_said.get(storage, (float("-inf"), "not known yet"))
    if now - asked_at >= STORAGE_CHECK_SECONDS:
        _storage_said[storage] = now, said  # whoever comes meanwhile does not wait, too
        try:
            storage.check()
            said = "ok"
        except UnavailableService as error:
            said = error.message
        _storage_said[storage] = now, said
    return said


def _check_migrations(session: Session, config: Config) -> str:
    """A revision that this code does not know is a newer one. It adds before it takes away, so these tables do, too."""
    found = set(MigrationContext.configure(session.connection()).get_current_heads())
    heads, known = _revisions(str(config.get_main_option("script_location")))
    return "ok" if found == heads or found - known else "run `flask db upgrade`"


@lru_cache
def _revisions(location: str) -> tuple[set[str], set[str]]:
    """(the newest of this code, all of it)"""
    scripts = ScriptDirectory(location)
    return set(scripts.get_heads()), {script.revision for script in scripts.walk_revisions()}


def _check_heartbeat(session: Session) -> str:
    at = session.execute(select(Heartbeat.at).where(Heartbeat.name == BEAT_ROW)).scalar_one_or_none()
    if at is None:
        return "has never beaten"
    age = (clock(session) - at).total_seconds()
    return "ok" if age < HEARTBEAT_STALE_SECONDS else f"silent for {age:.0f} s"


@dataclass(frozen=True)
class JobCost:
    amount: Decimal | None  # USD known so far; None when nothing is known
    unknown: int  # entries whose amount is unknown
    entries: list[LedgerEntry]

    @property
    def saved(self) -> Decimal | None:
        """USD: what its batch answers would have cost in sync, less what was paid; None if it ran in no batch."""
        batch = [entry for entry in self.entries if entry.execution_mode is ExecutionMode.BATCH]
        known = [e for e in batch if e.amount is not None and e.sync_amount is not None]
        worth = (Decimal() if e.reason == "discarded" else e.sync_amount or Decimal() for e in known)
        return sum(worth, Decimal()) - sum((e.amount or Decimal() for e in known), Decimal()) if known else None


def job_cost(session: Session, job_id: int) -> JobCost:
    """What this job cost, discarded answers included."""
    entries = list(session.scalars(select(LedgerEntry).where(LedgerEntry.job_id == job_id).order_by(LedgerEntry.id)))
    answered = {entry.attempt for entry in entries if entry.answer_key != LOST_KEY}
    entries = [entry for entry in entries if entry.answer_key != LOST_KEY or entry.attempt not in answered]
    known = [entry.amount for entry in entries if entry.amount is not None]
    return JobCost(sum(known, Decimal()) if known else None, len(entries) - len(known), entries)


@dataclass(frozen=True)
class Overview:
    """The figures at the top of the admin page."""

    by_status: dict[str, int]
    spent: Decimal  # USD
    saved: Decimal  # USD, by batching
    unknown_entries: int
    p50_ms: float | None
    p95_ms: float | None


def overview(session: Session) -> Overview:
    """Counts of all jobs by status, all that was spent and saved, and the latency of the last day's answers."""
    counts = session.execute(select(Job.status, func.count()).group_by(Job.status))
    by_status = {status.value: 0 for status in JobStatus} | {status.value: count for status, count in counts}
    spent, saved, unknown = costs.totals(session)
    day = clock(session) - timedelta(days=1)
    p50, p95 = session.execute(
        select(
            func.percentile_cont(0.5).within_group(JobResult.total_ms),
            func.percentile_cont(0.95).within_group(JobResult.total_ms),
        ).where(JobResult.created_at > day)
    ).one()
    return Overview(by_status, spent, saved, unknown, p50, p95)


def list_windows(
    session: Session, *, queue_id: int | None = None, before: int | None = None, size: int = 20
) -> list[BatchWindow]:
    """The newest windows (of one queue, or of all) with their queue."""
    statement = select(BatchWindow).options(joinedload(BatchWindow.queue)).order_by(BatchWindow.id.desc())
    if queue_id is not None:
        statement = statement.where(BatchWindow.queue_id == queue_id)
    if before is not None:
        statement = statement.where(BatchWindow.id < before)
    return list(session.scalars(statement.limit(size)))


def window_items(session: Session, window_id: int, *, after: str = "", size: int = 100) -> list[Any]:
    """The items of one window with their jobs, in order of custom_id."""
    return list(
        session.execute(
            select(BatchItem, Job)
            .join(Job, Job.id == BatchItem.job_id)
            .where(BatchItem.window_id == window_id, BatchItem.custom_id > after)
            .order_by(BatchItem.custom_id)
            .limit(size)
        )
    )


def get_window(session: Session, window_id: int) -> BatchWindow:
    """Raises NotFound."""
    window = session.get(BatchWindow, window_id, options=[joinedload(BatchWindow.queue)])
    if window is None:
        raise NotFound
    return window


def get_queue(session: Session, queue_id: int) -> Queue:
    """Raises NotFound."""
    queue = session.get(Queue, queue_id)
    if queue is None:
        raise NotFound
    return queue


@dataclass(frozen=True)
class CostLine:
    reason: str  # answer | discarded | refused | answer_lost
    entries: int
    amount: Decimal | None  # USD known; None when nothing is
    unknown: int


def window_costs(session: Session, window_id: int) -> list[CostLine]:
    """What the answers of this window cost, by what became of them."""
    rows = session.execute(
        select(LedgerEntry.reason, func.count(), func.sum(LedgerEntry.amount),
               func.count().filter(LedgerEntry.amount.is_(None)))
        .join(BatchItem, and_(BatchItem.job_id == LedgerEntry.job_id, BatchItem.attempt == LedgerEntry.attempt))
        .where(BatchItem.window_id == window_id, LedgerEntry.execution_mode == ExecutionMode.BATCH)
        .group_by(LedgerEntry.reason)
        .order_by(LedgerEntry.reason)
    )  # fmt: skip
    return [CostLine(*row) for row in rows]


def window_events(session: Session, window_id: int) -> list[WindowEvent]:
    """Oldest first."""
    statement = select(WindowEvent).where(WindowEvent.window_id == window_id)
    return list(session.scalars(statement.order_by(WindowEvent.at, WindowEvent.id)))


def window_outcomes(session: Session, window_id: int) -> dict[str, int]:
    """{outcome: items}, "open" for those without one."""
    rows = session.execute(
        select(BatchItem.outcome, func.count()).where(BatchItem.window_id == window_id).group_by(BatchItem.outcome)
    )
    return {outcome.value if outcome else "open": count for outcome, count in rows}
