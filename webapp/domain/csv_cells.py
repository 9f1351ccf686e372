"""Values as cells of a CSV file. One place, because a cell can be an attack: spreadsheets run what begins with "="."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four in full width
SKIPPED = ("\t", "\r", "\n")  # a spreadsheet may drop them, and then look at what follows


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
            is_risky = value.startswith(SKIPPED) or value.lstrip().startswith(FORMULA_STARTS)
            return f"'{value}" if is_risky else str(value)
    return str(value)
