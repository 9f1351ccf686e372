"""The charts of a benchmark run: the JSON that `charts.js` draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from webapp.domain.states import ExecutionMode
from webapp.models import BenchmarkRun
from webapp.services.benchmark_figures import Figures, Sample, figures, samples

MODE_LABELS = {ExecutionMode.SYNC: "Now", ExecutionMode.BATCH: "Batch"}


class Chart(StrEnum):
    """What is drawn of a run. Sync and batch latencies are worlds apart, so each mode has its own scale."""

    LATENCY_SYNC = "latency-sync"
    LATENCY_BATCH = "latency-batch"
    JOBS_SYNC = "jobs-sync"
    JOBS_BATCH = "jobs-batch"
    COST = "cost"
    THROUGHPUT = "throughput"

    @property
    def mode(self) -> ExecutionMode | None:
        """The mode that it is about; None: both."""
        name = self.value.partition("-")[2]
        return ExecutionMode(name) if name else None


def chart(session: Session, run: BenchmarkRun, name: Chart) -> dict[str, Any]:
    """The JSON that `charts.js` draws."""
    match name:
        case Chart.LATENCY_SYNC | Chart.LATENCY_BATCH:
            return _latency_chart(run, figures(session, run), ExecutionMode(name.mode or ""))
        case Chart.JOBS_SYNC | Chart.JOBS_BATCH:
            return _jobs_chart(run, samples(session, run), ExecutionMode(name.mode or ""))
        case Chart.COST:
            return _by_mode("Cost per job", "USD", run, figures(session, run), lambda one: one.cost_per_job)
        case Chart.THROUGHPUT:
            return _by_mode(
                "Throughput", "jobs per minute", run, figures(session, run), lambda one: one.jobs_per_minute
            )


def _tiers(run: BenchmarkRun) -> list[str]:
    return [tier["tier"] for tier in run.tiers]


def _latency_chart(run: BenchmarkRun, found: Iterable[Figures], mode: ExecutionMode) -> dict[str, Any]:
    by_tier = {one.tier: one for one in found if one.mode == mode}
    kinds = {"Mean": "mean", "Median": "p50", "95 %": "p95"}
    return {
        "title": f"Latency: {MODE_LABELS[mode].lower()}", "unit": "s", "kind": "bars", "x": _x_tiers(run),
        "series": [
            {"label": label, "values": [getattr(by_tier.get(tier), kind, None) for tier in _tiers(run)]}
            for label, kind in kinds.items()
        ],
    }  # fmt: skip


def _jobs_chart(run: BenchmarkRun, found: Iterable[Sample], mode: ExecutionMode) -> dict[str, Any]:
    """The latency of each job: the repetitions follow one another along the x axis.

    One series for each tier; of a single tier one for each repetition.
    """
    if len(run.tiers) > 1:
        points: dict[str, list[tuple[int, float]]] = {tier: [] for tier in _tiers(run)}
    else:
        points = {f"Repetition {number}": [] for number in range(1, run.repetitions + 1)}
    seen: dict[str, int] = dict.fromkeys(_tiers(run), 0)
    for sample in found:
        if sample.mode is not mode:
            continue
        seen[sample.tier] += 1
        if sample.latency is not None:
            series = sample.tier if sample.tier in points else f"Repetition {sample.repetition}"
            points[series].append((seen[sample.tier], sample.latency))
    each = f", {run.jobs_per_step} for each repetition" if run.repetitions > 1 else ""
    return {
        "title": f"Each job's latency: {MODE_LABELS[mode].lower()}{each}", "unit": "s", "kind": "points",
        "x": {"type": "number", "label": "Job", "unit": "",
              "values": list(range(1, run.jobs_per_step * run.repetitions + 1))},
        "series": [
            {"label": label, "x": [place for place, _ in found_here], "values": [latency for _, latency in found_here]}
            for label, found_here in points.items()
        ],
    }  # fmt: skip


def _by_mode(title: str, unit: str, run: BenchmarkRun, found: Sequence[Figures], of: Any) -> dict[str, Any]:
    by_step = {(one.mode, one.tier): of(one) for one in found}
    return {
        "title": title, "unit": unit, "kind": "bars", "x": _x_tiers(run),
        "series": [
            {"label": MODE_LABELS[ExecutionMode(mode)],
             "values": [_number(by_step.get((ExecutionMode(mode), tier))) for tier in _tiers(run)]}
            for mode in run.modes
        ],
    }  # fmt: skip


def _x_tiers(run: BenchmarkRun) -> dict[str, Any]:
    return {"type": "category", "label": "Tier", "unit": "", "values": _tiers(run)}


def _number(value: Decimal | float | None) -> float | None:
    return None if value is None else float(value)
