"""Is the system well? Each part in words, with what to do when it is not; the runbook says more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from weakref import WeakKeyDictionary

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from webapp.domain.states import WindowStatus
from webapp.gateways.n8n import N8n
from webapp.gateways.storage import Storage
from webapp.models import BatchWindow
from webapp.services import reporting, vitals
from webapp.services.batches import QueueView
from webapp.services.prepared import prepared
from webapp.services.shutdowns import Shutdown

N8N_CHECK_SECONDS = 10.0
MOST_FAILURES = 1_000
OVERDUE_SECONDS = 600.0  # a message to a webhook
State = Literal["ok", "late", "bad"]  # the tones of the pages
Heading = Literal[
    "",
    "heartbeat",
    "n8n is down",
    "server-errors",
    "A key is revoked",
    "Quota exhausted",
    "failed-windows",
    "The provider is down",
    "queue-age",
]  # of docs/runbook.md
ERROR_WORDS = {
    "no_answer": "did not answer", "rate_limited": "had too many calls, or no quota", "denied": "refused the key",
    "refused": "refused the request", "server": "had an error of its own",
}  # fmt: skip
_n8n_said: WeakKeyDictionary[N8n, tuple[float, bool]] = WeakKeyDictionary()  # when asked (monotonic), and what


@dataclass(frozen=True)
class Check:
    """One part of the system. `todo` and `runbook` are empty where all is well."""

    part: str
    state: State
    says: str
    todo: str = ""
    runbook: Heading = ""


def checks(
    session: Session, migrations: str, n8n: N8n, storage: Storage, queues: Sequence[QueueView],
    shutdowns: Sequence[Shutdown], now: datetime,
) -> list[Check]:  # fmt: skip
    """Every part, in the order of the page. `migrations` is their folder. n8n and the document store were asked ten
    seconds ago, at most."""
    return [
        _heartbeat(session),
        _n8n(n8n),
        _migrations(session, migrations),
        _documents(storage),
        _provider(session, now),
        _windows(session, now),
        _queues(queues),
        _webhooks(session),
        _models(shutdowns),
    ]


def _heartbeat(session: Session) -> Check:
    age = vitals.heartbeat_age(session)
    said = reporting.say_heartbeat(age)
    if said == "ok" and age is not None:
        return Check("Heartbeat", "ok", f"It beat {max(age, 0):.0f} s ago.")
    return Check(
        "Heartbeat", "bad", f"It {said}." if said.startswith("has") else f"It is {said}.",
        "Start it again. Until then nothing is repeated and no deadline is kept; sync jobs still run.", "heartbeat",
    )  # fmt: skip


def _n8n(n8n: N8n) -> Check:
    if _n8n_is_healthy(n8n):
        return Check("n8n", "ok", "It answers.")
    return Check(
        "n8n", "bad", "It does not answer.", "Start it again; jobs and windows then go on by themselves.", "n8n is down"
    )


def _n8n_is_healthy(n8n: N8n) -> bool:
    """Asking can take two seconds, and every admin page that is open asks again and again."""
    now = time.monotonic()
    asked_at, said = _n8n_said.get(n8n, (float("-inf"), False))
    if now - asked_at >= N8N_CHECK_SECONDS:
        said = n8n.is_healthy()
        _n8n_said[n8n] = now, said
    return said


def _migrations(session: Session, folder: str) -> Check:
    said = reporting.check_migrations(session, folder)
    if said == "ok":
        return Check("Database", "ok", "It answers, and its tables are those of this version.")
    return Check("Database", "bad", "Its tables are those of an older version.", said.capitalize() + ".")


def _documents(storage: Storage) -> Check:
    said = reporting.check_storage(storage)
    if said == "ok":
        return Check("Document store", "ok", "It can be read and written.")
    return Check(
        "Document store", "bad", said,
        "Uploads are refused until it is back; jobs that exist go on. See its settings and rights.", "server-errors",
    )  # fmt: skip


def _provider(session: Session, now: datetime) -> Check:
    found = vitals.provider_errors(session, now - vitals.RECENT)
    errors = {kind: count for kind, count in found.items() if count}
    if not errors:
        return Check("Provider", "ok", "No error in the last 15 minutes.")
    worst = max(errors, key=lambda kind: errors[kind])
    said = "; ".join(f"it {ERROR_WORDS[kind]} ({count:,})" for kind, count in errors.items())
    advice: dict[str, tuple[str, Heading]] = {
        "denied": ("Hold the queues, and give a key that works.", "A key is revoked"),
        "rate_limited": ("Raise the limit or pay at the provider; what waits is tried again.", "Quota exhausted"),
        "refused": ("See the failures: mostly a profile's request is wrong.", "failed-windows"),
    }
    otherwise: tuple[str, Heading] = ("Nothing, if it is short: what waits is tried again.", "The provider is down")
    todo, runbook = advice.get(worst, otherwise)
    state: State = "bad" if "denied" in errors else "late"
    return Check("Provider", state, f"In the last 15 minutes {said}.", todo, runbook)


_newest_lost = (  # by ix_batch_windows_keeps_files
    select(BatchWindow.id)
    .where(
        BatchWindow.finished_at > vitals.SINCE, BatchWindow.files_deleted_at.is_(None),
        or_(BatchWindow.status == WindowStatus.FAILED, BatchWindow.status == WindowStatus.EXPIRED),
    )
    .limit(MOST_FAILURES)
    .subquery()
)  # fmt: skip
_window_counts = prepared(
    select(
        select(func.count()).where(BatchWindow.finished_at.is_(None), BatchWindow.problem.is_not(None))
        .scalar_subquery().label("troubled"),
        select(func.count()).select_from(_newest_lost).scalar_subquery().label("failed"),
    )
)  # fmt: skip


def _windows(session: Session, now: datetime) -> Check:
    """Of the last day; what is unfinished and has a problem now."""
    [(troubled, failed)] = _window_counts(session, since=now - timedelta(days=1))
    said = [f"{failed} failed or expired within a day"] * bool(failed)
    said += [f"{troubled} of the unfinished ones ran into a problem and are tried again"] * bool(troubled)
    if not said:
        return Check("Windows", "ok", "None failed within a day, none has a problem now.")
    todo = "See the failed ones, and what their pages say; their jobs went back to the queue, or can be repeated."
    return Check("Windows", "late", f"{'; '.join(said)}.", todo, "failed-windows")


def _queues(queues: Sequence[QueueView]) -> Check:
    held = sum(view.state.is_held for view in queues)
    paused = sum(view.readiness.reason in ("not_before", "no_room") for view in queues)
    said = [f"{held} held by an administrator"] * bool(held)
    said += [f"{paused} paused because the provider has no room or asked for it"] * bool(paused)
    if not said:
        return Check("Queues", "ok", "None is held or paused.")
    todo = "Resume what was held when its cause is mended." if held else "Wait, or raise the limit at the provider."
    return Check("Queues", "late", f"{'; '.join(said)}.".capitalize(), todo, "queue-age")


def _webhooks(session: Session) -> Check:
    waiting, overdue = vitals.webhook_figures(session)
    messages = {0: "No message waits", 1: "1 message waits"}.get(waiting, f"{waiting:,} messages wait")
    if overdue < OVERDUE_SECONDS:
        return Check("Webhooks", "ok", f"{messages} for the next try.")
    todo = "The heartbeat sends them: if it beats, its log says what keeps it, or one address is slow and has many."
    said = f"{messages}, one of them for {overdue / 60:.0f} minutes longer than it should."
    return Check("Webhooks", "late", said, todo, "heartbeat")


def _models(shutdowns: Sequence[Shutdown]) -> Check:
    if not shutdowns:
        return Check("Models", "ok", "None of those in use is announced to be switched off.")
    gone = [one for one in shutdowns if one.has_happened]
    said = "; ".join(
        f"{one.model} of {one.profile.name} {'went' if one.has_happened else 'goes'} on {one.on:%d %b %Y}"
        for one in shutdowns
    )
    todo = "The provider switches them off: give these profiles, or the settings, another model."
    return Check("Models", "bad" if gone else "late", f"{said}.", todo)
