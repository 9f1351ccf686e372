"""A number within the bounds of a schema node, as near to a wanted number as they allow."""

import math

from .schema import MAX_NUMBER, InvalidSchema, bound

_Where = tuple[str, ...]


def fit_integer(node: dict, wanted: float, where: _Where) -> int:
    low, high = _bounds(node, where)
    above, below = bound(node, "exclusiveMinimum", where), bound(node, "exclusiveMaximum", where)
    low = max(math.ceil(low), -MAX_NUMBER if above is None else math.floor(above) + 1)
    high = min(math.floor(high), MAX_NUMBER if below is None else math.ceil(below) - 1)
    step = bound(node, "multipleOf", where)
    if step is not None and step != int(step):
        raise InvalidSchema(where, "'multipleOf' of an integer must be an integer.")
    return int(_fit(int(wanted), low, high, step, where))


def fit_number(node: dict, wanted: float, where: _Where) -> float:
    low, high = _bounds(node, where)
    above, below = bound(node, "exclusiveMinimum", where), bound(node, "exclusiveMaximum", where)
    low = max(low, -MAX_NUMBER if above is None else above + _small_step(above))
    high = min(high, MAX_NUMBER if below is None else below - _small_step(below))
    return _fit(wanted, low, high, bound(node, "multipleOf", where), where)


def is_share(node: dict) -> bool:
    """0..1: a confidence, a probability."""
    return (node.get("minimum"), node.get("maximum")) == (0, 1) and "multipleOf" not in node


def _bounds(node: dict, where: _Where) -> tuple[float, float]:
    low, high = bound(node, "minimum", where), bound(node, "maximum", where)
    return (-MAX_NUMBER if low is None else low, MAX_NUMBER if high is None else high)


def _small_step(value: float) -> float:
    return max(1e-6, abs(value) * 1e-9)


def _fit(wanted: float, low: float, high: float, step: float | None, where: _Where) -> float:
    if low > high:
        raise InvalidSchema(where, "no number lies within the bounds.")
    value = min(max(wanted, low), high)
    if step is None:
        return value
    if step < 1e-6:
        raise InvalidSchema(where, "'multipleOf' below 1e-6 is not supported.")
    for multiple in (value // step * step, (value // step + 1) * step):
        if low <= multiple <= high:
            return multiple
    raise InvalidSchema(where, "no multiple of 'multipleOf' lies within the bounds.")
