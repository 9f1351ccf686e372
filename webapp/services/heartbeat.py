"""The clock of the system: dispatch, repeat, end leases, keep deadlines, nudge n8n, have webhooks told, delete what has
had its time.

Everything it does is safe to do twice.

One process leads, by a session-level advisory lock on a connection of its own; others wait to take over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import UnavailableService
from webapp.domain.pricing import PriceList
from webapp.gateways.n8n import N8n
from webapp.gateways.provider_files import ProviderFiles
from webapp.gateways.provider_models import ProviderModels
from webapp.gateways.storage import Storage
from webapp.gateways.webhook_sender import WebhookSender
from webapp.models import Heartbeat
from webapp.models.operation import BEAT_ROW
from webapp.services import benchmarks, costs, retention, shutdowns, submissions, vitals
from webapp.services.batches import has_ready_queue
from webapp.services.clock import clock
from webapp.services.deadlines import cut_off_windows, run_due_jobs_now
from webapp.services.dispatch import dispatch_due, end_overdue_attempts, end_overdue_jobs
from webapp.services.registry import Profiles
from webapp.services.webhook_delivery import Deliverer
from webapp.services.windows import end_cancelled_unsent, has_due_window

log = logging.getLogger(__name__)

LEADER_LOCK = 7_300
RETENTION_EVERY_SECONDS = 60.0  # while nothing is left to delete; else at each beat
ROLL_UP_EVERY_SECONDS = 60.0  # while less than one portion is left; else at each beat
MODELS_EVERY_SECONDS = 6 * 3600.0  # how often the provider is asked which models it will switch off
REFILL_SECONDS = 0.1  # between two looks at the sync jobs while many wait: n8n ends dozens of them in a beat
NUDGE_AGAIN_SECONDS = 5.0  # a nudge that changed nothing is repeated no sooner


class Clients(Protocol):
    """What the heartbeat needs of the app's parts (`webapp.parts.Parts` has it)."""

    @property
    def settings(self) -> Settings: ...
    @property
    def profiles(self) -> Profiles: ...
    @property
    def prices(self) -> PriceList: ...
    @property
    def n8n(self) -> N8n: ...
    @property
    def storage(self) -> Storage: ...
    @property
    def files(self) -> ProviderFiles: ...
    @property
    def models(self) -> ProviderModels: ...
    @property
    def webhooks(self) -> WebhookSender: ...


@dataclass
class Beat:
    """What one process remembers between beats; losing it costs nothing but a repeated nudge."""

    nudged_at: float = float("-inf")  # monotonic
    retention_due_at: float = float("-inf")  # monotonic
    roll_up_due_at: float = float("-inf")  # monotonic
    models_due_at: float = float("-inf")  # monotonic
    overdue: vitals.Overdue = field(default_factory=dict)  # at the last line of vitals
    dispatched: int = 0  # sync jobs, the last time
    deliverer: Deliverer | None = None  # sends to webhooks, beside the beats


def run(engine: Engine, clients: Clients, *, should_stop: Callable[[float], bool]) -> None:
    """Beat until told to stop. `should_stop(seconds)` waits that long and tells whether to stop."""
    while not should_stop(0):
        try:
            with engine.connect() as connection:
                connection.detach()  # closed for real at the end: back in the pool it would keep the lock
                _lead(connection, engine, clients, should_stop)
        except DBAPIError:
            log.exception("the database is away; the heartbeat waits")
            should_stop(clients.settings.heartbeat_seconds)


def _lead(connection: Connection, engine: Engine, clients: Clients, should_stop: Callable[[float], bool]) -> None:
    """Beat while this connection holds the lock: when it breaks, the lock is gone and so is the lead."""
    is_leader = False
    with closing(Deliverer(engine, clients.webhooks, clients.settings.secret_key.get_secret_value())) as deliverer:
        beat = Beat(deliverer=deliverer)
        while not _rest(engine, clients, beat, should_stop):
            if not is_leader:
                is_leader = connection.execute(select(func.pg_try_advisory_lock(LEADER_LOCK))).scalar_one()
            else:
                connection.execute(select(1))
            connection.commit()
            if is_leader:
                with Session(engine) as session:
                    tick(session, clients, beat)


def _rest(engine: Engine, clients: Clients, beat: Beat, should_stop: Callable[[float], bool]) -> bool:
    """Wait for the next beat; True: stop. While sync jobs are dispatched, those that end make room for others."""
    next_at = time.monotonic() + clients.settings.heartbeat_seconds
    while beat.dispatched and time.monotonic() + REFILL_SECONDS < next_at:
        if should_stop(REFILL_SECONDS):
            return True
        with Session(engine) as session:
            _try(session, partial(_dispatch, session, clients, beat))
    return should_stop(max(next_at - time.monotonic(), 0))


def tick(session: Session, clients: Clients, beat: Beat) -> None:
    """One beat. Each action commits by itself; one that fails is logged and does not keep the others from their turn.

    Raises DBAPIError when the database is away.
    """
    settings, profiles, n8n = clients.settings, clients.profiles, clients.n8n
    actions: tuple[Callable[[], object], ...] = (
        lambda: end_overdue_attempts(session, settings),
        lambda: end_overdue_jobs(session, settings),
        lambda: cut_off_windows(session),
        lambda: end_cancelled_unsent(session),
        lambda: run_due_jobs_now(session, settings),
        lambda: _write_beat(session),
        lambda: _write_vitals(session, settings, profiles, beat),
        lambda: benchmarks.advance(session, settings, profiles, clients.prices),
        lambda: _dispatch(session, clients, beat),
        lambda: _nudge_if_due(session, settings, profiles, n8n, beat),
        lambda: _delete_due(session, clients, beat),
        lambda: _roll_up_due(session, beat),
        lambda: _refresh_models(session, clients, beat),
        lambda: _end_submissions(session),
        lambda: _deliver_due(session, beat),
    )
    for action in actions:
        _try(session, action)


def _try(session: Session, action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        log.exception("an action of the heartbeat failed")
        session.rollback()


def _dispatch(session: Session, clients: Clients, beat: Beat) -> None:
    beat.dispatched = 0  # also after a failure
    beat.dispatched = dispatch_due(session, clients.settings, clients.profiles, clients.n8n)


def _nudge_if_due(session: Session, settings: Settings, profiles: Profiles, n8n: N8n, beat: Beat) -> None:
    is_due = has_due_window(session) or has_ready_queue(session, settings, profiles)
    session.rollback()
    if not is_due:
        beat.nudged_at = float("-inf")  # what falls due next is news
    elif time.monotonic() - beat.nudged_at >= NUDGE_AGAIN_SECONDS:
        try:
            n8n.nudge()
            beat.nudged_at = time.monotonic()
        except UnavailableService as error:
            log.warning("n8n was not nudged: %s", error)


def _delete_due(session: Session, clients: Clients, beat: Beat) -> None:
    if time.monotonic() < beat.retention_due_at:
        return
    beat.retention_due_at = time.monotonic() + RETENTION_EVERY_SECONDS  # also after a failure
    if retention.delete_due(session, clients.settings, clients.storage, clients.files):
        beat.retention_due_at = float("-inf")


def _roll_up_due(session: Session, beat: Beat) -> None:
    if time.monotonic() < beat.roll_up_due_at:
        return
    beat.roll_up_due_at = time.monotonic() + ROLL_UP_EVERY_SECONDS  # also after a failure
    if costs.roll_up(session) == costs.MOST_AT_ONCE:
        beat.roll_up_due_at = float("-inf")


def _refresh_models(session: Session, clients: Clients, beat: Beat) -> None:
    if time.monotonic() < beat.models_due_at:
        return
    beat.models_due_at = time.monotonic() + MODELS_EVERY_SECONDS
    try:
        shutdowns.refresh(session, clients.models)
    except UnavailableService as error:  # nothing depends on it; the price list knows the announced ones, too
        log.info("%s", error)


def _end_submissions(session: Session) -> None:
    submissions.end_submissions(session, clock(session))
    session.commit()


def _deliver_due(session: Session, beat: Beat) -> None:
    if beat.deliverer:
        beat.deliverer.start_due(session)


def _write_vitals(session: Session, settings: Settings, profiles: Profiles, beat: Beat) -> None:
    overdue = vitals.write_line(session, settings, profiles, beat.overdue)
    if overdue is not None:
        beat.overdue = overdue


def _write_beat(session: Session) -> None:
    statement = insert(Heartbeat).values(name=BEAT_ROW, at=clock(session))
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"at": statement.excluded.at}))
    session.commit()
