"""JSON as the API reads and writes it: strict in, compact out."""

import json


def parse(raw: bytes):
    """Raises ValueError for whatever is not JSON, or could not be written down again."""
    # The text is decoded first: json.loads would forgive a byte order mark in bytes.
    text = raw.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if "\\ud" in text or "\\uD" in text:
        # Half a surrogate pair is legal in JSON but is not text. (UnicodeEncodeError is a ValueError.)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def dump(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refuse_constant(name: str):
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:40]} is too large")
    return number
