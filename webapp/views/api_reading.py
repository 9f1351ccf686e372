"""What the API tells about profiles and use: `/api/v1/profiles`, `/api/v1/usage`."""

from __future__ import annotations

from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Any

from flask import g
from flask.typing import ResponseReturnValue

from webapp.domain.errors import InvalidInput
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import cost_reports
from webapp.services.clock import clock
from webapp.services.cost_reports import Dimension, Line
from webapp.views import api_models as models
from webapp.views.api import bp, read_query, show


@bp.get("/profiles")
def list_profiles() -> ResponseReturnValue:
    return show(models.ProfileList(profiles=[
        models.Profile(
            id=profile.id, name=profile.name, description=profile.description, status=profile.status,
            execution_modes=profile.execution_modes, output=profile.output.type,
            document_fields=[field.key for field in profile.document_fields], inputs=profile.input_schema(),
        )
        for profile in parts().profiles
    ]))  # fmt: skip


@bp.get("/usage")
def get_usage() -> ResponseReturnValue:
    """30 days, unless the program says otherwise."""
    query = read_query(models.UsageQuery)
    last = query.last or clock(db.session()).astimezone(UTC).date()
    first = query.first or last - timedelta(days=29)
    if first > last:
        raise InvalidInput({"from": "This day is after the last one."})
    report = cost_reports.report(db.session(), cost_reports.Scope(first, last, user_id=g.user.id))
    lines = {name: [_line(line) for line in report.groups[name]] for name in Dimension}
    return show(models.UsageReport(
        first=first, last=last, total=_line(report.total), by_day=lines[Dimension.DAY],
        by_profile=lines[Dimension.PROFILE], by_model=lines[Dimension.MODEL], by_mode=lines[Dimension.MODE],
    ))  # fmt: skip


def _line(line: Line) -> models.UsageLine:
    return models.UsageLine(
        key=_key(line.key), answers=line.answers, input_tokens=line.input_tokens,
        cached_input_tokens=line.cached_input_tokens, output_tokens=line.output_tokens,
        cost_usd=None if line.amount is None else _usd(line.amount), saved_usd=_usd(line.saved), unknown=line.unknown,
    )  # fmt: skip


def _key(key: Any) -> str:
    return "total" if key is None else key.isoformat() if isinstance(key, date) else str(key)


def _usd(amount: Decimal) -> str:
    return format(amount.normalize(), "f")
