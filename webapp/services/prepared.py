"""Statements of nearly every request that return rows: put together once, and handed to psycopg without SQLAlchemy's
work on each call, which takes several times as long as PostgreSQL's answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection as Connected
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import ClauseElement

Ask = Callable[..., list[Any]]


def prepared(statement: ClauseElement) -> Ask:
    """`ask(session_or_connection, **values)`: the rows, in its transaction, as named tuples.

    They have PostgreSQL's own types: a state is its word, not yet a JobStatus. No `in_` of a list: use ANY. A trace
    does not show them.
    """
    compiled: Any = statement.compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]
    sql, fixed = str(compiled), compiled.params

    def ask(on: Session | Connected, **values: Any) -> list[Any]:
        connected = on.connection() if isinstance(on, Session) else on
        driver: Connection[Any] = connected.connection.driver_connection  # type: ignore[assignment]
        try:
            return driver.cursor(row_factory=namedtuple_row).execute(sql, {**fixed, **values}).fetchall()
        except psycopg.Error as error:
            raise _told(error, sql, connected) from error

    return ask


def _told(error: psycopg.Error, sql: str, connected: Connected) -> BaseException:
    """The error as SQLAlchemy would have told it: who catches those has these, too, and no row is in its words."""
    if error.diag.message_primary:
        error.args = (error.diag.message_primary,)
    is_broken = connected.connection.driver_connection.closed  # type: ignore[union-attr]
    if is_broken:
        connected.invalidate(error)
    return DBAPIError.instance(
        sql, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=is_broken,
        dialect=connected.dialect,
    )  # fmt: skip
