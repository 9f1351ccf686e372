from __future__ import annotations

import json

import pytest

from webapp.domain import rendering
from webapp.domain.errors import InvalidProfile
from webapp.domain.rendering import most_input_tokens, render, renderer, to_json


def test_one_expression_keeps_its_type_and_text_is_text() -> None:
    body = {"n": "{{ inputs.n }}", "s": "n={{ inputs.n }}", "list": ["{{ inputs.n }}", 1, None]}
    assert render(body, {"inputs": {"n": 5}}) == {"n": 5, "s": "n=5", "list": [5, 1, None]}


def test_a_renderer_keeps_what_no_value_changes_and_its_order() -> None:
    fill = renderer({"a": {"b": [1, 2]}, "c": "{{ inputs.text }}", "d": ["x", {"e": "{{ inputs.n + 1 }}"}], "f": 1})
    first = fill({"inputs": {"text": "one", "n": 1}})
    assert fill({"inputs": {"text": "{{ two }}", "n": 2}}) == {
        "a": {"b": [1, 2]}, "c": "{{ two }}", "d": ["x", {"e": 3}], "f": 1,
    }  # fmt: skip
    assert first == {"a": {"b": [1, 2]}, "c": "one", "d": ["x", {"e": 2}], "f": 1}
    assert list(first) == ["a", "c", "d", "f"]


@pytest.mark.parametrize(
    "template",
    ["Choose from {{ inputs.a }}.", "{{ inputs.a ~ inputs.b }}", "{{ inputs.a ~ other }}", "{{ [inputs.a, inputs] }}"],
)
def test_a_run_never_gets_what_was_rendered_for_another_one(template: str) -> None:
    runs: list[dict[str, object]] = [
        {"inputs": {"a": a, "b": b}, "other": other}
        for a in ("x", "y", 1, True, 1.0, 0.0, -0.0) for b in ("x", "y") for other in (1, 2)
    ]  # fmt: skip
    alone = []
    for run in runs:
        rendering._compiled.cache_clear()
        alone.append(repr(render(template, run)))
    twice = [repr(render(template, run)) for run in runs for _ in range(2)]
    assert twice == [said for said in alone for _ in range(2)]


def test_jinja_is_asked_once_for_rows_that_share_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setitem(rendering._environment.filters, "noted", lambda text: asked.append(text) or text)
    template = "{{ inputs.labels | noted }}!"
    found = [render(template, {"inputs": {"labels": labels, "text": n}}) for n, labels in enumerate(("a", "a", "b"))]
    assert (found, asked) == (["a!", "a!", "b!"], ["a", "b"])


def test_values_are_never_templates() -> None:
    assert render("{{ x }} {{ x }}", {"x": "{{ y }}"}) == "{{ y }} {{ y }}"


@pytest.mark.parametrize(
    "template", ["{{ missing }}", "a {{ missing.x }}", "{{ x.y }}", "{% if %}", "{{ ''.__class__ }}"]
)
def test_what_is_not_there_or_not_allowed_is_an_invalid_profile(template: str) -> None:
    with pytest.raises(InvalidProfile):
        render(template, {"x": {}})


@pytest.mark.parametrize("text", ["a\nb\r\n", "\x00\x01\x02", '"\\', "  ", "\ud800", "ü😀"])
def test_the_stored_json_is_one_line_that_copy_can_write(text: str) -> None:
    line = to_json({"input": text})
    assert not set(line) & {"\n", "\r", "\x00", "\x01", "\x02"}
    line.encode()
    assert json.loads(line)["input"] == text.encode("utf-8", "replace").decode()


def test_most_input_tokens_counts_high() -> None:
    assert most_input_tokens(3) == 2
