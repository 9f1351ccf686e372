"""Connections to PostgreSQL: one that has died is replaced before a request gets it."""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError

# What a server that ends tells its clients can be read without asking it. What only went silent (a firewall that forgot
# the connection, say) took minutes to do so: a connection that was used a moment ago is not asked again.
SOUND_FOR = 30.0  # seconds


def check_before_use(engine: Engine) -> None:
    """Like SQLAlchemy's `pool_pre_ping`, but mostly without the round trip of each request that this takes."""

    @event.listens_for(engine, "checkin")
    def note(connection: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: psycopg.Connection, record: Any, proxy: Any) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or (time.monotonic() - used_at < SOUND_FOR and not _has_word(connection)):
            return
        try:
            engine.dialect.do_ping(connection)  # type: ignore[arg-type]
        except psycopg.Error as error:
            raise DisconnectionError("The connection has died.") from error


def _has_word(connection: psycopg.Connection) -> bool:
    """Whether the server has said something unasked, or has hung up; True of a closed connection, too."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
