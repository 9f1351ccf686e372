"""What processes take of this machine's memory, read from /proc."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devstack.stack import Stack


def memory_mb(name: str, pid: int | str = "self") -> float:
    """Megabytes of one process: `VmRSS` now, `VmHWM` at most."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000 if found else 0.0  # one that has just ended has no memory any more


def family(pid: int) -> list[int]:
    """The process and all that it started: gunicorn's work is done by a child."""
    try:
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _numbers(task / "children")]
    except FileNotFoundError:
        return []
    return [pid, *(one for child in children for one in family(child))]


def _numbers(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def memory_of_parts(stack: Stack, name: str = "VmRSS") -> dict[str, float]:
    """Megabytes of each part of a running stack with all that it started.

    Of PostgreSQL without what its processes share: each of them would count it again.
    """
    found = {part: _sum(name, process.pid) for part, process in stack.processes.items()}
    return found | {"postgres": _sum("RssAnon", stack.cluster.process.pid)}


def forget_peaks(stack: Stack) -> None:
    """From here on `VmHWM` is the most since now."""
    for process in stack.processes.values():
        for pid in family(process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _sum(name: str, pid: int) -> float:
    total = 0.0
    for one in family(pid):
        try:
            total += memory_mb(name, one)
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
    return total
