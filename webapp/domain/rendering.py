"""Render a profile's request body: templates in, the provider's JSON out. Once, when the job is created.

Templates are the operator's (a profile file), values are the user's; the sandbox keeps a template from
reaching beyond the values it is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from webapp.domain.errors import InvalidProfile

_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_PATH = re.compile(r"\w+(\.\w+)*")
_WHOLE_EXPRESSION = re.compile(r"\{\{((?:(?!\}\}).)+)\}\}", re.DOTALL)


Filler = Callable[[Mapping[str, Any]], Any]


def render(template: Any, values: Mapping[str, Any]) -> Any:
    """Fill the templates in a JSON value.

    A string that is one expression (`"{{ inputs.bullets }}"`) becomes the value itself, with its type;
    any other string is text. Raises InvalidProfile when a template names something that is not there.
    """
    return renderer(template)(values)


def renderer(template: Any) -> Filler:
    """`render` of one template for many runs: what no value changes is looked at once, and shared by all of them."""
    return _filler(template) or (lambda values: template)


def _filler(template: Any) -> Filler | None:
    """What fills this template in; None when there is nothing to fill in."""
    match template:
        case str():
            return partial(_render_text, template) if "{" in template else None
        case Mapping():
            return _filler_of_parts(template, template.items(), dict)
        case list() | tuple():
            return _filler_of_parts(template, enumerate(template), list)
    return None


def _filler_of_parts(template: Any, parts: Iterable[tuple[Any, Any]], copy: Callable[[Any], Any]) -> Filler | None:
    fillers = {key: filler for key, part in parts if (filler := _filler(part))}

    def fill(values: Mapping[str, Any]) -> Any:
        filled = copy(template)
        for key, filler in fillers.items():
            filled[key] = filler(values)
        return filled

    return fill if fillers else None


def _render_text(text: str, values: Mapping[str, Any]) -> Any:
    try:
        value = _compiled(text)(values)
    except TemplateError as error:
        raise InvalidProfile(f"The template {text[:80]!r} cannot be rendered: {error}") from error
    if isinstance(value, StrictUndefined):
        raise InvalidProfile(f"The template {text!r} names something that is not there.")
    return value


@lru_cache(maxsize=1024)  # profiles are few, runs are many
def _compiled(text: str) -> Filler:
    whole = _WHOLE_EXPRESSION.fullmatch(text.strip())
    if whole is None:
        return _environment.from_string(text).render
    expression = _environment.compile_expression(whole[1], undefined_to_none=False)
    if _PATH.fullmatch(whole[1].strip()):
        return partial(_follow, whole[1].strip().split("."), expression)
    return expression


def _follow(path: Sequence[str], expression: Filler, values: Mapping[str, Any]) -> Any:
    """What `inputs.text` names, without Jinja where that is plain: it is in nearly every request."""
    value: Any = values
    for name in path:
        if type(value) is not dict or name not in value or hasattr(dict, name):
            return expression(values)
        value = value[name]
    return value


def to_json(body: Any) -> str:
    """The exact text that is stored and sent: compact, one line, non-ASCII kept. Lone surrogates are replaced."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # PostgreSQL's text cannot hold NUL and UTF-8 has no surrogates; json.dumps has escaped control characters.
    return text.encode("utf-8", "replace").decode("utf-8")


TOKENS_OF_A_FILE_PAGE = 3000  # its text and its image, counted high


def most_input_tokens(body_json: str, file_pages: int = 0) -> int:
    """An upper estimate of the input tokens of a request body: one token for every two UTF-8 bytes.

    English prose runs at about four bytes a token, dense scripts at two to three; budgets and the
    enqueued-token headroom want a figure that is rarely too low.
    """
    return -(-len(body_json.encode()) // 2) + file_pages * TOKENS_OF_A_FILE_PAGE
