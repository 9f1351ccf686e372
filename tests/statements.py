"""What is asked of PostgreSQL: by SQLAlchemy, or past it (`services/driver.py`), which its events do not tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import psycopg


class Statement(NamedTuple):
    sql: str
    values: Any


@contextmanager
def heard() -> Iterator[list[Statement]]:
    """Every statement of this process meanwhile, in order; no COPY."""
    said: list[Statement] = []

    def execute(cursor: Any, statement: Any, values: Any = None, **more: Any) -> Any:
        if isinstance(statement, str):
            said.append(Statement(statement, values))
        return own(cursor, statement, values, **more)

    own = psycopg.Cursor.execute
    with patch.object(psycopg.Cursor, "execute", execute):
        yield said
