"""JSON from a model as a table for people. It is hostile: however long, wide or deep it is, the table stays small."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from webapp.domain.answers import storable
from webapp.domain.json_text import read_json

MOST_ROWS = 200
MOST_COLUMNS = 20
MOST_CELL = 300  # characters of one cell
MOST_TEXT = 64_000  # characters of all cells together
MOST_DEPTH = 6  # of what is inside a cell


@dataclass(frozen=True)
class Table:
    columns: list[str]
    rows: list[list[str]]  # each as long as `columns`
    count: int  # the rows that there would be
    wide: int  # the columns that there would be

    @property
    def is_cut(self) -> bool:
        return self.count > len(self.rows) or self.wide > len(self.columns)


def read_table(text: str) -> Table | None:
    """The table of JSON text; None where there is nothing to tabulate: a single value, or what cannot be read."""
    try:
        value = read_json(text)
    except (ValueError, RecursionError):
        return None
    return table_of(value)


def table_of(value: Any) -> Table | None:
    """An object has a row for each key, a list one for each entry, with the keys of its objects as columns.

    `value` is anything that JSON can say. What is nested further is compact JSON in its cell.
    """
    match value:
        case dict():
            rows = ([_cell(key), _cell(inner)] for key, inner in value.items())
            return _table(["Name", "Value"], rows, len(value), 2)
        case list() if value and all(isinstance(entry, dict) for entry in value):
            keys = list(dict.fromkeys(key for entry in value for key in entry))
            shown = keys[:MOST_COLUMNS]
            rows = ([_cell(entry[key]) if key in entry else "" for key in shown] for entry in value)
            return _table([_cell(key) for key in shown], rows, len(value), len(keys))
        case list():
            return _table(["Value"], ([_cell(entry)] for entry in value), len(value), 1)
    return None


def _table(columns: list[str], rows: Iterable[list[str]], count: int, wide: int) -> Table:
    kept, room = [], MOST_TEXT
    for row in islice(rows, MOST_ROWS):
        room -= sum(map(len, row))
        if room < 0:
            break
        kept.append(row)
    return Table(columns, kept, count, wide)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        text = value[: MOST_CELL + 1]
    else:
        text = ""
        for piece in _pieces(value, MOST_DEPTH):
            text += piece
            if len(text) > MOST_CELL:
                break
    return storable(text if len(text) <= MOST_CELL else text[: MOST_CELL - 1] + "…")


def _pieces(value: Any, depth: int) -> Iterator[str]:
    """Compact JSON bit by bit, so that whoever reads can stop; what is deeper than `depth` is an ellipsis."""
    match value:
        case dict() | list() if not depth:
            yield "…"
        case dict():
            yield "{"
            for place, (key, inner) in enumerate(value.items()):
                yield f"{', ' if place else ''}{_scalar(key)}: "
                yield from _pieces(inner, depth - 1)
            yield "}"
        case list():
            yield "["
            for place, inner in enumerate(value):
                if place:
                    yield ", "
                yield from _pieces(inner, depth - 1)
            yield "]"
        case _:
            yield _scalar(value)


def _scalar(value: Any) -> str:
    return json.dumps(value[:MOST_CELL] if isinstance(value, str) else value, ensure_ascii=False)
