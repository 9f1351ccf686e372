"""One row per answer: what this provider would bill. Tests compare their own ledger with it."""

from collections.abc import Iterable
from sqlite3 import Connection, Row

from . import clock
from .answers import Answer
from .db import Database


def record(
    connection: Connection,
    endpoint: str,
    answers: Iterable[tuple[str | None, Answer]],
    batch_id: str | None = None,
) -> None:
    """`answers`: (custom_id, answer). Without a batch they were given to callers who waited."""
    now = clock.now()
    mode = "sync" if batch_id is None else "batch"
    connection.executemany(
        "INSERT INTO usage_log (created_at, endpoint, mode, batch_id, custom_id, response_id, model,"
        " input_tokens, cached_tokens, output_tokens, status_code, provider_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                now,
                endpoint,
                mode,
                batch_id,
                custom_id,
                answer.response_id,
                answer.model,
                answer.input_tokens,
                answer.cached_tokens,
                answer.output_tokens,
                answer.status,
                answer.provider_ms,
            )
            for custom_id, answer in answers
        ],
    )


def forget_batch(connection: Connection, batch_id: str) -> None:
    """For a batch whose results were lost with the disk's cache and that starts over."""
    connection.execute("DELETE FROM usage_log WHERE batch_id = ?", (batch_id,))


def page(db: Database, after: int, limit: int) -> list[Row]:
    return db.all("SELECT * FROM usage_log WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
