"""Files of rows: what a person's spreadsheet or a program's JSONL becomes, and which line is wrong."""

from __future__ import annotations

import contextlib
import io
import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.errors import InvalidInput
from webapp.domain.profiles import Profile, parse_profile
from webapp.domain.rows import MOST_LINE_BYTES, Row, example_csv, read_rows

PROFILE = parse_profile(
    json.dumps({
        "id": "rows", "name": "Rows",
        "fields": [
            {"key": "text", "type": "textarea", "required": True}, {"key": "maxWords", "type": "integer"},
            {"key": "tags", "type": "multiselect", "options": ["red", "blue"]}, {"key": "urgent", "type": "boolean"},
            {"key": "needBy", "type": "datetime"},
        ],
        "request": {"endpoint": "/v1/responses", "body": {"model": "{{ model }}", "input": "{{ inputs.text }}"}},
    }),
    "rows.json",
)  # fmt: skip


def rows(content: str | bytes, name: str = "rows.csv", profile: Profile = PROFILE) -> list[Row]:
    data = content.encode() if isinstance(content, str) else content
    return list(read_rows(io.BytesIO(data), name, profile, ZoneInfo("Europe/Berlin")))


def test_each_line_of_a_csv_is_a_run_and_empty_cells_are_left_out() -> None:
    assert rows('text,maxWords\n"a, b",12\nc,\n') == [
        Row(2, {"text": "a, b", "maxWords": "12"}), Row(3, {"text": "c"}),
    ]  # fmt: skip


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separators_that_spreadsheets_write_are_understood(separator: str) -> None:
    assert rows(f"text{separator}maxWords\r\na{separator}1\r\n") == [Row(2, {"text": "a", "maxWords": "1"})]


def test_columns_may_be_named_as_people_see_them_and_a_mark_at_the_start_is_no_part_of_a_name() -> None:
    assert rows("\ufeffMax words,Text\n7,a\n") == [Row(2, {"maxWords": "7", "text": "a"})]


def test_a_cell_can_hold_lines_and_the_next_row_keeps_its_number() -> None:
    assert [row.line for row in rows('text\n"one\ntwo"\n\nthree\n')] == [2, 5]


def test_choices_booleans_and_moments_are_written_as_people_write_them() -> None:
    [row] = rows("text,tags,urgent,needBy\na,red | blue,yes,2026-12-01 08:00\n")
    assert row.values is not None
    assert PROFILE.validate_inputs(row.values) == {
        "text": "a", "maxWords": None, "tags": ["red", "blue"], "urgent": True, "needBy": "2026-12-01T08:00:00+01:00",
    }  # fmt: skip
    [row] = rows("text,needBy\na,2026-12-01T08:00:00Z\n")
    assert row.values is not None
    assert row.values["needBy"] == datetime(2026, 12, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("text\na\n", "rows.xlsx", "ends in .csv or .jsonl"),
        ("", "rows.csv", "The first line has to name the fields, like: text, maxWords"),
        ("words\na\n", "rows.csv", "The first line names words, but the fields are: text"),
        ("text,Text\na,b\n", "rows.csv", "names a field twice"),
        (b"text\n\xe4\n", "rows.csv", "not UTF-8"),
        ('text\n"a\n', "rows.csv", "not CSV"),
        ("text\n" + "a" * (MOST_LINE_BYTES + 1), "rows.csv", "longer than"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_words(content: str | bytes, name: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        rows(content, name)
    assert said in refused.value.errors["rows"]


def test_a_line_with_too_many_cells_is_named() -> None:
    assert rows("text\na,b\nc\n") == [
        Row(2, None, "This line has 2 cells, the first line has 1."), Row(3, {"text": "c"}),
    ]  # fmt: skip


def test_each_object_of_a_jsonl_is_a_run_and_what_is_none_is_named_by_its_line() -> None:
    found = rows(b'{"text": "a"}\n\n[1]\n{"text"\n\xff\n"' + b"x" * MOST_LINE_BYTES + b'"\n{"text": "b"}', "rows.jsonl")
    assert [(row.line, row.values, row.fault) for row in found] == [
        (1, {"text": "a"}, None),
        (3, None, "This line is not a JSON object."),
        (4, None, "This line is not JSON."),
        (5, None, "This line is not UTF-8 text."),
        (6, None, "This line is longer than 1,000,000 bytes."),
        (7, {"text": "b"}, None),
    ]


@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.jsonl"]))
def test_any_bytes_are_rows_or_a_sentence(content: bytes, name: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert all((row.values is None) == bool(row.fault) for row in rows(content, name))


def test_the_example_shows_every_kind_of_field_and_can_be_run() -> None:
    profile = parse_profile(
        json.dumps({
            "id": "rows", "name": "Rows",
            "fields": [
                {"key": "executionMode", "type": "select", "options": ["sync", "batch"]},
                {"key": "text", "type": "textarea", "required": True}, {"key": "words", "type": "integer", "min": 5},
                {"key": "share", "type": "number", "default": 0.5}, {"key": "urgent", "type": "boolean"},
                {"key": "tags", "type": "multiselect", "options": ["red", "blue"], "required": True},
                {"key": "colour", "type": "select", "options": ["red", "blue"]}, {"key": "due", "type": "datetime"},
            ],
            "request": {"endpoint": "/v1/responses", "body": {"model": "{{ model }}", "input": "{{ inputs.text }}"}},
        }),
        "rows.json",
    )  # fmt: skip
    example = example_csv(profile)
    assert example.splitlines()[0] == "text,words,share,urgent,tags,colour,due"
    [row] = rows(example, profile=profile)
    assert row.values is not None
    found = profile.validate_inputs(row.values)
    assert (found["words"], found["share"], found["tags"], found["colour"]) == (5, 0.5, ["red", "blue"], "red")
