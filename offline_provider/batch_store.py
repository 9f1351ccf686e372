"""Batches in the database. Status only changes here, by an UPDATE that names the status it expects."""

import json
from dataclasses import dataclass
from sqlite3 import Connection, Row

from . import clock, flavours
from .db import Database
from .errors import ApiError

CANCELLABLE = ("validating", "in_progress", "finalizing")
# status → the column that says when it was reached
_TIME_OF = {
    "in_progress": "in_progress_at",
    "finalizing": "finalizing_at",
    "completed": "completed_at",
    "failed": "failed_at",
    "expired": "expired_at",
    "cancelling": "cancelling_at",
    "cancelled": "cancelled_at",
}


@dataclass
class Checkpoint:
    """How far a batch has come. The files in its folder are true up to these sizes, in bytes."""

    completed: int = 0
    failed: int = 0
    input_offset: int = 0
    output_bytes: int = 0
    error_bytes: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @classmethod
    def of(cls, batch: Row) -> "Checkpoint":
        return cls(**{name: batch[name] for name in cls.__dataclass_fields__})


def facts_of(batch: Row) -> dict:
    """What the `match` of a fault may ask about a batch."""
    return {
        "batch_id": batch["id"],
        "endpoint": batch["endpoint"],
        "model": batch["model"],
        "input_file_id": batch["input_file_id"],
        "metadata": json.loads(batch["metadata"] or "{}"),
    }


class BatchStore:
    def __init__(self, db: Database):
        self.db = db

    def create(
        self,
        endpoint: str,
        input_file_id: str,
        completion_window: str,
        window_seconds: float,
        metadata: dict | None,
        output_seconds: int | None,
    ) -> Row:
        now = clock.now()
        batch_id = flavours.current().batch_id(now)
        with self.db.write() as connection:
            connection.execute(
                "INSERT INTO batches (id, endpoint, input_file_id, completion_window, metadata,"
                " output_seconds, status, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, 'validating', ?, ?)",
                (
                    batch_id,
                    endpoint,
                    input_file_id,
                    completion_window,
                    None if metadata is None else json.dumps(metadata),
                    output_seconds,
                    now,
                    now + window_seconds,
                ),
            )
        return self.get(batch_id)

    def get(self, batch_id: str) -> Row:
        row = self.db.one("SELECT * FROM batches WHERE id = ?", (batch_id,))
        if row is None:
            raise self.not_found(batch_id)
        return row

    @staticmethod
    def not_found(batch_id: str) -> ApiError:
        return ApiError(f"No batch found with id '{batch_id}'.", status=404)

    def page(self, after: str | None, limit: int) -> list[Row]:
        """Newest first, up to limit + 1 rows: one more than asked tells that there are more."""
        before = self.get(after)["seq"] if after else None
        return self.db.all(
            "SELECT * FROM batches WHERE (:before IS NULL OR seq < :before) ORDER BY seq DESC LIMIT :limit",
            {"before": before, "limit": limit + 1},
        )

    def every(self, after: int, limit: int) -> list[Row]:
        """Oldest first, from behind the number `after`."""
        return self.db.all("SELECT * FROM batches WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))

    def start_expiring(self, batch_id: str) -> None:
        with self.db.write() as connection:
            connection.execute("UPDATE batches SET is_expiring = 1 WHERE id = ?", (batch_id,))

    def ignore_cancel(self, batch_id: str) -> bool:
        """It will say "cancelling" from now on, and goes on as if nothing had been. False if it has ended."""
        with self.db.write() as connection:
            ignored = connection.execute(
                "UPDATE batches SET is_cancel_ignored = 1, cancelling_at = coalesce(cancelling_at, ?)"
                " WHERE id = ? AND status IN ('validating', 'in_progress', 'finalizing')",
                (clock.now(), batch_id),
            )
        return ignored.rowcount == 1

    def unfinished(self) -> list[Row]:
        return self.db.all(
            "SELECT * FROM batches WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')"
            " ORDER BY seq"
        )

    def created_between(self, start: float, end: float) -> int:
        return self.db.one("SELECT count(*) FROM batches WHERE created_at > ? AND created_at <= ?", (start, end))[0]

    def enqueued_tokens(self, model: str) -> int:
        """What unfinished batches hold of the model's allowance."""
        return self.db.one(
            "SELECT coalesce(sum(enqueued_tokens), 0) FROM batches WHERE model = ?"
            " AND status IN ('in_progress', 'finalizing', 'cancelling')",
            (model,),
        )[0]

    def move(self, batch_id: str, sources: tuple[str, ...], to: str, **columns) -> bool:
        """One transition in a transaction of its own. False if the batch was in no such status."""
        with self.db.write() as connection:
            return self.move_in(connection, batch_id, sources, to, **columns)

    @staticmethod
    def move_in(connection: Connection, batch_id: str, sources: tuple[str, ...], to: str, **columns) -> bool:
        values = {"status": to, _TIME_OF[to]: clock.now(), **columns}
        assignments = ", ".join(f"{name} = ?" for name in values)
        allowed = ", ".join("?" * len(sources))
        moved = connection.execute(
            f"UPDATE batches SET {assignments} WHERE id = ? AND status IN ({allowed})",  # noqa: S608
            (*values.values(), batch_id, *sources),
        )
        return moved.rowcount == 1

    @staticmethod
    def save(connection: Connection, batch_id: str, checkpoint: Checkpoint) -> None:
        """Whatever the status is by now: the lines up to here have been answered, and are billed."""
        values = vars(checkpoint)
        assignments = ", ".join(f"{name} = ?" for name in values)
        connection.execute(
            f"UPDATE batches SET {assignments} WHERE id = ?",  # noqa: S608 (our own column names)
            (*values.values(), batch_id),
        )
