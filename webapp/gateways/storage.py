"""Where document bytes live: a local folder here, a container of Azure Blob Storage in `blob_storage`."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from webapp.domain.errors import UnavailableService


class Storage(Protocol):
    """Keys are ours (hex ids, each used once), never a person's file name.

    Every method raises UnavailableService when the store cannot do it now; so may a stream while it is read.
    """

    def put(self, key: str, path: Path) -> None:
        """Take the file at `path` in, whole or not at all; it may be gone from there then."""

    def open(self, key: str) -> BinaryIO:
        """The bytes, to be read once from the beginning; the caller closes it. Raises FileNotFoundError."""

    def delete(self, key: str) -> None:
        """Delete it; one that is gone already is fine."""

    def check(self) -> None:
        """Ask whether documents could be read now."""


class LocalStorage:
    """A folder of files named by key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, key: str, path: Path) -> None:
        target = self._path(key)
        partial = target.with_suffix(".partial")
        with _in_words("store this document"):
            target.parent.mkdir(exist_ok=True, mode=0o700)
            try:
                shutil.move(path, partial)  # copies where the file is on another disk
                os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)

    def open(self, key: str) -> BinaryIO:
        path = self._path(key)
        if not path.exists():
            raise FileNotFoundError(path)
        with _in_words("open this document"):
            return path.open("rb")

    def delete(self, key: str) -> None:
        with _in_words("delete a document"):
            self._path(key).unlink(missing_ok=True)

    def check(self) -> None:
        with _in_words("be reached"), os.scandir(self._folder) as found:
            next(found, None)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / checked(key)


def checked(key: str) -> str:
    """Raises ValueError for what cannot be a key of ours."""
    if not key.isalnum():
        raise ValueError(f"not a storage key: {key!r}")
    return key


def not_done(deed: str, why: str | None) -> UnavailableService:
    """The error that people see; `deed` goes on after "could not"."""
    return UnavailableService(f"The document store could not {deed} ({why}); try again in a moment.")


@contextlib.contextmanager
def _in_words(deed: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise not_done(deed, error.strerror) from error
