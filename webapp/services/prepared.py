"""Statements of nearly every request that return rows: put together once, and handed to psycopg as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg.rows import namedtuple_row
from sqlalchemy import Connection as Connected
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.orm import Session
from sqlalchemy.sql.expression import ClauseElement

from webapp.services.driver import cursor_of

Ask = Callable[..., list[Any]]


def prepared(statement: ClauseElement) -> Ask:
    """`ask(session_or_connection, **values)`: the rows, in its transaction, as named tuples.

    They have PostgreSQL's own types: a state is its word, not yet a JobStatus. No `in_` of a list: use ANY.
    """
    compiled: Any = statement.compile(
        dialect=PGDialect_psycopg(),  # type: ignore[no-untyped-call]
        compile_kwargs={"render_postcompile": True},
    )
    sql, fixed = str(compiled), compiled.params

    def ask(on: Session | Connected, **values: Any) -> list[Any]:
        with cursor_of(on, namedtuple_row) as cursor:
            return cursor.execute(sql, {**fixed, **values}).fetchall()

    return ask
