"""Structured output: whatever the schema, the value fits it and comes from the text."""

import json

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_provider import schema as schemas
from offline_provider import structured

RECORD = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "topic": {"type": "string", "enum": ["space travel", "river locks", "cooking"]},
        "built": {"type": "integer", "minimum": 1000, "maximum": 2100},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "is_crowded": {"type": "boolean"},
        "points": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4},
        "keeper": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 30}]},
        "tags": {"type": "array", "items": {"enum": ["lock", "boat", "bread"]}},
        "flow": {
            "type": "object",
            "properties": {"change": {"type": ["number", "null"]}},
            "required": ["change"],
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
RECORD["required"] = list(RECORD["properties"])


def _format(schema, strict=True):
    return {"format": {"type": "json_schema", "name": "record", "strict": strict, "schema": schema}}


def _fits(value, schema, root=None) -> bool:
    """A small JSON Schema validator for what the provider supports."""
    root = root or schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return _fits(value, root if name == "#" else root["$defs"][name], root)
    if "const" in schema:
        return value == schema["const"]
    if "enum" in schema:
        return value in schema["enum"]
    if "anyOf" in schema:
        return any(_fits(value, option, root) for option in schema["anyOf"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(_fits_type(value, kind, schema, root) for kind in kinds)


def _fits_type(value, kind, schema, root) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("number", "integer"):
        if not is_number or (kind == "integer" and value != int(value)):
            return False
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
            and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
            and value % schema.get("multipleOf", value or 1) == 0
        )
    if kind == "string":
        return isinstance(value, str) and schema.get("minLength", 0) <= len(value) <= schema.get(
            "maxLength", len(value)
        )
    if kind == "array":
        return (
            isinstance(value, list)
            and schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
            and all(_fits(item, schema["items"], root) for item in value)
        )
    return (
        isinstance(value, dict)
        and set(schema.get("required", [])) <= set(value) <= set(schema["properties"])
        and all(_fits(item, schema["properties"][name], root) for name, item in value.items())
    )


def test_record_is_filled_from_the_text(client, article):
    response = client.responses.create(model="gpt-6-luna", input=article, text=_format(RECORD))
    record = json.loads(response.output_text)
    assert _fits(record, RECORD)
    assert record["title"] == "The canal at Teddington"
    assert record["topic"] == "river locks"
    assert record["built"] == 1811
    assert record["tags"] == ["lock", "boat"]
    flat = " ".join(article.split())
    assert all(point in flat for point in record["points"])
    assert record["keeper"] in flat


def test_chat_gives_the_same_record(client, article):
    response = client.responses.create(model="gpt-6-luna", input=article, text=_format(RECORD))
    completion = client.chat.completions.create(
        model="gpt-6-luna",
        messages=[{"role": "user", "content": article}],
        response_format={"type": "json_schema", "json_schema": {"name": "record", "strict": True, "schema": RECORD}},
    )
    assert completion.choices[0].message.content == response.output_text


def test_client_parses_the_answer_into_a_model(client, article):
    from pydantic import BaseModel

    class Lock(BaseModel):
        built: int
        summary: str

    lock = client.responses.parse(model="gpt-6-luna", input=article, text_format=Lock).output_parsed
    assert lock.built == 1811


def test_json_object_mode_answers_with_an_object(client, article):
    response = client.responses.create(
        model="gpt-6-luna", input="Answer in JSON.\n\n" + article, text={"format": {"type": "json_object"}}
    )
    assert "summary" in json.loads(response.output_text)


NODE = {"$ref": "#/$defs/node"}


def _tree(children: dict) -> dict:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": children},
        "required": ["name", "children"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"root": NODE},
        "required": ["root"],
        "additionalProperties": False,
        "$defs": {"node": node},
    }


@pytest.mark.parametrize("children", [{"type": "array", "items": NODE}, {"anyOf": [NODE, {"type": "null"}]}])
def test_recursive_schema_ends(article, children):
    schema = _tree(children)
    schemas.check(schema, strict=True)
    assert _fits(structured.build(schema, article), schema)


def _doubling(levels: int) -> dict:
    """Each definition holds the next one twice: a small schema for 2^levels values."""
    pair = {
        f"n{level}": {"type": "object", "properties": {side: {"$ref": f"#/$defs/n{level + 1}"} for side in "ab"}}
        for level in range(levels)
    }
    return {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/n0"}},
        "$defs": {**pair, f"n{levels}": {"type": "null"}},
    }


BAD_SCHEMAS = [
    {"type": "array", "items": {"type": "string"}},
    {"type": "object", "properties": []},
    {"type": "object", "properties": {"a": True}},
    {"type": "object", "properties": {"a": {"type": "text"}}},
    {"type": "object", "properties": {"a": {"type": {}}}},
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}},
    {"type": "object", "properties": {"a": {"type": "string", "format": "iban"}}},
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 5, "maxLength": 2}}},
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 10**9}}},
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "null"}, "minItems": 10**9}}},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 2, "maximum": 1}}},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 10**400}}},
    {"type": "object", "properties": {"a": {"type": "number", "multipleOf": 0}}},
    {"type": "object", "properties": {"a": {"type": "number", "minimum": "low"}}},
    {"type": "object", "properties": {"a": {"enum": []}}},
    {"type": "object", "properties": {"a": {"anyOf": []}}},
    {"type": "object", "properties": {"a": {"anyOf": [{"oneOf": []}]}}},
    {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}},
    {"type": "object", "properties": {"a": {"$ref": {}}}},
    {"type": "object", "properties": {"a": {"$ref": "https://example.com/s.json"}}},
    {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "#/$defs/b"}}},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "object", "properties": {}, "required": 3},
    {"type": "object", "properties": {}, "required": ["a"]},
    {"type": "object", "properties": {str(n): {"type": "null"} for n in range(2_000)}},
    _doubling(40),
]


@pytest.mark.parametrize("schema", BAD_SCHEMAS)
def test_schema_that_cannot_be_followed_is_400(browser, article, schema):
    body = {"model": "gpt-6-luna", "input": article, "text": _format(schema, strict=False)}
    answer = browser.post("/v1/responses", json=body)
    assert answer.status_code == 400
    assert answer.json["error"]["code"] == "invalid_json_schema"
    assert answer.json["error"]["param"] == "text.format.schema"


@pytest.mark.parametrize("name", ["additionalProperties", "required"])
def test_strict_schema_must_be_closed(client, name):
    schema = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"], "additionalProperties": False}
    del schema[name]
    with pytest.raises(openai.BadRequestError, match=name):
        client.responses.create(model="gpt-6-luna", input="Hi.", text=_format(schema))


def _leaves():
    small = st.integers(-20, 20)
    return st.one_of(
        st.builds(
            lambda a, b: {"type": "string", "minLength": min(a, b), "maxLength": max(a, b)}, *[st.integers(0, 90)] * 2
        ),
        st.builds(lambda a, b: {"type": "integer", "minimum": min(a, b), "maximum": max(a, b)}, small, small),
        st.builds(lambda a: {"type": "integer", "exclusiveMinimum": a, "multipleOf": 3}, small),
        st.builds(
            lambda a, b: {"type": "number", "exclusiveMinimum": min(a, b), "exclusiveMaximum": max(a, b) + 1},
            small,
            small,
        ),
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["null", "string"]}, {"const": 7}]),
        st.lists(st.sampled_from(["lock", "boat", 3, None]), min_size=1).map(lambda values: {"enum": values}),
    )


def _nested(inner):
    return st.one_of(
        st.dictionaries(st.sampled_from(["title", "boats", "flowRate", "x"]), inner, max_size=3).map(_closed),
        st.builds(
            lambda item, a, b: {"type": "array", "items": item, "minItems": min(a, b), "maxItems": max(a, b)},
            inner,
            *[st.integers(0, 5)] * 2,
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
    )


def _closed(properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


ANY_SCHEMA = st.dictionaries(
    st.sampled_from(["title", "summary", "count"]), st.recursive(_leaves(), _nested, max_leaves=8), max_size=3
).map(_closed)


@given(ANY_SCHEMA, st.sampled_from(["", "One boat. 12 locks were built in 1811. The boat waits!", "日本。"]))
@settings(max_examples=100, deadline=None)
def test_value_fits_any_supported_schema(schema, source):
    schemas.check(schema, strict=True)
    assert _fits(structured.build(schema, source), schema)
