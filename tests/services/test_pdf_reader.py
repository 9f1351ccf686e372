"""Several PDFs in one go: each is read in a process of its own, so that a hostile one harms nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DATA
from webapp.domain.errors import BadDocument
from webapp.gateways import pdf
from webapp.gateways.pdf import PdfReader, PdfText


def said(found: list[PdfText | BadDocument]) -> list[int | str]:
    """The pages of each, or what is wrong with it."""
    return [one.pages if isinstance(one, PdfText) else one.message for one in found]


def test_each_file_has_its_answer_whatever_becomes_of_the_others() -> None:
    names = ["two-pages.pdf", "compression-bomb.pdf", "not-a-pdf.pdf", "debian-history.pdf", "damaged.pdf"]
    assert said(PdfReader(500, 512, 30).read_all([DATA / name for name in names])) == [
        2, "This PDF asks for too much memory or time to be read.", "This file is not a PDF.", 20,
        "This PDF is damaged and cannot be read.",
    ]  # fmt: skip


def test_the_limit_on_time_is_one_file_s_own() -> None:
    names = ["many-slow-pages.pdf", "two-pages.pdf"]
    assert said(PdfReader(500, 512, 1).read_all([DATA / name for name in names])) == [
        "This PDF asks for too much memory or time to be read.", 2,
    ]  # fmt: skip


def test_the_limit_on_pages_holds_for_each() -> None:
    names = ["debian-history.pdf", "two-pages.pdf"]
    found = said(PdfReader(3, 512, 30).read_all([DATA / name for name in names]))
    assert found == ["This PDF has 20 pages; at most 3 are allowed.", 2]


def test_a_worker_that_ends_before_it_is_done_is_no_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pdf, "WORKER", tmp_path / "missing.py")
    found = said(PdfReader(500, 512, 30).read_all([DATA / "two-pages.pdf"]))
    assert found == ["This PDF asks for too much memory or time to be read."]
