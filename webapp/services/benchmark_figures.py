"""What a benchmark run measured: figures for each mode and tier, and of each job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Subquery, case, cast, func, select
from sqlalchemy.orm import Session

from webapp.domain.states import ExecutionMode, JobStatus
from webapp.models import BenchmarkRun, BenchmarkSample, Job, LedgerEntry
from webapp.services import vitals
from webapp.services.ledger import is_unknown


@dataclass(frozen=True)
class Figures:
    """Of one mode and tier, of a mode (tier None), or of the whole run (both None). Latencies are of completed jobs."""

    mode: ExecutionMode | None
    tier: str | None
    submitted: int
    completed: int
    failed: int  # without an answer: failed or expired
    cancelled: int
    seconds: float | None  # from the first job's creation to the last one's end, summed over the repetitions
    mean: float | None  # seconds
    p50: float | None
    p95: float | None
    input_tokens: int | None  # of all answers that reported them
    cached_input_tokens: int | None
    output_tokens: int | None
    amount: Decimal | None  # USD known; None when nothing is
    unknown: int  # ledger entries without an amount: they are in no sum
    cost_per_job: Decimal | None  # USD; over the completed jobs whose whole cost is known

    @property
    def jobs_per_second(self) -> float | None:
        """Completed jobs for each second of the total time."""
        return self.completed / self.seconds if self.seconds and self.completed else None

    @property
    def jobs_per_minute(self) -> float | None:
        return self.jobs_per_second * 60 if self.jobs_per_second else None


@dataclass(frozen=True)
class Sample:
    """One job of a run."""

    job_id: int
    repetition: int
    mode: ExecutionMode
    tier: str
    status: JobStatus
    created_at: datetime
    finished_at: datetime | None
    latency: float | None  # seconds; of a completed job
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    amount: Decimal | None  # USD known
    unknown: int | None  # ledger entries without an amount; None when there is no entry at all


def _bills(run_id: int) -> Subquery:
    """What the ledger says of each job of the run."""
    entry = LedgerEntry
    tokens = ("input_tokens", "cached_input_tokens", "output_tokens")
    return (
        select(
            entry.job_id, func.sum(entry.amount).label("amount"), func.count().filter(is_unknown()).label("unknown"),
            *(cast(func.sum(getattr(entry, name)), BigInteger).label(name) for name in tokens),
        )
        .join(BenchmarkSample, BenchmarkSample.job_id == entry.job_id)
        .where(BenchmarkSample.run_id == run_id)
        .group_by(entry.job_id)
        .subquery("bills")
    )  # fmt: skip


def _seconds_between(start: Any, end: Any) -> ColumnElement[float]:
    return vitals.seconds(end - start)


def figures(session: Session, run: BenchmarkRun) -> list[Figures]:
    """For each mode its tiers, then the mode, and at the end the whole run. What has no job yet, and what would sum up
    a single line, is left out; the last one is always of all jobs."""
    sample, bill = BenchmarkSample, _bills(run.id).c
    latency, is_completed = _seconds_between(Job.created_at, Job.finished_at), Job.status == JobStatus.COMPLETED
    columns: dict[str, ColumnElement[Any]] = {
        "submitted": func.count(),
        "completed": func.count().filter(is_completed),
        "failed": func.count().filter(Job.status.in_([JobStatus.FAILED, JobStatus.EXPIRED])),
        "cancelled": func.count().filter(Job.status == JobStatus.CANCELLED),
        "mean": func.avg(latency).filter(is_completed),
        "p50": func.percentile_cont(0.5).within_group(latency).filter(is_completed),
        "p95": func.percentile_cont(0.95).within_group(latency).filter(is_completed),
        "input_tokens": cast(func.sum(bill.input_tokens), BigInteger),
        "cached_input_tokens": cast(func.sum(bill.cached_input_tokens), BigInteger),
        "output_tokens": cast(func.sum(bill.output_tokens), BigInteger),
        "amount": func.sum(bill.amount),
        "unknown": cast(func.coalesce(func.sum(bill.unknown), 0), BigInteger),
        "cost_per_job": func.avg(bill.amount).filter(is_completed, bill.unknown == 0),
    }
    rows = session.execute(
        select(
            sample.execution_mode.label("mode"), sample.tier, *(column.label(name) for name, column in columns.items())
        )
        .select_from(sample)
        .join(Job, Job.id == sample.job_id)
        .join(bill.job_id.table, bill.job_id == sample.job_id, isouter=True)
        .where(sample.run_id == run.id)
        .group_by(func.rollup(sample.execution_mode, sample.tier))
    ).all()  # fmt: skip
    seconds = _step_seconds(session, run.id)
    modes, tiers = [*run.modes, None], [*(tier["tier"] for tier in run.tiers), None]
    found = [Figures(**row._mapping, seconds=seconds.get((row.mode, row.tier))) for row in rows]
    found.sort(key=lambda one: (modes.index(one.mode), tiers.index(one.tier)))
    needed = [one for one in found if one.tier or len(run.tiers if one.mode else run.modes) > 1]
    return needed or found


def latest(session: Session) -> tuple[BenchmarkRun, list[Figures]] | None:
    """The newest run with its figures; None when there is none."""
    run = session.scalars(select(BenchmarkRun).order_by(BenchmarkRun.id.desc()).limit(1)).one_or_none()
    return (run, figures(session, run)) if run else None


def _step_seconds(session: Session, run_id: int) -> dict[tuple[Any, Any], float]:
    """{(mode, tier): how long their steps took}, summed over the repetitions; None for what is summed over, too."""
    sample = BenchmarkSample
    steps = (
        select(
            sample.execution_mode, sample.tier,
            _seconds_between(func.min(Job.created_at), func.max(Job.finished_at)).label("seconds"),
        )
        .join(Job, Job.id == sample.job_id)
        .where(sample.run_id == run_id)
        .group_by(sample.execution_mode, sample.tier, sample.repetition)
        .subquery("steps")
    ).c  # fmt: skip
    rows = session.execute(
        select(steps.execution_mode, steps.tier, func.sum(steps.seconds))
        .group_by(func.rollup(steps.execution_mode, steps.tier))
    )  # fmt: skip
    return {(mode, tier): seconds for mode, tier, seconds in rows if seconds is not None}


def samples(session: Session, run: BenchmarkRun) -> list[Sample]:
    """Every job of the run, in the order in which they were made."""
    sample, bill = BenchmarkSample, _bills(run.id).c
    latency = case((Job.status == JobStatus.COMPLETED, _seconds_between(Job.created_at, Job.finished_at)))
    rows = session.execute(
        select(
            sample.job_id, sample.repetition, sample.execution_mode.label("mode"), sample.tier, Job.status,
            Job.created_at, Job.finished_at, latency.label("latency"), bill.input_tokens, bill.cached_input_tokens,
            bill.output_tokens, bill.amount, bill.unknown,
        )
        .select_from(sample)
        .join(Job, Job.id == sample.job_id)
        .join(bill.job_id.table, bill.job_id == sample.job_id, isouter=True)
        .where(sample.run_id == run.id)
        .order_by(sample.job_id)
    )  # fmt: skip
    return [Sample(**row._mapping) for row in rows]
