"""Several PDFs in one go: each is read in a process of its own, so that a hostile one harms nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devstack.processes import wait_until
from tests.conftest import DATA
from webapp.domain.errors import BadDocument, UnavailableService
from webapp.gateways import pdf
from webapp.gateways.pdf import PdfReader, PdfText

READER = PdfReader(500, 512, 30)


@pytest.fixture
def own_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker of this test's own, which is yet to begin."""
    monkeypatch.setattr(pdf, "_worker", pdf._Worker())
    yield
    pdf._worker.end()


def said(found: list[PdfText | BadDocument]) -> list[int | str]:
    """The pages of each, or what is wrong with it."""
    return [one.pages if isinstance(one, PdfText) else one.message for one in found]


def test_each_file_has_its_answer_whatever_becomes_of_the_others() -> None:
    names = ["two-pages.pdf", "compression-bomb.pdf", "not-a-pdf.pdf", "debian-history.pdf", "damaged.pdf"]
    assert said(READER.read_all([DATA / name for name in names])) == [
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


@pytest.mark.usefixtures("own_worker")
def test_many_are_read_at_once() -> None:
    """… and the first of them begin one worker together."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: said(READER.read_all([DATA / "two-pages.pdf"])), range(16)))
    assert found == [[2]] * 16


def test_a_worker_that_died_is_begun_again() -> None:
    READER.read(DATA / "two-pages.pdf")
    died = pdf._worker.running
    assert died
    died.process.kill()
    died.process.wait()
    assert said(READER.read_all([DATA / "two-pages.pdf"])) == [2]
    assert pdf._worker.running is not died


@pytest.mark.usefixtures("own_worker")
def test_without_a_worker_somebody_may_try_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pdf, "WORKER", tmp_path / "missing.py")
    with pytest.raises(UnavailableService, match="PDFs cannot be read at the moment"):
        READER.read(DATA / "two-pages.pdf")


def test_a_worker_ends_with_its_parent() -> None:
    """… however that ended, and leaves nothing behind."""
    program = f"""
import os, signal
from pathlib import Path
from webapp.gateways import pdf
assert pdf.PdfReader(500, 512, 30).read(Path({str(DATA / "two-pages.pdf")!r})).pages == 2
print(pdf._worker.running.process.pid, pdf._worker.running.address, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    said_last = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stdout
    pid, address = said_last.split()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="The worker's end", seconds=20)
    assert not Path(address).parent.exists()
