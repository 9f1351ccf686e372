"""Rows of the benchmark: each beside its floor, which is measured in the same run, in turns."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Measure = Callable[[], float]  # does the work once; seconds


@dataclass(frozen=True)
class Row:
    """One thing that is measured. `share` = floor's time / our time; it should be at least `wanted`."""

    name: str
    floor_is: str
    wanted: float
    amount: int  # of what is done in one measurement
    unit: str
    ours: Measure
    floor: Measure
    notes: dict[str, Any] = field(default_factory=dict)  # what a measurement found beside its time
    lean: Measure | None = None  # the same work on the least of tables (`bench/lean.py`): noted, not judged
    turns: int = 1  # measurements of each side in a round: what is short is better taken in turns than at a stretch


@dataclass
class Figures:
    name: str
    floor_is: str
    amount: int
    unit: str
    ours_seconds: list[float]
    floor_seconds: list[float]
    wanted: float
    notes: dict[str, Any]

    @property
    def share(self) -> float:
        return statistics.median(self.floor_seconds) / statistics.median(self.ours_seconds)

    @property
    def line(self) -> str:
        ours, floor = (self.amount / statistics.median(times) for times in (self.ours_seconds, self.floor_seconds))
        notes = "; ".join(f"{name} {value}" for name, value in self.notes.items())
        spread = f"{self.amount / max(self.ours_seconds):,.0f} to {self.amount / min(self.ours_seconds):,.0f}"
        return (
            f"| {self.name} | {ours:,.0f} {self.unit}/s [{spread}] | {floor:,.0f} {self.unit}/s: {self.floor_is} |"
            f" **{self.share:.2f}** | {f'{self.wanted:.2f}' if self.wanted else '–'} | {notes} |"
        )


def measure(row: Row, rounds: int) -> Figures:
    """Both sides in turns, and each time in the other order, so that what else the machine does meets both."""
    times: dict[str, list[float]] = {"ours": [], "floor": []}
    for number in range(rounds * row.turns):
        for side in ("floor", "ours") if number % 2 else ("ours", "floor"):
            times[side].append(getattr(row, side)())
    if row.lean:
        seconds = statistics.median(row.lean() for _ in range(rounds))
        row.notes["on lean tables"] = f"{row.amount / seconds:,.0f} {row.unit}/s"
    found = Figures(
        row.name, row.floor_is, row.amount, row.unit, times["ours"], times["floor"], row.wanted, dict(row.notes)
    )
    print(found.line, flush=True, file=sys.stderr)
    return found


def timed(do: Callable[[], object]) -> float:
    started = time.monotonic()
    do()
    return time.monotonic() - started


HEAD = (
    "| row | Sluice | floor, in the same run | share | wanted | |\n"
    "|---|---|---|---|---|---|"
)  # fmt: skip


def write(folder: Path, facts: dict[str, Any], figures: list[Figures]) -> None:
    """`results.json` with every single time, and `results.md`, the table."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {"facts": facts, "rows": [{**asdict(one), "share": one.share} for one in figures]}
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    said = "\n".join(f"{name}: {value}  " for name, value in facts.items())
    table = "\n".join((HEAD, *(one.line for one in figures)))
    (folder / "results.md").write_text(f"{said}\n\n{table}\n")
