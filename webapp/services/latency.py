"""How long completed jobs took, from created until stored: now and in a batch, as a whole and hour by hour.

Of each hour the newest MOST_OF_AN_HOUR jobs are read, so that a busy day costs no more than a quiet one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, literal, select, true
from sqlalchemy.orm import Session

from webapp.domain.states import ExecutionMode, JobStatus
from webapp.models import Job
from webapp.services import vitals

HOURS = 24
MOST_OF_AN_HOUR = 1_000
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class HourLatency:
    hour: datetime  # its beginning, UTC
    mode: ExecutionMode
    jobs: int  # that were read
    p50: float  # seconds
    p95: float  # seconds


def last_day(session: Session, now: datetime) -> dict[ExecutionMode, vitals.Spread]:
    """{mode: (p50, p95) in seconds} of the newest jobs that ended within a day."""
    return vitals.job_spreads(session, now - timedelta(days=1))


def by_hour(session: Session, now: datetime) -> list[HourLatency]:
    """The last HOURS, the newest first; hours and modes in which no job was completed are not there."""
    this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = func.generate_series(this_hour - (HOURS - 1) * HOUR, this_hour, HOUR).table_valued("hour").render_derived()
    ended = (  # by ix_jobs_keeps_request
        select(Job.execution_mode, Job.status, vitals.took(Job).label("took"))
        .where(
            Job.finished_at >= hours.c.hour, Job.finished_at < hours.c.hour + literal(HOUR),
            Job.request_deleted_at.is_(None),
        )
        .order_by(Job.finished_at.desc())
        .limit(MOST_OF_AN_HOUR)
        .lateral("ended")
    )  # fmt: skip
    rows: Any = session.execute(
        select(hours.c.hour, ended.c.execution_mode, func.count(), vitals.quantiles(ended.c.took))
        .select_from(hours)
        .join(ended, true())
        .where(ended.c.status == JobStatus.COMPLETED)
        .group_by(hours.c.hour, ended.c.execution_mode)
        .order_by(hours.c.hour.desc(), ended.c.execution_mode)
    )
    return [HourLatency(hour.astimezone(UTC), mode, count, *found) for hour, mode, count, found in rows]
