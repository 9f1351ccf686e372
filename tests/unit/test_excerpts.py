"""A long text is cut where it hurts least."""

from __future__ import annotations

import pytest

from webapp.domain.excerpts import beginning


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("exactly 10", "exactly 10"),
        ("first one\n\nsecond one", "first one"),
        ("| a | b |\n| c | d |", "| a | b |"),
        ("many words here", "many words"),
        ("x" * 11, "x" * 10),
        ("a\n\n" + "x" * 20, "a\n\n" + "x" * 7),  # a break in the first half would lose too much
    ],
)
def test_it_ends_with_a_block_a_line_or_a_word(text: str, shown: str) -> None:
    assert beginning(text, 10) == shown
