"""One row per answer: what this provider would bill. Tests compare their own ledger with it."""

from collections.abc import Iterable
from sqlite3 import Connection, Row

from . import clock
from .answer import Answer
from .db import Database


def record(
    connection: Connection,
    endpoint: str,
    answers: Iterable[tuple[str | None, Answer]],
    batch_id: str | None = None,
    request_sha256: str | None = None,
) -> None:
    """`answers`: (custom_id, answer). Without a batch they were given to callers who waited."""
    now = clock.now()
    mode = "sync" if batch_id is None else "batch"
    connection.executemany(
        "INSERT INTO usage_log (created_at, endpoint, mode, batch_id, custom_id, response_id, model,"
        " input_tokens, cached_tokens, output_tokens, status_code, provider_ms, billed, request_sha256)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                answer.is_billed,
                request_sha256,
            )
            for custom_id, answer in answers
        ],
    )


def forget_batch(connection: Connection, batch_id: str) -> None:
    """For a batch whose results were lost with the disk's cache and that starts over."""
    connection.execute("DELETE FROM usage_log WHERE batch_id = ?", (batch_id,))


def billed_by_batch(db: Database) -> dict[str, dict]:
    """batch id → what it cost so far: requests and tokens."""
    rows = db.all(
        "SELECT batch_id, count(*) AS requests, sum(input_tokens) AS input_tokens, sum(cached_tokens) AS cached_tokens,"
        " sum(output_tokens) AS output_tokens FROM usage_log WHERE billed AND batch_id IS NOT NULL GROUP BY batch_id"
    )
    return {row["batch_id"]: {name: row[name] for name in row.keys() if name != "batch_id"} for row in rows}  # noqa: SIM118


def page(db: Database, after: int, limit: int) -> list[Row]:
    return db.all("SELECT * FROM usage_log WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
