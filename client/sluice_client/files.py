"""Files that are there whole or not at all, and names that are safe anywhere."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from sluice_client.errors import SluiceError

NOT_IN_NAMES = set('<>:"/\\|?*')  # on one system or another
MOST_NAME_BYTES = 150  # of 255, which leaves room for what is put behind it


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Put it there in one step, and make its folder if need be. Raises SluiceError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(mode=0o777 if mode & 0o077 else 0o700, parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise SluiceError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        if part.exists():
            part.unlink()


def safe_name(name: str) -> str:
    """The name without its ending, folders and what a file system may not like; "" when nothing is left."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1])
    stem = name.rpartition(".")[0] or name
    kept = "".join("_" if c in NOT_IN_NAMES else c for c in stem if unicodedata.category(c)[0] not in "CZ" or c == " ")
    return kept.encode()[:MOST_NAME_BYTES].decode(errors="ignore").strip(". ")
