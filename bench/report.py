"""What a measurement found: printed as a table, and written as JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def write_report(folder: Path, facts: dict[str, Any], found: dict[str, Any], tables: str) -> None:
    """`results.json` with all that was found, and `results.md`, the facts above the tables; which is printed, too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"facts": facts, **found}, indent=1) + "\n")
    said = "".join(f"{name}: {value}  \n" for name, value in facts.items()) + f"\n{tables}"
    (folder / "results.md").write_text(said)
    print(said)
