"""Render a profile's request body: templates in, the provider's JSON out. Once, when the job is created.

Templates are the operator's (a profile file), values are the user's; the sandbox keeps a template from
reaching beyond the values it is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from webapp.domain.errors import InvalidProfile

_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_WHOLE_EXPRESSION = re.compile(r"\{\{((?:(?!\}\}).)+)\}\}", re.DOTALL)


def render(template: Any, values: Mapping[str, Any]) -> Any:
    """Fill the templates in a JSON value.

    A string that is one expression (`"{{ inputs.bullets }}"`) becomes the value itself, with its type;
    any other string is text. Raises InvalidProfile when a template names something that is not there.
    """
    match template:
        case str():
            return _render_text(template, values)
        case Mapping():
            return {key: render(value, values) for key, value in template.items()}
        case list() | tuple():
            return [render(value, values) for value in template]
    return template


def _render_text(text: str, values: Mapping[str, Any]) -> Any:
    if "{" not in text:
        return text
    try:
        value = _compiled(text)(**values)
    except TemplateError as error:
        raise InvalidProfile(f"The template {text[:80]!r} cannot be rendered: {error}") from error
    if isinstance(value, StrictUndefined):
        raise InvalidProfile(f"The template {text!r} names something that is not there.")
    return value


@lru_cache(maxsize=1024)  # profiles are few, runs are many
def _compiled(text: str) -> Callable[..., Any]:
    if whole := _WHOLE_EXPRESSION.fullmatch(text.strip()):
        return _environment.compile_expression(whole[1], undefined_to_none=False)
    return _environment.from_string(text).render


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
