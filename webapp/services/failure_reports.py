"""What failed lately, by reason: jobs, and executions that n8n reported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from webapp.models import ExecutionFailure
from webapp.services.clock import clock

MOST_OF_A_CODE = 1_000  # jobs that are looked at: of each code the newest
MOST_CODES = 100
MOST_LINES = 100
PERIODS = {"24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}


@dataclass(frozen=True)
class JobFailures:
    """The failed jobs of one code and profile."""

    code: str | None  # None: the provider gave none
    profile_id: str
    jobs: int
    is_at_least: bool  # more of this code failed than were looked at
    first_at: datetime
    last_at: datetime
    example_id: int  # the newest
    message: str | None  # of the example


# All of it is in ix_jobs_failed: the codes are found by skipping from one to the next, and of each its newest failures
# are next to one another. Of those without a code the order is written out: PostgreSQL does not see that NULLs are
# equal, and would look through all jobs.
_BY_REASON = text("""
    WITH RECURSIVE codes (code) AS (
        SELECT min(failure_code) FROM jobs WHERE status = 'failed'
        UNION ALL
        SELECT (SELECT min(failure_code) FROM jobs WHERE status = 'failed' AND failure_code > code)
        FROM codes WHERE code IS NOT NULL
    ), newest AS (
        SELECT found.* FROM (SELECT code FROM codes WHERE code IS NOT NULL LIMIT :most_codes) AS known
        CROSS JOIN LATERAL (
            SELECT failure_code, profile_id, finished_at, id FROM jobs
            WHERE status = 'failed' AND failure_code = known.code AND finished_at > :since
            ORDER BY finished_at DESC, id DESC LIMIT :most
        ) AS found
        UNION ALL (
            SELECT failure_code, profile_id, finished_at, id FROM jobs
            WHERE status = 'failed' AND failure_code IS NULL AND finished_at > :since
            ORDER BY failure_code, finished_at DESC, id DESC LIMIT :most
        )
    ), lines AS (
        SELECT failure_code, profile_id, count(*) AS jobs, min(finished_at) AS first_at, max(finished_at) AS last_at,
               (array_agg(id ORDER BY finished_at DESC, id DESC))[1] AS example_id
        FROM newest GROUP BY failure_code, profile_id
    )
    SELECT lines.*, (SELECT failure_message FROM jobs WHERE id = lines.example_id) AS message FROM lines
    ORDER BY lines.jobs DESC, lines.last_at DESC
""")


def job_failures(session: Session, period: timedelta, *, most: int = MOST_OF_A_CODE) -> list[JobFailures]:
    """The jobs that failed within the period, by code and profile; the most frequent first."""
    found = session.execute(
        _BY_REASON, {"since": clock(session) - period, "most": most, "most_codes": MOST_CODES}
    ).all()
    seen: Counter[str | None] = Counter()
    for row in found:
        seen[row.failure_code] += row.jobs
    return [
        JobFailures(
            row.failure_code, row.profile_id, row.jobs, seen[row.failure_code] >= most, row.first_at, row.last_at,
            row.example_id, row.message,
        )
        for row in found
    ]  # fmt: skip


@dataclass(frozen=True)
class ExecutionFailures:
    """The reports of one workflow, node and message."""

    workflow: str | None
    last_node: str | None
    message: str | None
    executions: int
    first_at: datetime
    last_at: datetime
    example_id: str  # n8n's id of the last one


def execution_failures(session: Session, period: timedelta) -> list[ExecutionFailures]:
    """The executions that n8n reported within the period; the most frequent first, at most MOST_LINES."""
    reason = (ExecutionFailure.workflow, ExecutionFailure.last_node, ExecutionFailure.message)
    at, count = ExecutionFailure.reported_at, func.count()
    newest = func.array_agg(ExecutionFailure.execution_id.op("ORDER BY")(at.desc()))
    rows = session.execute(
        select(*reason, count, func.min(at), func.max(at), newest[1])
        .where(at > clock(session) - period)
        .group_by(*reason)
        .order_by(count.desc(), func.max(at).desc())
        .limit(MOST_LINES)
    )
    return [ExecutionFailures(*row) for row in rows]
