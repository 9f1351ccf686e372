"""Many rows at once: COPY, the way that PostgreSQL takes them fastest, and what keeps it busy."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, TypeVar

from psycopg import adapters, sql
from psycopg.types.json import JsonbDumper
from sqlalchemy import text
from sqlalchemy.orm import Session

from webapp.domain.json_text import write_json
from webapp.models import Base
from webapp.services.driver import cursor_of

T = TypeVar("T")
QUICK_TURN, USUAL_TURN = 0.001, 0.005  # seconds; the second is Python's own
FEW = 20  # rows that a plain INSERT takes sooner than a COPY by way of a table beside it


class _Jsonb(JsonbDumper):
    def dump(self, obj: Any) -> bytes:
        return write_json(obj).encode()


adapters.register_dumper(dict, _Jsonb)  # on each connection that is made from now on


def copy_rows(session: Session, table: type[Base], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Store rows (values in the order of `columns`; a dict is JSON) in the session's transaction."""
    stream = iter(rows)
    first = list(islice(stream, 2))
    if len(first) == 2:
        _copy(session, table.__tablename__, columns, chain(first, stream))
    elif first:  # the job of somebody who waits
        _insert(session, table.__tablename__, columns, first)


def _copy(session: Session, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(name), names)
    with cursor_of(session) as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _insert(
    session: Session, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], otherwise: str = ""
) -> None:
    # An id that is given counts, as in a COPY: OVERRIDING lets it be.
    into, places = f"{name} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE", ", ".join(["%s"] * len(columns))
    statement = f"INSERT INTO {into} VALUES ({places}) {otherwise}"  # noqa: S608  (our own names)
    with cursor_of(session) as cursor:
        if len(rows) == 1:
            cursor.execute(statement, rows[0])
        else:
            cursor.executemany(statement, rows)


def read_ahead(chunks: Iterator[T]) -> Iterator[T]:
    """The same; but the next one is made in a thread of its own while PostgreSQL takes the one before."""
    with ThreadPoolExecutor(1) as reader, _quick_turns():
        following = reader.submit(next, chunks, None)
        while (chunk := following.result()) is not None:
            following = reader.submit(next, chunks, None)
            yield chunk


@contextmanager
def _quick_turns() -> Iterator[None]:
    """One thread computes all the time, the other waits for PostgreSQL and then for the interpreter: 1 ms instead of 5.
    Not always, because where many threads wait (requests) it costs more than it brings."""
    sys.setswitchinterval(QUICK_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(USUAL_TURN)


def insert_new(
    session: Session, table: type[Base], columns: Sequence[str], rows: Sequence[Sequence[Any]], key: Sequence[str]
) -> None:
    """Like `copy_rows`, but a row whose `key` (a unique constraint) is there already changes nothing."""
    name, unless_there = table.__tablename__, f"ON CONFLICT ({', '.join(key)}) DO NOTHING"
    if len(rows) <= FEW:
        if rows:
            _insert(session, name, columns, rows, unless_there)
        return
    # COPY knows no ON CONFLICT: the rows come to a table beside it first.
    names, staged = ", ".join(columns), f"new_{name}"
    session.execute(text(f"CREATE TEMPORARY TABLE {staged} AS SELECT {names} FROM {name} WITH NO DATA"))  # noqa: S608
    _copy(session, staged, columns, rows)
    session.execute(text(f"INSERT INTO {name} ({names}) SELECT {names} FROM {staged} {unless_there}"))  # noqa: S608
    session.execute(text(f"DROP TABLE {staged}"))


def new_ids(session: Session, table: type[Base], count: int) -> list[int]:
    """Ids for rows that COPY is about to store, ascending."""
    sequence = "SELECT array_agg(nextval(pg_get_serial_sequence(:table, 'id'))) FROM generate_series(1, :count)"
    return list(session.execute(text(sequence), {"table": table.__tablename__, "count": count}).scalar_one())
