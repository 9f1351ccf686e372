"""Which server, and whose token: from the environment, or from a file that only its owner can read."""

from __future__ import annotations

import json
import os
from pathlib import Path

from sluice_client.errors import SluiceError
from sluice_client.files import write_whole

HOW = "Run `sluice login`, or set SLUICE_URL and SLUICE_TOKEN."


def config_path() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "sluice" / "login.json"


def load() -> tuple[str, str]:
    """(address, token), both from the same place: a saved token goes to no other server. Raises SluiceError."""
    url, token, path = os.environ.get("SLUICE_URL"), os.environ.get("SLUICE_TOKEN"), config_path()
    if url and token:
        return url, token
    if url or token:
        raise SluiceError("Only one of SLUICE_URL and SLUICE_TOKEN is set: set both, or none.")
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise SluiceError(f"Others can read {path}: run `chmod 600 {path}`.")
        saved = json.loads(path.read_text())
        return str(saved["url"]), str(saved["token"])
    except FileNotFoundError:
        raise SluiceError(f"Which Sluice, and who are you? {HOW}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SluiceError(f"{path} cannot be read ({error}). {HOW}") from None


def save(url: str, token: str) -> Path:
    """Raises SluiceError."""
    path = config_path()
    write_whole(path, json.dumps({"url": url, "token": token}).encode(), mode=0o600)
    return path
