"""The one SQLite file. WAL, so that readers never wait; writers take turns.

A committed row survives kill -9. Everything that must happen together is one `write()` block.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# `seq` orders lists: it grows with creation even when two rows share a second.
SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    bytes       INTEGER NOT NULL,
    created_at  REAL NOT NULL,
    filename    TEXT NOT NULL,
    purpose     TEXT NOT NULL,
    expires_at  REAL,
    deleted     INTEGER NOT NULL DEFAULT 0   -- the row stays, so that `after` still finds its place
) STRICT;
CREATE INDEX IF NOT EXISTS files_expiring ON files (expires_at) WHERE NOT deleted;

CREATE TABLE IF NOT EXISTS batches (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT NOT NULL UNIQUE,
    endpoint          TEXT NOT NULL,
    input_file_id     TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    metadata          TEXT,                  -- JSON object
    output_seconds    INTEGER,               -- output_expires_after.seconds
    status            TEXT NOT NULL,
    model             TEXT,
    errors            TEXT,                  -- JSON array of validation errors
    created_at        REAL NOT NULL,
    expires_at        REAL NOT NULL,
    in_progress_at    REAL,
    finalizing_at     REAL,
    completed_at      REAL,
    failed_at         REAL,
    expired_at        REAL,
    cancelling_at     REAL,
    cancelled_at      REAL,
    output_file_id    TEXT,
    error_file_id     TEXT,
    enqueued_tokens   INTEGER NOT NULL DEFAULT 0,
    total             INTEGER NOT NULL DEFAULT 0,
    -- The checkpoint: what is true of the files in the batch's folder up to these sizes.
    completed         INTEGER NOT NULL DEFAULT 0,
    failed            INTEGER NOT NULL DEFAULT 0,
    input_offset      INTEGER NOT NULL DEFAULT 0,
    output_bytes      INTEGER NOT NULL DEFAULT 0,
    error_bytes       INTEGER NOT NULL DEFAULT 0,
    input_tokens      INTEGER NOT NULL DEFAULT 0,
    cached_tokens     INTEGER NOT NULL DEFAULT 0,
    output_tokens     INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS batches_unfinished ON batches (status)
    WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');
CREATE INDEX IF NOT EXISTS batches_created ON batches (created_at);

CREATE TABLE IF NOT EXISTS responses (
    id         TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    body       TEXT NOT NULL                 -- JSON
) STRICT;
CREATE INDEX IF NOT EXISTS responses_created ON responses (created_at);

CREATE TABLE IF NOT EXISTS usage_log (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at    REAL NOT NULL,
    endpoint      TEXT NOT NULL,
    mode          TEXT NOT NULL CHECK (mode IN ('sync', 'batch')),
    batch_id      TEXT,
    custom_id     TEXT,
    response_id   TEXT,
    model         TEXT,
    input_tokens  INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    status_code   INTEGER NOT NULL,
    provider_ms   REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS usage_log_batch ON usage_log (batch_id);
"""


class Database:
    def __init__(self, path: Path):
        self._path = path
        self._threads = threading.local()
        self._write_lock = threading.Lock()
        self.connection().executescript(SCHEMA)

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, for reads."""
        if not hasattr(self._threads, "connection"):
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._threads.connection = connection
        return self._threads.connection

    def one(self, query: str, values=()) -> sqlite3.Row | None:
        return self.connection().execute(query, values).fetchone()

    def all(self, query: str, values=()) -> list[sqlite3.Row]:
        return self.connection().execute(query, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: commits at the end of the block, rolls back if it raises."""
        connection = self.connection()
        with self._write_lock:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
