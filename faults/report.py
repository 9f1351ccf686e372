"""What a run of faults has to say: a line for each while it runs, a table and a JSON file at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from faults.judge import KINDS, Defect, Tally


@dataclass
class Entry:
    """One fault that was done."""

    number: int
    name: str
    has_fired: bool
    seconds: float
    clock_seconds: float  # how far the clock was moved
    defects: list[Defect] = field(default_factory=list)

    def line(self) -> str:
        state = "ok" if self.has_fired else "ok, but its moment never came"
        state = f"{len(self.defects)} DEFECTS" if self.defects else state
        told = "".join(f"\n       {defect.kind}: {defect.what}" for defect in self.defects)
        clock = f"clock +{self.clock_seconds:.0f} s"
        return f"{self.number:4}  {self.name:40} {self.seconds:6.1f} s  {clock:>14}  {state}{told}"


def summary(entries: Sequence[Entry], tally: Tally, seed: int, seconds: float) -> str:
    """The table at the end."""
    found = Counter(defect.kind for entry in entries for defect in entry.defects)
    mean = seconds / max(len(entries), 1)
    rows = [f"{len(entries)} faults in {seconds / 60:.1f} min ({mean:.1f} s each), seed {seed}", ""]
    rows += [f"  {kind:24} {found[kind]}" for kind in KINDS]
    missed = [entry.name for entry in entries if not entry.has_fired]
    rows += [
        "",
        f"  jobs                     {_counts(tally.jobs)}",
        f"  why they failed          {_counts(tally.failures)}",
        f"  submissions answered     {_counts(tally.submissions)}",
        f"  failed creates, unbilled {tally.unbilled_creates}",
        f"  needs attention          {len(tally.attention)} windows",
        f"  moment never came        {len(missed)} {', '.join(missed)}",
        "",
        f"  the provider's log       {tally.provider_usd:.6f} USD",
        f"  the ledger               {tally.ledger_usd:.6f} USD",
        f"  no usage, or unreadable  {tally.unknown_usd:.6f} USD, in the ledger with an unknown amount",
        f"  reached nobody           {tally.unheard_usd:.6f} USD, {len(tally.unheard)} sync answers,"
        f" each an answer_lost entry (of {tally.lost_entries})",
        *(f"    {one}" for one in tally.unheard),
    ]
    return "\n".join(rows)


def write(path: Path, entries: Sequence[Entry], tally: Tally, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"seed": seed, "faults": [asdict(entry) for entry in entries], "tally": vars(tally)}
    path.write_text(json.dumps(data, indent=1, default=str) + "\n")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "none"
