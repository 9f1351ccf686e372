"""Uploaded and produced files: the bytes in a folder, what is known about them in the database."""

import os
import shutil
from pathlib import Path
from sqlite3 import Connection, Row
from tempfile import NamedTemporaryFile

from . import clock, flavours
from .db import Database
from .errors import ApiError

DEFAULT_BATCH_SECONDS = 30 * 86_400  # files with purpose batch, and what batches write


class FileStore:
    def __init__(self, db: Database, data_dir: Path):
        self._db = db
        self._content = data_dir / "files"
        self._uploads = data_dir / "uploads"
        self._content.mkdir(exist_ok=True)
        self._uploads.mkdir(exist_ok=True)

    def path(self, file_id: str) -> Path:
        """Only for an id that `get` has returned: nothing else may become a path."""
        return self._content / file_id

    def new_upload(self):
        """A file to write an upload into. It vanishes when it is closed; `add` keeps its content."""
        return NamedTemporaryFile(dir=self._uploads, buffering=1024 * 1024)

    def add(self, source: Path, filename: str, purpose: str, seconds: int | None) -> Row:
        """Keep the content of `source`, for `seconds` or by the rule of its purpose."""
        now = clock.now()
        if seconds is None and purpose == "batch":
            seconds = DEFAULT_BATCH_SECONDS
        file_id = self.keep(source)
        with self._db.write() as connection:
            self.register(connection, file_id, filename, purpose, now, seconds)
        return self.get(file_id)

    def keep(self, source: Path) -> str:
        """Content first, row later: content without a row is swept at the next start."""
        file_id = flavours.current().file_id()
        link_or_copy(source, self.path(file_id))
        return file_id

    def register(
        self,
        connection: Connection,
        file_id: str,
        filename: str,
        purpose: str,
        now: float,
        seconds: int | None,
    ) -> None:
        connection.execute(
            "INSERT INTO files (id, bytes, created_at, filename, purpose, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
            (
                file_id,
                self.path(file_id).stat().st_size,
                now,
                filename,
                purpose,
                None if seconds is None else now + seconds,
            ),
        )

    def find(self, file_id: str) -> Row | None:
        """None if there never was such a file, or it is deleted or expired."""
        return self._db.one(
            "SELECT * FROM files WHERE id = ? AND NOT deleted AND (expires_at IS NULL OR expires_at > ?)",
            (file_id, clock.now()),
        )

    def get(self, file_id: str) -> Row:
        row = self.find(file_id)
        if row is None:
            raise self.not_found(file_id)
        return row

    @staticmethod
    def not_found(file_id: str) -> ApiError:
        return ApiError(f"No such File object: {file_id}", status=404, param="id")

    def page(self, after: str | None, limit: int, order: str, purpose: str | None) -> list[Row]:
        """Up to limit + 1 rows: one more than asked tells that there are more.

        `after` may be a deleted file: a client may delete what it lists, page by page.
        """
        start = self._position(after) if after else None
        sign, word = (">", "ASC") if order == "asc" else ("<", "DESC")
        return self._db.all(
            f"""
            SELECT * FROM files
            WHERE NOT deleted AND (expires_at IS NULL OR expires_at > :now)
              AND (:purpose IS NULL OR purpose = :purpose) AND (:start IS NULL OR seq {sign} :start)
            ORDER BY seq {word} LIMIT :limit
            """,  # noqa: S608 (both words are from the line above)
            {"now": clock.now(), "purpose": purpose, "start": start, "limit": limit + 1},
        )

    def _position(self, file_id: str) -> int:
        row = self._db.one("SELECT seq FROM files WHERE id = ?", (file_id,))
        if row is None:
            raise self.not_found(file_id)
        return row["seq"]

    def delete(self, file_id: str) -> None:
        with self._db.write() as connection:
            connection.execute("UPDATE files SET deleted = 1 WHERE id = ?", (file_id,))
        self.path(file_id).unlink(missing_ok=True)

    def delete_expired(self) -> None:
        now = clock.now()
        rows = self._db.all("SELECT id FROM files WHERE NOT deleted AND expires_at <= ?", (now,))
        for row in rows:
            self.delete(row["id"])

    def sweep(self) -> None:
        """At the start, before any request: remove what a killed process left half done."""
        for upload in self._uploads.iterdir():
            upload.unlink()
        known = {row["id"] for row in self._db.all("SELECT id FROM files WHERE NOT deleted")}
        for content in self._content.iterdir():
            if content.name not in known:
                content.unlink()


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same bytes; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        half = target.with_name(target.name + ".half")
        shutil.copyfile(source, half)
        os.replace(half, target)
