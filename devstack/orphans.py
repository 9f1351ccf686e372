"""Which processes are ours, by the files that their starts wrote, and the end of those that a crash left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

POLL_SECONDS = 0.05


def end_orphans(run_dir: Path, leave: str = "", seconds: float = 5) -> list[str]:
    """End what an earlier start left running, by the files in `run_dir`, but for `leave`; return their names.

    A process is ours only if its id, its start time and the machine's boot id are those that we wrote down: the
    kernel gives ids out again.
    """
    found = []
    for file in sorted(run_dir.glob("*.pid")):
        if file.stem == leave:
            continue
        pid = recorded_pid(run_dir, file.stem)
        if pid:
            found.append(file.stem)
            _end_group(pid, seconds)
        file.unlink(missing_ok=True)
    return found


def recorded_pid(run_dir: Path, name: str) -> int | None:
    """The id of a running part, by the file that its start wrote; None if it does not run."""
    try:
        known = (run_dir / f"{name}.pid").read_text().strip()
    except OSError:
        return None
    pid = int(known.partition(" ")[0] or 0)
    return pid if pid and identity(pid) == known else None


def _end_group(pid: int, seconds: float) -> None:
    known = identity(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        _await_end(known, seconds)
        os.killpg(pid, signal.SIGKILL)
        # A big process takes a while to go, and until then it holds its port.
        _await_end(known, seconds)


def _await_end(known: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while identity(int(known.partition(" ")[0])) == known and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def identity(pid: int) -> str:
    """`<pid> <start time in clock ticks> <boot id>`, or "" when there is no such process (or only its remains)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    # The second field is the program's name in brackets and may hold spaces and brackets itself.
    fields = stat.rpartition(")")[2].split()
    state, threads, started = fields[0], int(fields[17]), fields[19]
    # A process whose first thread has ended looks dead while its other threads still hold its files and ports.
    is_gone = state in "ZX" and threads <= 1
    return "" if is_gone else f"{pid} {started} {boot}"
