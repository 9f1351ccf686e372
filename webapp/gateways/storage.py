"""Where document bytes live: a local folder (Azure Blob Storage comes with the deployment)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO, Protocol


class Storage(Protocol):
    def put(self, key: str, path: Path) -> None: ...
    def open(self, key: str) -> BinaryIO: ...
    def delete(self, key: str) -> None: ...


class LocalStorage:
    """A folder of files named by key. Keys are ours (hex ids), never a person's file name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, key: str, path: Path) -> None:
        """Copy the file at `path` in, whole or not at all."""
        target = self._path(key)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        partial = target.with_suffix(".partial")
        shutil.copyfile(path, partial)
        os.replace(partial, target)

    def open(self, key: str) -> BinaryIO:
        """Raises FileNotFoundError."""
        return self._path(key).open("rb")

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if not key.isalnum():
            raise ValueError(f"not a storage key: {key!r}")
        return self._folder / key[:2] / key
