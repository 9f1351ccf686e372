"""The fast reader says what json says, also of what it refuses itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.json_text import read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)  # fmt: skip


@given(VALUES)
def test_it_reads_what_json_writes(value: object) -> None:
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@pytest.mark.parametrize("text", [r'"\ud800"', "[Infinity]", "1e400"])
def test_json_has_the_last_word(text: str) -> None:
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["", "{", "nul", b"[1,]"])
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        read_json(text)
