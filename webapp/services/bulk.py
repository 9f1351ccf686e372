"""COPY: the way that PostgreSQL takes many rows fastest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from psycopg import Connection, sql
from psycopg.types.json import Jsonb
from sqlalchemy import text
from sqlalchemy.orm import Session

from webapp.models import Base


def copy_rows(session: Session, table: type[Base], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Store rows (values in the order of `columns`; a dict or list is JSON) in the session's transaction."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.__tablename__), names)
    connection = cast(Connection[Any], session.connection().connection.driver_connection)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([Jsonb(value) if isinstance(value, (dict, list)) else value for value in row])


def new_ids(session: Session, table: type[Base], count: int) -> list[int]:
    """Ids for rows that COPY is about to store, ascending."""
    sequence = "SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, :count)"
    return list(session.scalars(text(sequence), {"table": table.__tablename__, "count": count}))
