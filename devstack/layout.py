"""Where everything lives. Standard library only: it is imported before the virtual environment exists.

A person's own checkout keeps all of it in `.sluice/`. As root only the secrets and locks stay there: PostgreSQL
refuses to run as root, its own user cannot reach into a private home directory, and no mode of a folder that we
did not make is ever changed. So the rest moves to `/var/lib/sluice/<name>`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import StackError

CHECKOUT = Path(__file__).resolve().parent.parent
SYSTEM_HOME = Path("/var/lib/sluice")
SYSTEM_USER = "sluice"

# A unix socket's address has 108 bytes with its closing zero.
SOCKET_PATH_BYTES = 107
SOCKET_NAME = "/.s.PGSQL.5432"


@dataclass(frozen=True)
class Layout:
    """The folders of one stack. `postgres_user` is None when PostgreSQL runs as the caller."""

    state_dir: Path
    runtime_dir: Path
    postgres_dir: Path
    postgres_user: str | None

    @property
    def secrets_file(self) -> Path:
        return self.state_dir / "secrets.json"

    @property
    def lock_file(self) -> Path:
        return self.state_dir / "lock"

    @property
    def venv(self) -> Path:
        return self.runtime_dir / "venv"

    @property
    def logs(self) -> Path:
        return self.runtime_dir / "logs"

    @property
    def run_dir(self) -> Path:
        """One file for each process that we started, so that the next start can end what a crash left."""
        return self.runtime_dir / "run"

    @property
    def n8n_home(self) -> Path:
        return self.runtime_dir / "n8n"

    @property
    def queue_mode(self) -> Path:
        return self.runtime_dir / "queue_mode"

    @property
    def documents(self) -> Path:
        return self.runtime_dir / "documents"

    @property
    def provider_data(self) -> Path:
        return self.runtime_dir / "offline_provider"

    def make_folders(self) -> None:
        """Make what is missing. Folders that were there keep their mode."""
        _make(self.state_dir, 0o700)
        # PostgreSQL's own user must pass through to its data and to the binaries in the venv, but list nothing.
        for folder in (self.runtime_dir, self.postgres_dir.parent):
            if SYSTEM_HOME in folder.parents:
                _make(SYSTEM_HOME, 0o755)
                _make(folder, 0o711)
        for folder in (self.logs, self.run_dir, self.n8n_home, self.documents, self.provider_data):
            _make(folder, 0o700)


def for_checkout(checkout: Path = CHECKOUT) -> Layout:
    """The folders of `make run` in this checkout."""
    state = checkout / ".sluice"
    if os.geteuid() != 0:
        return Layout(state, state, state / "postgres", None)
    runtime = SYSTEM_HOME / short_hash(checkout)
    return Layout(state, runtime, runtime / "postgres", SYSTEM_USER)


def for_folder(folder: Path) -> Layout:
    """Everything below one folder (tests), except PostgreSQL's files when we are root."""
    if os.geteuid() != 0:
        return Layout(folder, folder, folder / "postgres", None)
    return Layout(folder, folder, SYSTEM_HOME / short_hash(folder) / "postgres", SYSTEM_USER)


def socket_folder(wanted: Path) -> Path:
    """`wanted`, or a short folder below /tmp when its path is too long for a socket. `own_folder` makes it safe."""
    if len(os.fsencode(str(wanted) + SOCKET_NAME)) > SOCKET_PATH_BYTES:
        return Path("/tmp") / f"sluice-{short_hash(wanted)}"  # noqa: S108
    return wanted


def own_folder(folder: Path, owner: int) -> None:
    """Make `folder` for the user `owner` alone, or check that it is. Raises StackError."""
    try:
        folder.mkdir(mode=0o700)
        if owner != os.geteuid():
            os.chown(folder, owner, -1)
    except FileExistsError:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) != 0o700:
            raise StackError(f"{folder} must be a folder that only its owner (user id {owner}) can open.") from None


def passable_for_others(path: Path) -> bool:
    """True if any user may walk down to `path` and, if it is a file, run it."""
    return all(os.stat(step).st_mode & stat.S_IXOTH for step in (path, *path.resolve().parents))


def short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]


def _make(folder: Path, mode: int) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(mode)  # said again because the caller's umask may have taken bits away
