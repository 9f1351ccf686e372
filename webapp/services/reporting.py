"""Read-only questions: is everything there, and what did a job cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from weakref import WeakKeyDictionary

from alembic.script import ScriptDirectory
from psycopg.errors import UndefinedTable
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session

from webapp.domain.errors import UnavailableService
from webapp.domain.states import ExecutionMode
from webapp.gateways.n8n import N8n
from webapp.gateways.storage import Storage
from webapp.models import LedgerEntry
from webapp.services import vitals
from webapp.services.ledger import LOST_KEY
from webapp.services.prepared import prepared

HEARTBEAT_STALE_SECONDS = 15
STORAGE_CHECK_SECONDS = 10.0
_storage_said: WeakKeyDictionary[Storage, tuple[float, str]] = WeakKeyDictionary()  # when asked (monotonic), and what


def readiness_checks(
    make_session: Callable[[], Session], migrations: str, n8n: N8n, storage: Storage
) -> dict[str, str]:  # fmt: skip
    """{part: "ok" or what is wrong} for the database, its migrations (a folder), the heartbeat, n8n and the document
    store."""
    checks = {"database": "ok", "migrations": "unknown", "heartbeat": "unknown"}
    try:
        session = make_session()
        checks["migrations"] = check_migrations(session, migrations)
        if checks["migrations"] == "ok":
            checks["heartbeat"] = check_heartbeat(session)
        session.rollback()
    except SQLAlchemyError:
        checks["database"] = "no answer"
    checks["n8n"] = "ok" if n8n.is_healthy() else "no answer"
    checks["documents"] = check_storage(storage)
    return checks


def check_storage(storage: Storage) -> str:
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


_stored_revisions = prepared(text("SELECT version_num FROM alembic_version"))


def check_migrations(session: Session, folder: str) -> str:
    """A revision that this code does not know is a newer one. It adds before it takes away, so these tables do, too."""
    try:
        found = {row.version_num for row in _stored_revisions(session)}
    except ProgrammingError as error:
        if not isinstance(error.orig, UndefinedTable):
            raise
        session.rollback()
        found = set()
    heads, known = _revisions(folder)
    return "ok" if found == heads or found - known else "run `flask db upgrade`"


@lru_cache
def _revisions(folder: str) -> tuple[set[str], set[str]]:
    """(the newest of this code, all of it)"""
    scripts = ScriptDirectory(folder)
    return set(scripts.get_heads()), {script.revision for script in scripts.walk_revisions()}


def check_heartbeat(session: Session) -> str:
    """ "ok", or since when it is silent."""
    return say_heartbeat(vitals.heartbeat_age(session))


def say_heartbeat(age: float | None) -> str:
    """The same of its age in seconds."""
    if age is None:
        return "has never beaten"
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
