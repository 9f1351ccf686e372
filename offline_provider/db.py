"""The one SQLite file. WAL, so that readers never wait; writers take turns.

A committed row survives kill -9. Everything that must happen together is one `write()` block.
"""

import json
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
    is_expiring       INTEGER NOT NULL DEFAULT 0,  -- by a fault, whatever expires_at says
    is_cancel_ignored INTEGER NOT NULL DEFAULT 0,  -- it says "cancelling" and goes on
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
    provider_ms   REAL NOT NULL,
    billed        INTEGER NOT NULL DEFAULT 1,
    request_sha256 TEXT                      -- of the raw body; only for callers who waited
) STRICT;
CREATE INDEX IF NOT EXISTS usage_log_batch ON usage_log (batch_id);

-- What /admin has set: the clock's offset and the changed limits.
CREATE TABLE IF NOT EXISTS controls (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL                      -- JSON
) STRICT;

CREATE TABLE IF NOT EXISTS faults (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,
    times      INTEGER,                      -- null: always
    struck     INTEGER NOT NULL DEFAULT 0,
    match      TEXT NOT NULL,                -- JSON object
    parameters TEXT NOT NULL                 -- JSON object
) STRICT;
-- The batches and files that a fault has struck, and holds until it is removed.
CREATE TABLE IF NOT EXISTS fault_targets (
    fault_id INTEGER NOT NULL REFERENCES faults (id) ON DELETE CASCADE,
    target   TEXT NOT NULL,
    PRIMARY KEY (fault_id, target)
) STRICT;
"""

# Columns that a database of an earlier version lacks: (table, column, what fills them in old rows).
ADDED_COLUMNS = (
    ("usage_log", "billed INTEGER NOT NULL DEFAULT 1", "UPDATE usage_log SET billed = (status_code = 200)"),
    ("usage_log", "request_sha256 TEXT", None),
    ("batches", "is_expiring INTEGER NOT NULL DEFAULT 0", None),
    ("batches", "is_cancel_ignored INTEGER NOT NULL DEFAULT 0", None),
)


class Database:
    def __init__(self, path: Path):
        self._path = path
        self._threads = threading.local()
        self._write_lock = threading.Lock()
        self.connection().executescript(SCHEMA)
        self._add_missing_columns()

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, for reads."""
        if not hasattr(self._threads, "connection"):
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._threads.connection = connection
        return self._threads.connection

    def one(self, query: str, values=()) -> sqlite3.Row | None:
        return self.connection().execute(query, values).fetchone()

    def all(self, query: str, values=()) -> list[sqlite3.Row]:
        return self.connection().execute(query, values).fetchall()

    def control(self, name: str, default):
        """A value that /admin has set."""
        row = self.one("SELECT value FROM controls WHERE name = ?", (name,))
        return default if row is None else json.loads(row["value"])

    def set_control(self, name: str, value) -> None:
        with self.write() as connection:
            connection.execute("INSERT OR REPLACE INTO controls VALUES (?, ?)", (name, json.dumps(value)))

    def _add_missing_columns(self) -> None:
        with self.write() as connection:
            for table, column, fill in ADDED_COLUMNS:
                known = {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}
                if column.split()[0] not in known:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
                    if fill:
                        connection.execute(fill)

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
