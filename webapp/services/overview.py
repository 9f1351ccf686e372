"""The figures at the top of the admin page. Each is bounded in time, or of a table that stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.domain.states import ExecutionMode, JobStatus
from webapp.models import BatchWindow
from webapp.services import cost_reports, costs, latency, vitals
from webapp.services.batches import QueueView
from webapp.services.prepared import prepared

DAY = timedelta(days=1)


_windows, _in_windows = (
    select(figure).where(BatchWindow.finished_at.is_(None)).scalar_subquery()
    for figure in (func.count(), func.coalesce(func.sum(BatchWindow.job_count), 0))
)
_now = prepared(select(*vitals.sync_counts(), _windows.label("windows"), _in_windows.label("in_windows")))


@dataclass(frozen=True)
class Overview:
    created: int  # sync jobs that nobody has started
    running: int  # sync jobs that an n8n execution has
    queued: int
    windows: int  # unfinished
    in_windows: int  # jobs that these windows were opened with
    ended: dict[JobStatus, int]  # within a day, of the newest vitals.MOST_COUNTED
    is_at_least: bool  # … which are not all of them
    spent: Decimal  # USD, of 30 days as /admin/costs has them
    saved: Decimal  # USD, by batching, of the same
    unknown_entries: int  # of all times
    latency: dict[ExecutionMode, vitals.Spread]  # seconds, of a day


def overview(session: Session, queues: Sequence[QueueView], now: datetime) -> Overview:
    """What goes on now, what ended within a day, what that took, and what 30 days cost."""
    [(created, running, windows, in_windows)] = _now(session)
    ended: Counter[JobStatus] = Counter()
    for (_, status), count in vitals.ended_since(session, now - DAY).items():
        ended[status] += count
    spent, saved, unknown = costs.totals(session, cost_reports.period("30d", now)[0])
    return Overview(
        created=created, running=running, queued=sum(view.state.queued for view in queues),
        windows=windows, in_windows=int(in_windows), ended=dict.fromkeys(JobStatus, 0) | ended,
        is_at_least=ended.total() >= vitals.MOST_COUNTED, spent=spent, saved=saved, unknown_entries=unknown,
        latency=latency.last_day(session, now),
    )  # fmt: skip
