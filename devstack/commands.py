"""The commands of `python3 -m devstack`, inside the virtual environment. Each returns the exit code."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from devstack import backup, n8n_install, n8n_setup, n8n_sync
from devstack.errors import StackError
from devstack.layout import CHECKOUT, Layout
from devstack.orphans import recorded_pid
from devstack.processes import Console
from devstack.stack import Stack, welcome

# Stage → its tests, by marker, and how many files at a time. The fast ones first: a mistake shows early.
# End to end, each worker brings up whole systems (2 GB), so there are never more than two.
BY_FILE = ("--dist", "loadfile", "--numprocesses")
STAGES = {
    "unit, services, web, contract": ("not e2e and not browser", (*BY_FILE, "auto")),
    "end to end": ("e2e", (*BY_FILE, "2")),
    "browser": ("browser", ()),
}
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(folders: Layout, _: argparse.Namespace) -> int:
    """Bring everything up, until Ctrl-C or SIGTERM (exit code 0), or until a part ends by itself (1)."""
    return supervise(Stack(folders, console=Console()))


def supervise(stack: Stack) -> int:
    """Start the stack and stay with it to its end."""
    started = time.monotonic()
    # SIGINT too: a shell starts its background jobs with it ignored, and Python then leaves it so.
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        stack.start()
        stack.console.say(welcome(stack) + f"  (up in {time.monotonic() - started:.1f} s)\n")
        stack.watch()
    except KeyboardInterrupt:
        pass
    finally:
        # From here on a second Ctrl-C must not leave half of it running.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if stack.is_up:
            stack.console.say("\nStopping")
        stack.stop()
    return 0


def test(_: Layout, arguments: argparse.Namespace) -> int:
    """All stages with their times; or, with arguments, one pytest with them."""
    os.environ["PATH"] = _path(os.environ)  # some tests ask programs of the virtual environment
    if arguments.rest:
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments.rest])  # noqa: S606
    codes, report = [], []
    for stage, (marker, options) in STAGES.items():
        started = time.monotonic()
        print(f"== {stage}", flush=True)
        command = [sys.executable, "-m", "pytest", "-m", marker, *options]
        code = subprocess.run(command, cwd=CHECKOUT, check=False).returncode
        codes.append(code)
        report.append(f"  {stage:32} {time.monotonic() - started:7.1f} s   {'failed' if code else 'passed'}")
    print("\n".join(("", *report)), flush=True)
    return max(codes, default=0)


def tool(_: Layout, arguments: argparse.Namespace) -> int:
    """Become a command of the virtual environment; nothing has to run."""
    _become(arguments.rest, dict(os.environ))


def execute(folders: Layout, arguments: argparse.Namespace) -> int:
    """Become the command, with the environment of the running web app."""
    _become(arguments.rest, {**os.environ, **_environment_of(folders, "web")})


def psql(folders: Layout, arguments: argparse.Namespace) -> int:
    """Become psql, as the owner of the database."""
    if recorded_pid(folders.run_dir, "postgres") is None:
        raise StackError("Sluice is not running: start it with `make run`.")
    cluster = Stack(folders).cluster
    program = cluster.program("psql")
    _become([program], {**os.environ, **cluster.libpq_environment(arguments.database)})


def n8n_export(folders: Layout, _: argparse.Namespace) -> int:
    """Bring edits made in n8n's editor into n8n/workflows."""
    with _with_database(folders) as stack:
        changed = n8n_sync.export(stack.n8n.stored(), stack.n8n.memory())
    print("\n".join(f"Changed {path.relative_to(CHECKOUT)}" for path in changed) or "No workflow was edited in n8n.")
    return 0


def n8n_import(folders: Layout, arguments: argparse.Namespace) -> int:
    """Bring n8n/workflows into n8n. With --force also over edits that only n8n has."""
    n8n_install.ensure()
    stack = Stack(folders)
    stack.claim_and_start_postgres()
    try:
        warnings = n8n_setup.prepare(stack.n8n, stack.run_once, force=arguments.force)
    finally:
        stack.stop()
    print("\n".join(warnings) or "n8n has the workflows of n8n/workflows.")
    return 1 if warnings else 0


def save_backup(folders: Layout, arguments: argparse.Namespace) -> int:
    """Write a backup into a new folder; the system may be running."""
    folder = Path(arguments.folder).resolve()
    with _with_database(folders) as stack:
        backup.save(stack, folder)
    print(f"The backup is in {folder}. It holds every secret: keep it as safe as the database.")
    return 0


def restore_backup(folders: Layout, arguments: argparse.Namespace) -> int:
    """Bring a backup into a checkout without data, and make it safe to start."""
    stack = Stack(folders, console=Console())
    try:
        backup.restore(stack, Path(arguments.folder).resolve())
    finally:
        stack.stop()
    print((folders.logs / "restored.log").read_text() + "Restored. docs/backup.md says what to do now.")
    return 0


def install(_: Layout, __: argparse.Namespace) -> int:
    n8n_install.ensure()
    return 0


def _path(env: Mapping[str, str]) -> str:
    """The programs of the virtual environment, before all others."""
    return f"{Path(sys.executable).parent}:{env.get('PATH', os.defpath)}"


def _become(command: list[str], env: dict[str, str]) -> NoReturn:
    env["PATH"] = _path(env)
    os.chdir(CHECKOUT)
    try:
        os.execvpe(command[0], command, env)  # noqa: S606
    except FileNotFoundError:
        raise StackError(f"There is no command {command[0]}.") from None


@contextlib.contextmanager
def _with_database(folders: Layout) -> Iterator[Stack]:
    """The stack with PostgreSQL up: the running one, or our own for the moment."""
    stack = Stack(folders)
    if recorded_pid(folders.run_dir, "postgres") is not None and _is_locked(folders.lock_file):
        yield stack
        return
    stack.claim_and_start_postgres()
    try:
        yield stack
    finally:
        stack.stop()


def _is_locked(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _environment_of(folders: Layout, name: str) -> dict[str, str]:
    """The environment of a running part. Nothing of it is kept on disk, since it may hold the caller's own key."""
    pid = recorded_pid(folders.run_dir, name)
    if pid is None:
        raise StackError("Sluice is not running: start it with `make run`.")
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


COMMANDS: dict[str, Callable[[Layout, argparse.Namespace], int]] = {
    "run": run,
    "test": test,
    "exec": execute,
    "tool": tool,
    "psql": psql,
    "n8n-export": n8n_export,
    "n8n-import": n8n_import,
    "backup": save_backup,
    "restore": restore_backup,
    "install": install,
}
