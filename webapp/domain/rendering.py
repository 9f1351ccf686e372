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

import orjson
from jinja2 import StrictUndefined, TemplateError, meta, nodes
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
        return _remembering(_environment.from_string(text).render, text)
    expression = _environment.compile_expression(whole[1], undefined_to_none=False)
    if _PATH.fullmatch(whole[1].strip()):
        return partial(_follow, whole[1].strip().split("."), expression)
    return _remembering(expression, text)


def _remembering(fill: Filler, text: str) -> Filler:
    """The same, but Jinja is not asked again when the inputs that this template names are those of the run before.

    In a submission of many rows most inputs are the same in all of them. What came out is shared: read it only.
    """
    names = _inputs_named(text)
    if names is None:
        return fill
    last: tuple[Any, Any] = (None, None)

    def fill_or_remember(values: Mapping[str, Any]) -> Any:
        nonlocal last
        inputs = values.get("inputs")
        key = [inputs.get(name) for name in names] if type(inputs) is dict else [None]
        known, found = last
        if key != known or any(type(value) is not str for value in key):  # 1 and True are equal, but written otherwise
            found = fill(values)
            last = (key, found)  # at once: threads share this
        return found

    return fill_or_remember


def _inputs_named(text: str) -> list[str] | None:
    """The inputs that alone decide what this template becomes; None when something else does, too."""
    tree = _environment.parse(text)
    if meta.find_undeclared_variables(tree) != {"inputs"} or any(
        f.name == "random" for f in tree.find_all(nodes.Filter)
    ):
        return None
    uses = [one for one in tree.find_all(nodes.Name) if one.name == "inputs"]
    named = [one for one in tree.find_all(nodes.Getattr) if isinstance(one.node, nodes.Name) and one.node in uses]
    return sorted({one.attr for one in named}) if len(named) == len(uses) else None


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
    try:
        return orjson.dumps(body).decode()
    except TypeError:  # lone surrogates, integers beyond 64 bits
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode("utf-8")


TOKENS_OF_A_FILE_PAGE = 3000  # its text and its image, counted high


def most_input_tokens(body_bytes: int, file_pages: int = 0) -> int:
    """An upper estimate of the input tokens of a request body of so many UTF-8 bytes: one token for every two.

    English prose runs at about four bytes a token, dense scripts at two to three; budgets and the
    enqueued-token headroom want a figure that is rarely too low.
    """
    return -(-body_bytes // 2) + file_pages * TOKENS_OF_A_FILE_PAGE
