"""Child processes: start them, show what they say, wait until they are ready, end them.

Each child leads its own process group, so that Ctrl-C in a terminal reaches only us (we stop the parts in order)
and so that a part can be ended with everything it started. Two nets catch what a `kill -9` of ourselves leaves
behind: the kernel sends each child its stop signal when the thread that started it ends, and `orphans` at
the next start ends whatever is still there.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devstack.errors import StackError
from devstack.orphans import identity

KEPT_LINES = 40
POLL_SECONDS = 0.05
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# No proxy of the environment may come between us and our own loopback.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
COLOURS = (36, 32, 35, 33, 34, 96, 92, 95)


class Console:
    """Prints whole lines, each with the coloured name of the part that said it."""

    def __init__(self, stream=None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._colours: dict[str, int] = {}
        self._is_coloured = self._stream.isatty() and "NO_COLOR" not in os.environ

    def line(self, name: str, text: str) -> None:
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        prefix = f"{name:>9} | "
        if self._is_coloured:
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self.say(prefix + text)

    def say(self, text: str) -> None:
        # A terminal that went away must not stop the thread that empties a child's pipe.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(text + "\n")
            self._stream.flush()


@dataclass(frozen=True)
class Command:
    """What to start. `stop_signal` asks for an orderly end, SIGKILL follows after `stop_seconds`."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10
    # What the console shows of a line; None shows nothing. The log file always has all of it.
    show: Callable[[str], str | None] = str


@dataclass
class Process:
    """One child. Its output goes to `log_file` and, line by line, to the console."""

    command: Command
    log_file: Path
    pid_file: Path | None = None
    console: Console | None = None
    _child: subprocess.Popen[bytes] | None = None
    _tail: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=KEPT_LINES))
    _pump: threading.Thread | None = None
    _is_over: bool = True

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def pid(self) -> int:
        if self._child is None:
            raise StackError(f"{self.name} was not started.")
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def start(self) -> None:
        """Start the child. Call it from a thread that lives as long as the child should."""
        command = self.command
        self._tail.clear()
        self._is_over = False
        self._child = subprocess.Popen(
            _with_death_signal(command.argv, command.stop_signal),
            env=dict(command.env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_as_user(command.user),
        )
        if self.pid_file:
            self.pid_file.write_text(identity(self._child.pid))
        self._pump = threading.Thread(target=self._copy_output, name=f"log of {self.name}", daemon=True)
        self._pump.start()

    def ask_to_stop(self) -> None:
        if self.alive:
            self._signal_child(self.command.stop_signal)

    def stop(self) -> None:
        """End the child and all that it started: politely, then not."""
        if self._child is None or self._is_over:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(self.command.stop_seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the child's whole group, as a crash of the machine would."""
        if self._child is None or self._is_over:  # later its id may be somebody else's
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._is_over = True
        self.wait_for_last_words()
        if self.pid_file:
            self.pid_file.unlink(missing_ok=True)

    def wait(self, seconds: float) -> None:
        """Wait for the end of a command that ends by itself. Raises StackError if it fails or takes longer."""
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StackError(f"{self.name} took longer than {seconds:g} seconds.\n{self.tail()}") from None
        finally:
            self.kill()
        if self._child.returncode:
            raise StackError(ended(self))

    def wait_for_last_words(self) -> None:
        """After its end: until all that it said is in the log."""
        if self._pump:
            self._pump.join(timeout=2)

    def tail(self) -> str:
        """The last lines that it said."""
        return "\n".join(self._tail)

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def _signal_child(self, number: signal.Signals) -> None:
        # Only the leader: servers such as gunicorn and PostgreSQL end their own workers in order.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, number)

    def _copy_output(self) -> None:
        with self._child.stdout as pipe, open(self.log_file, "ab", buffering=0) as log:
            for raw in pipe:
                log.write(raw)
                text = raw.decode("utf-8", "replace").rstrip()
                self._tail.append(text)
                shown = self.command.show(text) if self.console else None
                if shown is not None:
                    self.console.line(self.name, shown)


def wait_until(condition: Callable[[], bool], *, what: str, seconds: float, processes: Iterable[Process] = ()) -> None:
    """Return when `condition` is true. Raises StackError after `seconds`, or at once when a process has ended."""
    processes = list(processes)
    deadline = time.monotonic() + seconds
    while not condition():
        for process in processes:
            if not process.alive:
                raise StackError(ended(process))
        if time.monotonic() > deadline:
            said = "".join(f"\n{process.name} said last:\n{process.tail()}" for process in processes)
            raise StackError(f"{what} did not happen within {seconds:g} seconds.{said}")
        time.sleep(POLL_SECONDS)


def status_of(url: str, method: str = "GET") -> int | None:
    """The status of an answer on loopback; None when there is none within 2 seconds."""
    request = urllib.request.Request(url, method=method)  # noqa: S310  (our own addresses)
    try:
        with _opener.open(request, timeout=2) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, http.client.HTTPException):
        return None


def call_json(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON that an address on loopback answers. Raises StackError with what it said if it refuses."""
    data = None if body is None else json.dumps(body).encode()
    head = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, head, method=method)  # noqa: S310  (our own addresses)
    try:
        with _opener.open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise StackError(f"{method} {url} answered {error.code}: {error.read().decode('utf-8', 'replace')}") from None


def ended(process: Process) -> str:
    """A sentence about a part that ended by itself, with its last lines."""
    code = process.returncode
    how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with code {code}"
    return f"{process.name} {how}. It said last:\n{process.tail()}\n(the whole log: {process.log_file})"


def stop_together(processes: Iterable[Process]) -> None:
    """Ask all of them to end, then wait for each."""
    processes = list(processes)
    for process in processes:
        process.ask_to_stop()
    for process in processes:
        process.stop()


def hidden(_: str) -> None:
    """For `Command.show`: only the log file has its lines."""


def _with_death_signal(argv: Sequence[str], number: signal.Signals) -> list[str]:
    setpriv = shutil.which("setpriv", path=SYSTEM_PATH)
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG"), "--", *argv] if setpriv else list(argv)


def _as_user(user: str | None) -> dict[str, object]:
    return {"user": user, "group": user, "extra_groups": []} if user else {}
