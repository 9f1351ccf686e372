from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from webapp.config import ROOT
from webapp.domain.errors import InvalidInput, InvalidProfile
from webapp.domain.profiles import Profile, canonical_run, load_profiles, map_payload, parse_profile
from webapp.domain.states import ExecutionMode


def make_profile(*fields: dict[str, Any], **more: Any) -> Profile:
    data = {"id": "test", "name": "Test", "fields": fields, "request": {"endpoint": "/v1/responses", "body": {}}}
    return parse_profile(json.dumps(data | more), "test.json")


FIELDS: dict[str, dict[str, Any]] = {
    "text": {"key": "f", "type": "text", "maxLength": 5},
    "integer": {"key": "f", "type": "integer", "min": 1, "max": 9},
    "number": {"key": "f", "type": "number", "max": 1.5},
    "boolean": {"key": "f", "type": "boolean"},
    "select": {"key": "f", "type": "select", "options": ["a", "b"]},
    "multiselect": {"key": "f", "type": "multiselect", "options": ["a", "b"]},
    "datetime": {"key": "f", "type": "datetime"},
    "document": {"key": "f", "type": "document"},
}


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("text", " abc ", "abc"), ("integer", "7", 7), ("number", "1.25", 1.25), ("boolean", True, True),
        ("select", "a", "a"), ("multiselect", ["b", "a"], ["b", "a"]), ("document", 3, 3),
        ("datetime", "2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z"),
    ],
)  # fmt: skip
def test_a_good_value_is_taken(kind: str, value: Any, stored: Any) -> None:
    assert make_profile(FIELDS[kind]).validate_inputs({"f": value}) == {"f": stored}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", "toolong"), ("text", {"a": 1}), ("text", "a\x00b"), ("text", 5), ("integer", "x"), ("integer", 10),
        ("integer", 1.5), ("number", "nan"), ("number", 2), ("boolean", "perhaps"), ("select", "c"),
        ("multiselect", ["c"]), ("multiselect", "a"), ("datetime", "2026-11-24T12:00:00"), ("datetime", "soon"),
        ("document", "x.pdf"), ("document", 0), ("document", True), ("integer", True), ("number", True),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_name(kind: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_profile(FIELDS[kind]).validate_inputs({"f": value})
    assert list(refused.value.errors) == ["f"]


@pytest.mark.parametrize("kind", [kind for kind in FIELDS if kind != "boolean"])
def test_a_required_field_must_be_there(kind: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make_profile(FIELDS[kind] | {"required": True}).validate_inputs({})
    assert refused.value.errors == {"f": "This field is required."}


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"."):
        make_profile(FIELDS["text"]).validate_inputs({"f": "a", "g": "b"})


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"colour": 1}, "/colour"),
        ({"fields": [{"key": "a", "type": "colour"}]}, "/fields/0"),
        ({"fields": [FIELDS["text"], FIELDS["integer"]]}, "two fields have the same key"),
        ({"fields": [FIELDS["integer"] | {"default": 99}]}, "the default of f"),
        ({"fields": [FIELDS["integer"] | {"key": "values"}]}, "these keys are taken"),
        ({"fields": [FIELDS["integer"] | {"key": "model_dump"}]}, "these keys are taken"),
        ({"fields": [FIELDS["text"] | {"pattern": "("}]}, "is not a regular expression"),
        ({"output": {"type": "json", "schema": {"type": "colour"}}}, "is not a JSON Schema"),
        ({"output": {"type": "json", "schema": {"$ref": "http://127.0.0.1:9/s"}}}, "is not in this schema"),
        ({"output": {"type": "json", "schema": {"$ref": "file:///etc/hostname"}}}, "is not in this schema"),
        ({"fields": [{"key": "executionMode", "type": "select", "options": ["later"]}]}, "later"),
        ({"request": {"endpoint": "/v1/embeddings", "body": {}}}, "/request/endpoint"),
    ],
)
def test_a_wrong_profile_is_named_with_pointer_and_reason(change: dict[str, Any], pointer: str) -> None:
    data = {"id": "test", "name": "Test", "fields": [], "request": {"endpoint": "/v1/responses", "body": {}}}
    with pytest.raises(InvalidProfile) as refused:
        parse_profile(json.dumps(data | change), "wrong.json")
    assert pointer in refused.value.message
    assert refused.value.message.startswith("wrong.json: ")


def test_all_wrong_files_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(InvalidProfile) as refused:
        load_profiles(tmp_path)
    assert "a.json: line 1" in refused.value.message
    assert "b.json: /id" in refused.value.message


def test_the_content_hash_ignores_batch_and_execution() -> None:
    one, other = make_profile(FIELDS["text"]), make_profile(FIELDS["text"], batch={"maxBatchSize": 5})
    assert one.content_hash == other.content_hash
    assert one.content_hash != make_profile(FIELDS["integer"]).content_hash


def test_a_payload_map_picks_and_renames() -> None:
    from datetime import UTC, datetime

    run = canonical_run(7, {"id": 1}, "p", ExecutionMode.SYNC, None, {"a": {"b": 2}}, datetime.now(UTC))
    assert map_payload(run, {"who": "user.id", "x": "input.a.b", "none": "input.z.y"}) == {
        "who": 1,
        "x": 2,
        "none": None,
    }
    assert map_payload(run, {}) == run


def test_the_bundled_profiles_answer_hostile_text_at_once() -> None:
    """A pattern that backtracks would stop every thread of the process."""
    profile = load_profiles(ROOT / "profiles")["text_classification"]
    for labels in (",".join(["word"] * 60) + ",", "a a," * 120, "," * 500, " " * 499 + ","):
        with pytest.raises(InvalidInput):
            profile.validate_inputs({"text": "x", "labels": labels})
