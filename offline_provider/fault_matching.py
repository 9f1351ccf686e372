"""`match` of a fault: which requests, lines, batches or files it is for. All its parts must hold."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from . import jsontext


@dataclass(frozen=True)
class Matcher:
    expected: str
    accepts: Callable[[object], bool]
    holds: Callable[[object, dict], bool]  # (what is wanted, the facts)


def _is_text(value) -> bool:
    return isinstance(value, str) and bool(value)


def _is_whole(value) -> bool:
    return type(value) is int and value >= 1


def _glob(name: str) -> Matcher:
    def holds(wanted, facts: dict) -> bool:
        return facts.get(name) is not None and fnmatchcase(facts[name], wanted)

    return Matcher("a string, with * for anything", _is_text, holds)


def _request_holds(wanted: str, facts: dict) -> bool:
    """ "POST /v1/batches", "GET /v1/batches/*", or without a method "/v1/files*". With /v1 in every flavour."""
    method, _, path = wanted.rpartition(" ")
    return method in ("", facts["method"]) and fnmatchcase(facts["path"], path)


def _metadata_holds(wanted: dict, facts: dict) -> bool:
    has = facts.get("metadata") or {}
    return all(name in has and fnmatchcase(has[name], value) for name, value in wanted.items())


def _is_metadata(value) -> bool:
    return isinstance(value, dict) and all(isinstance(part, str) for part in value.values())


def _is_numbers(value) -> bool:
    return isinstance(value, list) and all(_is_whole(number) for number in value)


MATCHERS = {
    "request": Matcher("a method and a path, with * for anything", _is_text, _request_holds),
    "endpoint": _glob("endpoint"),
    "model": _glob("model"),
    "mode": _glob("mode"),  # sync or batch
    "custom_id": _glob("custom_id"),
    "batch_id": _glob("batch_id"),
    "input_file_id": _glob("input_file_id"),
    "file_id": _glob("file_id"),
    "filename": _glob("filename"),
    "purpose": _glob("purpose"),
    "metadata": Matcher("an object of strings", _is_metadata, _metadata_holds),
    "lines": Matcher("a list of numbers from 1", _is_numbers, lambda wanted, facts: facts.get("line") in wanted),
    "contains": Matcher("a string", _is_text, lambda wanted, facts: wanted in jsontext.dump(facts["body"])),
}
_BATCH = ("endpoint", "model", "batch_id", "input_file_id", "metadata")
_LINE = (*_BATCH, "custom_id", "lines", "contains")
# scope → the names that a match may have
MATCHES_OF = {
    "http": ("request",),
    "answer": (*_LINE, "mode"),
    "line": _LINE,
    "batch": _BATCH,
    "file": ("file_id", "filename", "purpose"),
}


def matches(match: dict, facts: dict) -> bool:
    return all(MATCHERS[name].holds(wanted, facts) for name, wanted in match.items())
