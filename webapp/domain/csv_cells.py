"""Values as cells of a CSV file. One place, because a cell can be an attack: spreadsheets run what begins with "="."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def cells(*values: Any) -> list[str]:
    """Numbers in full precision, times in UTC, and no text that a spreadsheet would take for a formula."""
    return [_cell(value) for value in values]


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.astimezone(UTC).isoformat()
        case str():
            return f"'{value}" if value.startswith(FORMULA_STARTS) else str(value)
    return str(value)
