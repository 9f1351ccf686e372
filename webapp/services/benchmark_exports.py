"""A benchmark run as JSON and as CSV: what was asked for, the figures, and every job. Costs are USD, times seconds."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TextIO

from webapp.domain.csv_cells import cells
from webapp.models import BenchmarkRun
from webapp.services.benchmark_figures import Figures, Sample

SUMMARY_COLUMNS = {
    "mode": "mode", "tier": "tier", "jobsSubmitted": "submitted", "jobsCompleted": "completed", "jobsFailed": "failed",
    "jobsCancelled": "cancelled", "totalSeconds": "seconds", "meanSeconds": "mean", "p50Seconds": "p50",
    "p95Seconds": "p95", "inputTokens": "input_tokens", "cachedInputTokens": "cached_input_tokens",
    "outputTokens": "output_tokens", "costUsd": "amount", "unknownEntries": "unknown",
    "costPerJobUsd": "cost_per_job", "jobsPerMinute": "jobs_per_minute", "jobsPerSecond": "jobs_per_second",
}  # fmt: skip
SAMPLE_COLUMNS = {
    "jobId": "job_id", "repetition": "repetition", "mode": "mode", "tier": "tier", "status": "status",
    "createdAt": "created_at", "finishedAt": "finished_at", "latencySeconds": "latency",
    "inputTokens": "input_tokens", "cachedInputTokens": "cached_input_tokens", "outputTokens": "output_tokens",
    "costUsd": "amount", "unknownEntries": "unknown",
}  # fmt: skip


def as_json(run: BenchmarkRun, summary: Sequence[Figures], samples: Sequence[Sample]) -> dict[str, Any]:
    """All of a run. A mode or tier that is null sums up; a cost that is null is unknown, or there is none yet."""
    return {
        "run": {
            "id": run.id, "profile": run.profile_id, "note": run.note, "startedBy": run.user.email,
            "tiers": [tier["tier"] for tier in run.tiers], "modes": run.modes, "jobsPerStep": run.jobs_per_step,
            "repetitions": run.repetitions, "status": run.status, "problem": run.problem,
            "createdAt": _plain(run.created_at), "finishedAt": _plain(run.finished_at),
        },
        "summary": [_row(one, SUMMARY_COLUMNS) for one in summary],
        "samples": [_row(one, SAMPLE_COLUMNS) for one in samples],
    }  # fmt: skip


def write_summary(summary: Sequence[Figures], file: TextIO) -> None:
    """One line for each mode and tier, then what sums them up, as "all"."""
    writer = csv.writer(file)
    writer.writerow(SUMMARY_COLUMNS)
    for one in summary:
        row = _row(one, SUMMARY_COLUMNS)
        writer.writerow(cells(*(row | {"mode": row["mode"] or "all", "tier": row["tier"] or "all"}).values()))


def write_samples(samples: Sequence[Sample], file: TextIO) -> None:
    """One line for each job."""
    writer = csv.writer(file)
    writer.writerow(SAMPLE_COLUMNS)
    for one in samples:
        writer.writerow(cells(*_row(one, SAMPLE_COLUMNS).values()))


def _row(one: Figures | Sample, columns: dict[str, str]) -> dict[str, Any]:
    return {column: _plain(getattr(one, name)) for column, name in columns.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value
