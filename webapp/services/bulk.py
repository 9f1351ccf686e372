"""Many rows at once: COPY, the way that PostgreSQL takes them fastest, and what keeps it busy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar, cast

from psycopg import Connection, Cursor, adapters, sql
from psycopg.types.json import JsonbDumper
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from webapp.domain.json_text import write_json
from webapp.models import Base

T = TypeVar("T")
FEW = 20  # rows that a plain INSERT takes sooner than a COPY by way of a table beside it


class _Jsonb(JsonbDumper):
    def dump(self, obj: Any) -> bytes:
        return write_json(obj).encode()


adapters.register_dumper(dict, _Jsonb)  # on each connection that is made from now on


def copy_rows(session: Session, table: type[Base], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Store rows (values in the order of `columns`; a dict is JSON) in the session's transaction."""
    stream = iter(rows)
    if len(first := list(islice(stream, 2))) < 2:  # the job of somebody who waits
        _insert_one(session, table.__tablename__, columns, *first)
        return
    _copy(session, table.__tablename__, columns, chain(first, stream))


def _copy(session: Session, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(name), names)
    with cursor_of(session) as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _insert_one(session: Session, name: str, columns: Sequence[str], row: Sequence[Any] = ()) -> None:
    if not row:
        return
    # Its id is given, as in a COPY: OVERRIDING lets it be.
    into, places = f"{name} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE", ", ".join(["%s"] * len(columns))
    with cursor_of(session) as cursor:
        cursor.execute(f"INSERT INTO {into} VALUES ({places})", row)  # noqa: S608  (our own names)


def read_ahead(chunks: Iterator[T]) -> Iterator[T]:
    """The same; but the next one is made in a thread of its own while PostgreSQL takes the one before."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, chunks, None)
        while (chunk := following.result()) is not None:
            following = reader.submit(next, chunks, None)
            yield chunk


def cursor_of(session: Session) -> Cursor[Any]:
    """psycopg's own cursor, in the session's transaction; a dict is JSON."""
    return cast(Connection[Any], session.connection().connection.driver_connection).cursor()


def insert_new(
    session: Session, table: type[Base], columns: Sequence[str], rows: Sequence[Sequence[Any]], key: Sequence[str]
) -> None:
    """Like `copy_rows`, but a row whose `key` (a unique constraint) is there already changes nothing."""
    if not rows:
        return
    if len(rows) <= FEW:
        # The rows apart from the statement: SQLAlchemy compiles it once, whatever is in them.
        statement = insert(Base.metadata.tables[table.__tablename__]).on_conflict_do_nothing(index_elements=key)
        session.execute(statement, [dict(zip(columns, row, strict=True)) for row in rows])
        return
    # COPY knows no ON CONFLICT: the rows come to a table beside it first.
    names, staged = ", ".join(columns), f"new_{table.__tablename__}"
    made = f"CREATE TEMPORARY TABLE {staged} AS SELECT {names} FROM {table.__tablename__} WITH NO DATA"  # noqa: S608
    session.execute(text(made))
    _copy(session, staged, columns, rows)
    session.execute(text(
        f"INSERT INTO {table.__tablename__} ({names}) SELECT {names} FROM {staged}"  # noqa: S608  (our own names)
        f" ON CONFLICT ({', '.join(key)}) DO NOTHING"
    ))  # fmt: skip
    session.execute(text(f"DROP TABLE {staged}"))


def new_ids(session: Session, table: type[Base], count: int) -> list[int]:
    """Ids for rows that COPY is about to store, ascending."""
    sequence = "SELECT array_agg(nextval(pg_get_serial_sequence(:table, 'id'))) FROM generate_series(1, :count)"
    return list(session.execute(text(sequence), {"table": table.__tablename__, "count": count}).scalar_one())
