"""JSON text, read fast: a window brings fifty thousand answers, and each may have JSON in its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson


def read_json(text: bytes | str, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """What `json.loads` says, several times as fast; an integer beyond 64 bits may be read as a float.

    orjson is stricter (lone surrogates, NaN, deep nesting): what it refuses, json has the last word on.
    Raises ValueError or RecursionError.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text, parse_constant=parse_constant)


def write_json(value: Any) -> str:
    """JSON text of what `read_json` read, as fast: in characters that PostgreSQL's text can hold.

    Raises ValueError or RecursionError for what nests too deep.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, integers beyond 64 bits, deep nesting
        return json.dumps(value)
