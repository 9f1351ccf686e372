"""The table of faults: what each kind is called, where it strikes, and what it may be told.

`scope` says where a kind strikes and so what its `match` may name (`fault_matching.py`) and what `times` counts:

    http      a request to the API                     each request
    answer    a request's answer, waited for or not    each answer
    line      what a batch writes for a request        each line
    batch     a batch, until the fault is removed      each batch
    file      a file, until the fault is removed       each file
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from .errors import ApiError, invalid_value, missing_parameter
from .fault_matching import MATCHERS, MATCHES_OF


@dataclass(frozen=True)
class Parameter:
    expected: str
    accepts: Callable[[object], bool]
    default: object = None  # a parameter whose default is null may be null
    is_required: bool = False


@dataclass(frozen=True)
class Kind:
    scope: str
    parameters: dict[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True)
class NewFault:
    """A fault as somebody asked for it, checked and with all its parameters."""

    kind: str
    times: int | None
    match: dict
    parameters: dict


def _whole(least: int, most: float = math.inf, **more) -> Parameter:
    expected = f"an integer from {least}" + ("" if most == math.inf else f" to {most}")
    return Parameter(expected, lambda value: type(value) is int and least <= value <= most, **more)


def _seconds(**more) -> Parameter:
    def accepts(value) -> bool:
        return type(value) in (int, float) and 0 <= value <= 86_400

    return Parameter("a number of seconds", accepts, **more)


def _text(**more) -> Parameter:
    return Parameter("a string", lambda value: isinstance(value, str), **more)


def _flag(default: bool = False) -> Parameter:
    return Parameter("a boolean", lambda value: isinstance(value, bool), default)


def _choice(*values: str) -> Parameter:
    return Parameter("one of " + ", ".join(values), lambda value: value in values, values[0])


def _share() -> Parameter:
    return Parameter("a number from 0 to 1", lambda value: type(value) in (int, float) and 0 <= value <= 1)


MALFORMED_FORMS = ("not_json", "nul_bytes", "lone_surrogate", "no_custom_id", "too_long")


def _forms() -> Parameter:
    def accepts(value) -> bool:
        return isinstance(value, list) and bool(value) and all(form in MALFORMED_FORMS for form in value)

    return Parameter(f"a list of {', '.join(MALFORMED_FORMS)}", accepts, list(MALFORMED_FORMS))


_EVERY = {"every": _whole(1, default=1)}
_ERROR = {"code": _text(), "message": _text(), "type": _text()}
_STATUS = {"status": _whole(400, 599, is_required=True)}

KINDS = {
    # Before the request is looked at, not even its key.
    "slow": Kind("http", {"seconds": _seconds(is_required=True)}),
    "http_error": Kind("http", {**_STATUS, **_ERROR, "retry_after": _seconds()}),
    "drop_before": Kind("http"),
    # After the work is done and committed; only if the answer would have been a good one.
    "slow_after": Kind("http", {"seconds": _seconds(is_required=True)}),
    "garbage_body": Kind("http", {"form": _choice("truncated", "not_json")}),
    "cut_body": Kind("http", {"bytes": _whole(0, is_required=True), "says": _choice("whole", "short")}),
    "drop_after": Kind("http"),
    # Instead of a good answer.
    "refusal": Kind("answer", {"text": _text(default="I'm sorry, but I can't help with that.")}),
    "other_text": Kind("answer", {"text": _text(is_required=True)}),
    "incomplete": Kind("answer", {"reason": _choice("max_output_tokens", "content_filter")}),
    "failed_body": Kind("answer", {"code": _text(default="server_error"), "message": _text(default="It failed.")}),
    "invalid_structured_output": Kind("answer"),
    "no_usage": Kind("answer"),
    "line_error": Kind("answer", {**_STATUS, **_ERROR}),
    # In a batch's files, line by line.
    "status_zero": Kind("line", _EVERY),
    "missing_lines": Kind("line", {**_EVERY, "billed": _flag()}),
    "doubled_lines": Kind("line", {**_EVERY, "different": _flag(), "billed": _flag()}),
    "error_in_output": Kind("line", {**_EVERY, "status": _whole(400, 599, default=400)}),
    # A batch as a whole.
    "validation_error": Kind(
        "batch", {"code": _text(is_required=True), "message": _text(), "param": _text(), "line": _whole(1)}
    ),
    "stall_validating": Kind("batch"),
    "stall": Kind("batch", {"at_line": _whole(0), "at_share": _share(), "past_expiry": _flag()}),
    "long_finalizing": Kind("batch"),
    "expire_now": Kind("batch"),
    "ignore_cancel": Kind("batch", {"mode": _choice("cancel", "complete")}),
    "cancel_lines": Kind("batch"),
    "all_failed": Kind("batch", {"status": _whole(400, 599, default=400)}),
    "unknown_lines": Kind("batch", {"count": _whole(1, 10_000, default=1)}),
    "malformed_lines": Kind(
        "batch",
        {
            "count": _whole(1, 10_000, default=len(MALFORMED_FORMS)),
            "forms": _forms(),
            "long_bytes": _whole(1, 200_000_000, default=5_000_000),
        },
    ),
    "shuffle": Kind("batch"),
    "wrong_counts": Kind("batch", {"total": _whole(0), "completed": _whole(0), "failed": _whole(0)}),
    "empty_file_ids": Kind("batch"),
    "vanish": Kind("batch"),
    "file_gone": Kind("file"),
}
_COMMON = ("kind", "times", "match")
_TIMES = _whole(1, 1_000_000_000)


def read(given, path: str = "") -> NewFault:
    """A JSON value → a fault. ApiError 400 that names what is wrong with it; `path` is where it stands."""
    if not isinstance(given, dict):
        raise invalid_value(path or "fault", "A fault is an object with a 'kind'.")
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise invalid_value(f"{path}kind", f"Unknown kind: {str(kind)[:100]!r}. Known are: {', '.join(KINDS)}.")
    known = KINDS[kind].parameters
    for name in given:
        if name not in known and name not in _COMMON:
            raise _unknown(path + name[:100], f"of {kind}; it has: {', '.join((*_COMMON, *known))}")
    times = _checked(_TIMES, given.get("times"), f"{path}times")
    parameters = {name: _value(parameter, given, name, path) for name, parameter in known.items()}
    return NewFault(kind, times, _read_match(given.get("match"), kind, path), parameters)


def _read_match(given, kind: str, path: str) -> dict:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise invalid_value(f"{path}match", "'match' is an object.")
    names = MATCHES_OF[KINDS[kind].scope]
    for name, wanted in given.items():
        if name not in names:
            raise _unknown(f"{path}match.{name[:100]}", f"of a match for {kind}; it may have: {', '.join(names)}")
        if not MATCHERS[name].accepts(wanted):
            raise invalid_value(f"{path}match.{name}", f"'match.{name}' must be {MATCHERS[name].expected}.")
    return given


def _value(parameter: Parameter, given: dict, name: str, path: str):
    if name not in given and parameter.is_required:
        raise missing_parameter(path + name)
    return _checked(parameter, given.get(name, parameter.default), path + name)


def _checked(parameter: Parameter, value, path: str):
    if value is None and parameter.default is None and not parameter.is_required:
        return None
    if not parameter.accepts(value):
        raise invalid_value(path, f"'{path}' must be {parameter.expected}.")
    return value


def _unknown(param: str, where: str) -> ApiError:
    return ApiError(f"Unknown parameter: '{param}' is none {where}.", param=param, code="unknown_parameter")
