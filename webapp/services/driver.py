"""psycopg's own cursor in a session's transaction: for COPY, and for what is asked so often that SQLAlchemy's work on
each call, which takes several times as long as PostgreSQL's answer, would count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, Cursor
from psycopg.pq import TransactionStatus
from psycopg.rows import RowFactory, tuple_row
from sqlalchemy import Connection as Connected
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session

Asked = Session | scoped_session[Any] | Connected


@contextmanager
def cursor_of(on: Asked, row_factory: RowFactory[Any] = tuple_row) -> Iterator[Cursor[Any]]:
    """The cursor; a dict is JSON (`bulk`).

    Raises SQLAlchemy's errors, as if the statement had gone through it: who catches those has these, too.
    """
    connected = _connected(on)
    cursor = _driver(connected).cursor(row_factory=row_factory)
    try:
        yield cursor
    except psycopg.Error as error:
        raise _told(error, connected) from error
    finally:
        cursor.close()


@contextmanager
def alone(on: Asked) -> Iterator[bool]:
    """Each statement in here is a transaction by itself: no BEGIN before it, and nothing to commit after it. For one
    that reads, or that writes all there is to write.

    False when a transaction is under way, of which it is then a part.
    """
    driver = _driver(_connected(on))
    if driver.info.transaction_status is not TransactionStatus.IDLE:
        yield False
        return
    driver.autocommit = True
    try:
        yield True
    finally:
        if not driver.closed:
            driver.autocommit = False


def _connected(on: Asked) -> Connected:
    return on if isinstance(on, Connected) else on.connection()


def _driver(connected: Connected) -> Connection[Any]:
    return connected.connection.driver_connection  # type: ignore[return-value]


def _told(error: psycopg.Error, connected: Connected) -> BaseException:
    """No row is in its words, and no statement: a COPY has none."""
    if error.diag.message_primary:
        error.args = (error.diag.message_primary,)
    is_broken = connected.connection.driver_connection.closed  # type: ignore[union-attr]
    if is_broken:
        connected.invalidate(error)
    return DBAPIError.instance(
        None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=is_broken,
        dialect=connected.dialect,
    )  # fmt: skip
