"""The audit log: what administrators did, narrowed down by the address of the page."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from webapp.extensions import db
from webapp.parts import parts
from webapp.services import audit
from webapp.views.access import require_admin
from webapp.views.downloads import download

bp = Blueprint("audit", __name__, url_prefix="/admin")
bp.before_request(require_admin)

DAYS = {"from": "since", "to": "until"}  # name in the address: name of the filter
FIRST_YEAR, LAST_YEAR = 2000, 2999  # beyond, a time zone can lead out of the calendar


@bp.get("/audit")
def index() -> ResponseReturnValue:
    filters, query, ignored = _asked()
    before = request.args.get("before", type=int)
    deeds = audit.list_audit(db.session(), before=before, **filters)
    return render_template(
        "admin/audit.html", audit=deeds, query=query, ignored=ignored, before=before,
        older=deeds[-1].id if len(deeds) == audit.AUDIT_PAGE else None, actions=audit.list_actions(db.session()),
    )  # fmt: skip


@bp.get("/audit.csv")
def export() -> ResponseReturnValue:
    filters, *_ = _asked()
    return download("audit.csv", "text/csv", lambda file: audit.write_csv(db.session(), file, **filters))


def _asked() -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """(the filters of the service, the same as the query of an address, what was ignored and why)."""
    given = {key: request.args.get(key, "").strip() for key in ("who", "action", "target", *DAYS)}
    filters: dict[str, Any] = {key: given[key] or None for key in ("who", "action", "target")}
    ignored = []
    for name, filter_name in DAYS.items():
        if not given[name]:
            continue
        day = _day(given[name])
        if day is None:
            ignored.append(f"“{given.pop(name)}” is no day; days are written as 2026-11-24.")
        else:
            filters[filter_name] = day if name == "from" else day + timedelta(days=1)
    return filters, {key: text for key, text in given.items() if text}, ignored


def _day(text: str) -> datetime | None:
    """Its first moment in TIME_ZONE."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return datetime.combine(day, time(), parts().settings.zone) if FIRST_YEAR <= day.year <= LAST_YEAR else None
