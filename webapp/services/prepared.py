"""Statements of nearly every request that return rows: put together once, and handed to psycopg as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import Cursor
from psycopg.rows import RowMaker, namedtuple_row
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.sql.expression import ClauseElement

from webapp.services.driver import Asked, cursor_of

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
    make: RowMaker[Any] | None = None

    def rows(cursor: Cursor[Any]) -> RowMaker[Any]:
        nonlocal make
        make = make or namedtuple_row(cursor)  # the columns of a statement stay
        return make

    def ask(on: Asked, **values: Any) -> list[Any]:
        with cursor_of(on, rows) as cursor:
            return cursor.execute(sql, {**fixed, **values}).fetchall()

    return ask
