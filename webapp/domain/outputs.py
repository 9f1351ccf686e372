"""Does an answer's text have the form that the profile promises?"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from webapp.domain.answers import Answer, storable
from webapp.domain.json_text import read_json
from webapp.domain.profiles import Output

FILE_KINDS = {  # output type: what the name of its file ends with, and its content type
    "json": ("json", "application/json"),
    "markdown": ("md", "text/markdown; charset=utf-8"),
    "text": ("txt", "text/plain; charset=utf-8"),
}
MOST_NESTED = 100  # levels: who reads the answer later may have less room for recursion than we have
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # half of a pair, or one alone


def output_fault(output: Output, answer: Answer) -> Answer:
    """The answer as it is, or as an error when its text is not the JSON that was asked for.

    JSON may escape what is no text ("\\ud800"): it is replaced here, so that whatever reads the answer can write it.
    """
    if output.type != "json" or answer.text is None:
        return answer
    try:
        text = _checked(answer.text, output)
    except ValueError as error:
        why = "was cut off before its JSON was complete" if answer.is_cut else str(error)
        return replace(answer, text=None, error_code="invalid_output", error_message=f"The model's answer {why}.")
    return answer if text is answer.text else replace(answer, text=text)


def _checked(text: str, output: Output) -> str:
    """The text as it is to be kept. Raises ValueError, which goes on after "The model's answer"."""
    try:
        value = read_json(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON ({error})") from None
    if _nests_too_deep(text, value):
        raise ValueError(f"is JSON that nests deeper than {MOST_NESTED} levels")
    if _SURROGATE.search(text) and (said := json.dumps(value, ensure_ascii=False)) != storable(said):
        text = storable(said)
        value = json.loads(text)
    try:
        fault = next(output.validator.iter_errors(value), None)
    except Exception as error:  # a schema that cannot be followed
        raise ValueError(f"cannot be checked against its schema ({type(error).__name__})") from None
    if fault:
        raise ValueError(f"does not fit its schema ({fault.message[:200]})")
    return text


def _nests_too_deep(text: str, value: Any) -> bool:
    if text.count("[") + text.count("{") <= MOST_NESTED:
        return False
    level = [value]
    for _ in range(MOST_NESTED):
        parts = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [one for inner in parts for one in inner]
    return any(isinstance(one, dict | list) for one in level)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
