"""How the system does: what failed and why, whether its parts are well, how long jobs take."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, flash, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from webapp.domain.states import ExecutionMode
from webapp.extensions import db, migrate
from webapp.parts import parts
from webapp.services import batches, failure_reports, health, latency, shutdowns
from webapp.services.batches import MOST_QUEUED
from webapp.services.clock import clock
from webapp.services.latency import HOUR, HourLatency
from webapp.views.access import require_admin
from webapp.views.htmx import reply

bp = Blueprint("operations", __name__, url_prefix="/admin")
bp.before_request(require_admin)

POLL_SECONDS = 10
PERIODS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days"}
MODES = {ExecutionMode.SYNC: "Now", ExecutionMode.BATCH: "Batch"}


@bp.get("/failures")
def failures() -> ResponseReturnValue:
    chosen = request.args.get("period") or "24h"
    if chosen not in PERIODS:
        flash(f"There is no period “{chosen[:40]}”: the last 24 hours are shown.", "warning")
        chosen = "24h"
    session, period = db.session(), failure_reports.PERIODS[chosen]
    since = (clock(session) - period).astimezone(parts().settings.zone).date()
    return render_template(
        "admin/failures.html", chosen=chosen, since=since, periods=PERIODS,
        jobs=failure_reports.job_failures(session, period), most=failure_reports.MOST_OF_A_CODE,
        executions=failure_reports.execution_failures(session, period),
    )  # fmt: skip


@bp.get("/health")
def index() -> ResponseReturnValue:
    session, ours, now = db.session(), parts(), clock(db.session())
    queues = batches.list_queues(session, ours.settings, ours.profiles, at_most=MOST_QUEUED, now=now)
    going = shutdowns.shutdowns(session, ours.settings, ours.prices, ours.profiles, now)
    found = health.checks(session, migrate.directory, ours.n8n, ours.storage, queues, going, now)
    return reply("admin/health.html", "admin/_health.html", checks=found, poll_seconds=POLL_SECONDS)


@bp.get("/latency")
def latencies() -> ResponseReturnValue:
    session, now = db.session(), clock(db.session())
    return render_template(
        "admin/latency.html", hours=latency.by_hour(session, now), day=latency.last_day(session, now), modes=MODES,
        most=latency.MOST_OF_AN_HOUR,
    )  # fmt: skip


@bp.get("/latency/chart.json")
def latency_chart() -> ResponseReturnValue:
    now = clock(db.session())
    return jsonify(_chart(latency.by_hour(db.session(), now), now))


def _chart(lines: list[HourLatency], now: datetime) -> dict[str, Any]:
    """Each hour from the first that has an answer until now; one without is a gap."""
    found = {(line.hour, line.mode): line for line in lines}
    hours = []
    if lines:
        hour = min(line.hour for line in lines)
        while hour <= now:
            hours.append(hour)
            hour += HOUR
    series = [
        {"label": f"{label} {name}", "values": [_figure(found.get((hour, mode)), name) for hour in hours]}
        for mode, label in MODES.items() for name in ("p50", "p95")
    ]  # fmt: skip
    return {
        "title": "From created until stored", "unit": "s", "kind": "lines",
        "series": [one for one in series if any(value is not None for value in one["values"])],
        "x": {"type": "time", "label": "Hour", "unit": "", "values": [int(hour.timestamp()) for hour in hours]},
    }  # fmt: skip


def _figure(line: HourLatency | None, name: str) -> float | None:
    return round(float(getattr(line, name)), 3) if line else None
