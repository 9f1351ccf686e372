"""JSON as a table: small, whatever the JSON is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain import json_table
from webapp.domain.json_table import read_table, table_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=400), inner, max_size=30),
)


def test_an_object_has_a_row_for_each_key() -> None:
    table = table_of({"label": "good", "sure": 0.5, "tags": ["a", {"b": None}], "is": True})
    assert table
    assert table.columns == ["Name", "Value"]
    assert table.rows == [["label", "good"], ["sure", "0.5"], ["tags", '["a", {"b": null}]'], ["is", "true"]]
    assert not table.is_cut


def test_a_list_of_objects_has_their_keys_as_columns() -> None:
    table = table_of([{"a": 1, "b": "x"}, {"b": "y", "c": []}])
    assert table
    assert table.columns == ["a", "b", "c"]
    assert table.rows == [["1", "x", ""], ["", "y", "[]"]]


def test_a_list_of_anything_else_has_one_column() -> None:
    table = table_of(["x", {"a": 1}, [2]])
    assert table
    assert (table.columns, table.rows) == (["Value"], [["x"], ['{"a": 1}'], ["[2]"]])


@pytest.mark.parametrize("text", ["7", '"text"', "null", "{", "", "[" * 200_000, '{"a":' * 200_000])
def test_what_is_no_table_has_none(text: str) -> None:
    assert read_table(text) is None


@pytest.mark.parametrize("depth", [100, 500, 900])
def test_what_nests_deeply_ends_in_an_ellipsis(depth: int) -> None:
    table = read_table('{"a": ' + "[" * depth + "]" * depth + "}")
    assert table
    assert table.rows == [["a", "[[[[[[…]]]]]]"]]


def test_many_rows_and_columns_are_counted_but_not_shown() -> None:
    table = table_of([{f"key {number}": row for number in range(50)} for row in range(1000)])
    assert table
    assert (len(table.rows), table.count) == (json_table.MOST_ROWS, 1000)
    assert (len(table.columns), table.wide) == (json_table.MOST_COLUMNS, 50)
    assert table.is_cut


def test_long_cells_are_cut_and_say_so() -> None:
    table = table_of({"text": "x" * 10**6, "list": list(range(10**6)), "lone": "\ud800"})
    assert table
    values = [value for _, value in table.rows]
    assert [len(value) for value in values] == [json_table.MOST_CELL, json_table.MOST_CELL, 1]
    assert values[0].endswith("x…")


@given(VALUES)
def test_every_table_is_small_and_even(value: Any) -> None:
    table = table_of(value)
    assert (table is None) == (not isinstance(value, dict | list))
    if table:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert sum(len(cell) for row in table.rows for cell in row) <= json_table.MOST_TEXT
        json.dumps(table.rows, ensure_ascii=False).encode()
