"""From a bare machine to a virtual environment with everything in it.

Standard library only, and nothing newer than Python 3.8 in its syntax: on an old Python it has to be able to say so.
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
import sys
import time
from pathlib import Path

from devstack import n8n_install
from devstack.errors import StackError
from devstack.layout import CHECKOUT, Layout
from devstack.network import check_registry

PYTHON = (3, 11)
FREE_BYTES = 5 * 10**9
REQUIREMENTS = CHECKOUT / "requirements"
RUN = ("app", "stack")
TEST = ("app", "stack", "azure", "dev")


def ensure(folders: Layout, groups: tuple[str, ...] = RUN, *, with_n8n: bool = True) -> Path:
    """Return the virtual environment's Python, setting up what is missing.

    `groups` names requirement files. With `with_n8n` the checks also cover what n8n's installation, which comes
    later, needs. Raises StackError, before anything is changed, when the machine lacks something.
    """
    check_python(sys.version_info[:2])
    wanted = _hashes(groups)
    if _installed(folders.venv, wanted) and (n8n_install.is_installed() or not with_n8n):
        return _python(folders.venv)
    _check_machine(folders, wanted, with_n8n)
    folders.make_folders()
    with _locked(folders.state_dir / "venv.lock"):
        if not _installed(folders.venv, wanted):
            _install(folders.venv, wanted)
    return _python(folders.venv)


def is_inside(folders: Layout) -> bool:
    """True if this process already runs in the virtual environment."""
    return Path(sys.prefix) == folders.venv


def check_python(version: tuple[int, ...]) -> None:
    if tuple(version) < PYTHON:
        found = ".".join(map(str, version))
        raise StackError(f"Sluice needs Python 3.11 or newer and this is {found}: start it with a newer `python3`.")


def check_venv_module() -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        raise StackError(f"Python's module {missing[0]} is missing: install it with `apt install {package}`.")


def check_disk(places: list[Path]) -> None:
    for place in places:
        free = shutil.disk_usage(_existing(place)).free
        if free < FREE_BYTES:
            raise StackError(f"Only {free / 1e9:.1f} GB are free at {place} and the first start needs 5 GB: make room.")


def _check_machine(folders: Layout, wanted: dict[str, str], with_n8n: bool) -> None:
    """All that can be known before anything starts."""
    places = []
    if not _installed(folders.venv, wanted):
        check_venv_module()
        places.append(folders.venv)
        check_registry("Python's package index", _pip_index(sys.executable))
    if with_n8n and not n8n_install.is_installed():
        places.append(n8n_install.cache_dir())
        check_registry("npm's registry", _npm_registry())
    check_disk(places)


def _pip_index(python: str) -> str:
    """The index that pip would ask: the configured one, else the one that pip itself knows; "" without a pip."""
    if os.environ.get("PIP_NO_INDEX"):
        return ""
    own = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    for arguments in (["-m", "pip", "config", "get", "global.index-url"], ["-c", own]):
        done = subprocess.run([python, *arguments], capture_output=True, text=True, check=False)
        if url := os.environ.get("PIP_INDEX_URL") or done.stdout.strip():
            return url
    return ""


def _npm_registry() -> str:
    """The registry that npm is configured for; its own default is known only when npm is there."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name]
    with contextlib.suppress(OSError):
        for line in Path("~/.npmrc").expanduser().read_text().splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "registry":
                return value.strip()
    return ""


def _install(venv: Path, wanted: dict[str, str]) -> None:
    started = time.monotonic()
    if not _is_usable(venv):
        print(f"Making a virtual environment in {venv}", flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(venv)])
        # Debian's Python may have had no pip to ask before.
        check_registry("Python's package index", _pip_index(str(_python(venv))))
    # An interrupted installation must not look like a whole one.
    _mark(venv).unlink(missing_ok=True)
    files = [str(REQUIREMENTS / f"{group}.txt") for group in wanted]
    print(f"Installing {', '.join(Path(file).name for file in files)} (a minute or two)", flush=True)
    arguments = [part for file in files for part in ("--requirement", file)]
    options = ["--require-hashes", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    _run([str(_python(venv)), "-m", "pip", "install", *options, *arguments])
    _mark(venv).write_text(json.dumps({"python": sys.version, **wanted}))
    print(f"Installed Python's packages in {time.monotonic() - started:.0f} s", flush=True)


def _run(argv: list[str]) -> None:
    """Run with a dot for each line of output; all of it when it fails."""
    said = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        for line in child.stdout:
            said.append(line)
            print(".", end="", flush=True)
    print(flush=True)
    if child.returncode:
        raise StackError(f"This failed: {' '.join(argv)}\n{''.join(said[-20:])}")


def _hashes(groups: tuple[str, ...]) -> dict[str, str]:
    return {group: hashlib.sha256((REQUIREMENTS / f"{group}.txt").read_bytes()).hexdigest() for group in groups}


def _installed(venv: Path, wanted: dict[str, str]) -> bool:
    try:
        known = json.loads(_mark(venv).read_text())
    except (OSError, ValueError):
        return False
    same = all(known.get(group) == value for group, value in wanted.items())
    return same and known.get("python") == sys.version and _python(venv).exists()


def _is_usable(venv: Path) -> bool:
    """False also after a half done set-up and with another Python: then it is made anew."""
    try:
        return json.loads(_mark(venv).read_text())["python"] == sys.version and _python(venv).exists()
    except (OSError, ValueError, KeyError):
        return False


def _mark(venv: Path) -> Path:
    return venv / "sluice.json"


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


@contextlib.contextmanager
def _locked(path: Path):
    """Hold the lock file; a second start waits for the first one's installation."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
