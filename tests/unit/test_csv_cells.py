"""A cell of an export is never a formula."""

from __future__ import annotations

from decimal import Decimal

import pytest

from webapp.domain.csv_cells import cells


@pytest.mark.parametrize("start", ["", "\t", "\r", "\n", "\r\n", " ", "  \n\t", "\u00a0", "\u3000"])
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_text_that_a_spreadsheet_would_run_is_quoted(start: str, sign: str) -> None:
    [cell] = cells(f"{start}{sign}cmd|'/c calc'!A1")
    assert cell == f"'{start}{sign}cmd|'/c calc'!A1"


@pytest.mark.parametrize("value", ["plain", "a = b", " indented", "", "ä-b", "1-2"])
def test_other_text_stays_as_it_is(value: str) -> None:
    assert cells(value) == [value]


def test_a_number_may_be_negative() -> None:
    assert cells(Decimal("-1.50"), -3, None) == ["-1.50", "-3", ""]
