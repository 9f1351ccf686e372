"""Children are shown, awaited and ended, and none outlives us."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack import orphans, processes
from devstack.errors import StackError
from devstack.orphans import end_orphans, recorded_pid
from devstack.processes import Command, Console, Process, wait_until

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a piece of Python as a child; whatever is left of it ends with the test."""
    started: list[Process] = []

    def start(code: str, console: Console | None = None, **options: object) -> Process:
        command = Command("part", [sys.executable, "-u", "-c", code], dict(os.environ), tmp_path, **options)
        process = Process(command, tmp_path / "part.log", tmp_path / "part.pid", console)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def until(condition: Callable[[], bool]) -> None:
    wait_until(condition, what="The condition", seconds=10)


def is_gone(pid: int) -> bool:
    return orphans.identity(pid) == ""


def test_output_goes_to_the_log_and_with_its_name_to_the_console(child: Callable[..., Process]) -> None:
    shown = io.StringIO()
    process = child("print('hello'); print('there')", Console(shown))
    process.wait(10)
    assert shown.getvalue() == "     part | hello\n     part | there\n"
    assert process.log() == "hello\nthere\n"


def test_console_can_show_less_than_the_log(child: Callable[..., Process]) -> None:
    shown = io.StringIO()
    process = child("print('noise')", Console(shown), show=processes.hidden)
    process.wait(10)
    assert (shown.getvalue(), process.log()) == ("", "noise\n")


def test_failed_command_is_told_with_its_last_words(child: Callable[..., Process]) -> None:
    with pytest.raises(StackError, match=r"part ended with code 3\. It said last:\nno such table"):
        child("print('no such table'); raise SystemExit(3)").wait(10)


def test_command_that_takes_too_long_is_ended(child: Callable[..., Process]) -> None:
    process = child("import time; time.sleep(60)")
    with pytest.raises(StackError, match=r"took longer than 0\.2 seconds"):
        process.wait(0.2)
    assert not process.alive


def test_waiting_ends_at_once_when_the_part_dies(child: Callable[..., Process]) -> None:
    process = child("print('port is taken'); raise SystemExit(1)")
    started = time.monotonic()
    with pytest.raises(StackError, match="port is taken"):
        wait_until(lambda: False, what="Readiness", seconds=30, processes=[process])
    assert time.monotonic() - started < 10


def test_waiting_gives_up_with_what_the_part_said(child: Callable[..., Process]) -> None:
    process = child("print('still thinking', flush=True); import time; time.sleep(60)")
    until(lambda: "still" in process.tail())
    with pytest.raises(StackError, match=r"Readiness did not happen within 0\.1 seconds\.\npart said last:\nstill"):
        wait_until(lambda: False, what="Readiness", seconds=0.1, processes=[process])


def test_part_is_asked_to_stop_before_it_is_killed(child: Callable[..., Process]) -> None:
    process = child(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('tidy'), sys.exit(0)))\n"
        "print('up'); time.sleep(60)"
    )
    until(lambda: "up" in process.tail())
    process.stop()
    assert (process.returncode, process.log()) == (0, "up\ntidy\n")


def test_part_that_does_not_listen_is_killed(child: Callable[..., Process]) -> None:
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)"
    process = child(ignoring, stop_seconds=0.2)
    until(lambda: "up" in process.tail())
    process.stop()
    assert process.returncode == -signal.SIGKILL


def test_kill_takes_all_that_the_part_started(child: Callable[..., Process]) -> None:
    process = child("import subprocess; print(subprocess.Popen(['sleep', '60']).pid); import time; time.sleep(60)")
    until(lambda: process.tail().splitlines()[:1] != [])
    grandchild = int(process.tail().splitlines()[0])
    assert not is_gone(grandchild)
    process.kill()
    until(lambda: is_gone(grandchild))
    assert not process.alive


def test_orphan_of_an_interrupted_start_is_ended(child: Callable[..., Process], tmp_path: Path) -> None:
    process = child("import time; time.sleep(60)")
    assert recorded_pid(tmp_path, "part") == process.pid
    assert end_orphans(tmp_path) == ["part"]
    assert not process.alive
    assert list(tmp_path.glob("*.pid")) == []


@pytest.mark.parametrize("field", [1, 2])
def test_process_that_only_got_the_same_id_is_left_alone(
    child: Callable[..., Process], tmp_path: Path, field: int
) -> None:
    process = child("import time; time.sleep(60)")
    words = (tmp_path / "part.pid").read_text().split()
    words[field] = "1"  # another start time; another boot of the machine
    (tmp_path / "part.pid").write_text(" ".join(words))
    assert end_orphans(tmp_path) == []
    assert process.alive


def test_children_end_when_devstack_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from devstack.processes import Command, Process\n"
        f"here = Path({str(tmp_path)!r})\n"
        "process = Process(Command('part', ['sleep', '60'], dict(os.environ), here), here / 'log', here / 'part.pid')\n"
        "process.start(); print(process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    until(lambda: is_gone(int(done.stdout)))
