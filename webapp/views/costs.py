"""What the answers cost: by day, mode, model, profile and user, as charts, tables and CSV."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import urlencode

from flask import Blueprint, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from webapp.domain.errors import InvalidInput, NotFound
from webapp.domain.states import ExecutionMode
from webapp.extensions import db
from webapp.services import cost_entries, cost_reports
from webapp.services.clock import clock
from webapp.services.cost_reports import Dimension, Line, Report, Scope
from webapp.views.access import require_admin
from webapp.views.downloads import download

bp = Blueprint("costs", __name__, url_prefix="/admin/costs")
bp.before_request(require_admin)

DEFAULT_PERIOD = "30d"
MOST_BARS = 12  # the rest is one bar more


@bp.get("")
def index() -> ResponseReturnValue:
    session, now = db.session(), clock(db.session())
    scope, before = _scope(now), request.args.get("before", type=int)
    report = cost_reports.report(session, scope)
    unknown = cost_entries.list_unknown(session, scope, before=before) if report.total.unknown else []
    query = _query(scope)
    rest = lru_cache(lambda names: urlencode({name: value for name, value in query.items() if name not in names}))

    def narrowed(dimension: str, line: Line) -> str:
        own = _narrowed(dimension, line, scope)
        return "&".join(filter(None, (rest(tuple(own)), urlencode(own))))

    return render_template(
        "admin/costs.html", scope=scope, query=query, report=report,
        narrowed=narrowed,
        choices=cost_reports.choices(session, scope, report),
        periods={label: cost_reports.period(name, now) for name, label in cost_reports.PERIODS.items()},
        unknown=unknown, why_unknown=cost_entries.why_unknown, before=before,
        older=unknown[-1].id if len(unknown) == cost_entries.UNKNOWN_PAGE else None,
    )  # fmt: skip


@bp.get("/chart/<dimension>.json")
def chart(dimension: str) -> ResponseReturnValue:
    chosen, scope = _dimension(dimension), _scope(clock(db.session()))
    report = cost_reports.report(db.session(), scope)
    return jsonify(_day_chart(report, scope) if chosen is Dimension.DAY else _chart(report.groups[chosen], chosen))


@bp.get("/<dimension>.csv")
def groups_csv(dimension: str) -> ResponseReturnValue:
    chosen, scope = _dimension(dimension), _scope(clock(db.session()))
    lines = cost_reports.report(db.session(), scope).groups[chosen]
    return _csv(f"costs-by-{dimension}", scope, lambda file: cost_entries.write_groups(lines, chosen, file))


@bp.get("/entries.csv")
def entries_csv() -> ResponseReturnValue:
    scope = _scope(clock(db.session()))
    return _csv("ledger", scope, lambda file: cost_entries.write_entries(db.session(), scope, file))


def _dimension(name: str) -> Dimension:
    """Raises NotFound."""
    try:
        return Dimension(name)
    except ValueError:
        raise NotFound from None


def _scope(now: datetime) -> Scope:
    """What the address asks for: a period by name, or from one day to another. Raises InvalidInput."""
    given = request.args
    try:
        first, last = cost_reports.period(given.get("period") or DEFAULT_PERIOD, now)
        first, last = (date.fromisoformat(given.get("from") or str(first)),
                       date.fromisoformat(given.get("until") or str(last)))  # fmt: skip
        mode = ExecutionMode(given["mode"]) if given.get("mode") else None
        user_id = int(given["user"]) if given.get("user") else None
    except (KeyError, ValueError):
        raise InvalidInput({"": "There is no such period, mode or user. Days are written as 2026-11-24."}) from None
    today = now.astimezone(UTC).date()  # nothing is paid later, and the calendar ends somewhere
    first, last = sorted((min(first, today), min(last, today)))
    return Scope(first, last, mode, given.get("model") or None, given.get("profile") or None, user_id)


def _query(scope: Scope) -> dict[str, str | int]:
    """The scope as the query of an address."""
    query = {"from": str(scope.first), "until": str(scope.last), "mode": scope.mode and scope.mode.value,
             "model": scope.model, "profile": scope.profile_id, "user": scope.user_id}  # fmt: skip
    return {name: value for name, value in query.items() if value is not None}


def _narrowed(dimension: str, line: Line, scope: Scope) -> dict[str, str]:
    """What narrows the page down to one line of it."""
    if dimension != Dimension.DAY:
        return {dimension: str(line.key)}
    last = line.key if scope.step == "day" else (line.key + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    return {"from": str(max(line.key, scope.first)), "until": str(min(last, scope.last))}


def _day_chart(report: Report, scope: Scope) -> dict[str, Any]:
    """What each day cost, in both modes; a day without answers is a gap."""
    days = sorted(report.by_mode)
    if days and scope.step == "day":
        days = [scope.first + timedelta(days=number) for number in range((scope.last - scope.first).days + 1)]
    series = [
        {"label": label, "values": [float(report.by_mode.get(day, {}).get(mode, 0)) for day in days]}
        for label, mode in (("Now", ExecutionMode.SYNC), ("Batch", ExecutionMode.BATCH))
    ]
    seconds = [int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) for day in days]
    return {
        "title": f"Spent by {scope.step}", "unit": "USD", "kind": "bars", "stacked": True, "series": series,
        "x": {"type": "time", "label": scope.step.capitalize(), "unit": "UTC", "values": seconds},
    }  # fmt: skip


def _chart(lines: list[Line], dimension: Dimension) -> dict[str, Any]:
    shown, rest = lines[:MOST_BARS], lines[MOST_BARS:]
    labels = [line.label for line in shown]
    spent = [None if line.amount is None else float(line.amount) for line in shown]
    saved = [float(line.saved) for line in shown]
    if rest:
        labels.append(f"{len(rest)} others")
        spent.append(float(sum(line.amount or 0 for line in rest)))
        saved.append(float(sum(line.saved for line in rest)))
    return {
        "title": f"Spent and saved by {dimension.value}", "unit": "USD", "kind": "bars",
        "x": {"type": "category", "label": dimension.value.capitalize(), "unit": "", "values": labels},
        "series": [{"label": "Spent", "values": spent}, {"label": "Saved by batching", "values": saved}],
    }  # fmt: skip


def _csv(name: str, scope: Scope, write: Callable[[TextIO], None]) -> ResponseReturnValue:
    return download(f"{name}-{scope.first}-{scope.last}.csv", "text/csv", write)
