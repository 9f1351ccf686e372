"""The documents of benchmark runs: known sizes, and the same bytes on every machine."""

from __future__ import annotations

import hashlib
from io import BytesIO

import pytest
from pypdf import PdfReader

from webapp.domain.sample_documents import PAGES, sample_pdf


@pytest.mark.parametrize("tier", PAGES)
def test_a_tier_has_its_pages_and_all_of_them_have_text(tier: str) -> None:
    reader = PdfReader(BytesIO(sample_pdf(tier)), strict=True)
    texts = [page.extract_text() for page in reader.pages]
    assert len(texts) == PAGES[tier]
    assert all(3_000 < len(text) < 5_000 for text in texts)
    assert len(set(texts)) == len(texts)


def test_the_sentences_are_whole() -> None:
    text = PdfReader(BytesIO(sample_pdf("L"))).pages[3].extract_text()
    assert "{" not in text
    assert "The keeper of the " in text


def test_runs_of_years_can_be_compared() -> None:
    """A change here makes every new run one of another document: then its tiers should have other names."""
    digest = hashlib.sha256(b"".join(sample_pdf(tier) for tier in PAGES)).hexdigest()
    assert digest == "74f8e7c800f2c473a0b15e281ede596baf320ebce6140e3759a8a9dc79471525"
