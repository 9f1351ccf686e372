"""`sluice results` and `sluice watch`: one whole file for each job, under a name that is safe."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from sluice_client import Client, downloading, watching
from sluice_client.files import safe_name, write_whole
from tests.client.conftest import Shell
from tests.client.flaky import Link
from tests.conftest import DATA
from tests.web.test_api_jobs import fail, finish
from webapp.parts import Parts


@pytest.fixture
def submission(sluice: Client) -> int:
    """Three jobs: of a document whose name is hostile, and two others."""
    documents = sluice.upload([DATA / "two-pages.pdf"] * 3)
    return int(sluice.create_submission("pdf_summary", [{"document": one["id"]} for one in documents])["id"])


def test_each_job_becomes_a_file(shell: Shell, submission: int, session: Session, parts: Parts, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(session, parts, 1, "- Ä summary.")
    fail(session, 2)
    early = shell("results", str(submission), "--out", str(out))
    assert (early.code, f"answers written to {out}: 1; " in early.err, "not ended yet: 1." in early.err) == (
        1,
        True,
        True,
    )
    assert sorted(path.name for path in out.iterdir()) == ["two-pages-1.md", "two-pages-2.error.json"]
    assert (out / "two-pages-1.md").read_text() == "- Ä summary."
    assert json.loads((out / "two-pages-2.error.json").read_text())["error"]["message"] == "It broke."
    finish(session, parts, 3, "- Late.")
    (out / "two-pages-1.md").write_text("mine now")
    assert "there before: 1; " in shell("results", str(submission), "--out", str(out)).err
    assert ((out / "two-pages-1.md").read_text(), (out / "two-pages-3.md").read_text()) == ("mine now", "- Late.")


def test_a_json_answer_is_json(shell: Shell, sluice: Client, session: Session, parts: Parts, tmp_path: Path) -> None:
    sluice.create_submission("text_classification", [{"text": "All went well."}])
    finish(session, parts, 1)
    assert shell("results", "1", "--out", str(tmp_path)).code == 0
    assert json.loads((tmp_path / "1.json").read_text())["label"] == "good"


def test_a_download_that_breaks_goes_on(
    shell: Shell, link: Link, submission: int, session: Session, parts: Parts, tmp_path: Path
) -> None:
    for job_id in (1, 2, 3):
        finish(session, parts, job_id, f"- {job_id} " + "word " * 100)
    shell.patience = 0
    link.faults.extend([None, 1200])
    assert shell("results", str(submission), "--out", str(tmp_path)).code == 4
    assert shell("results", str(submission), "--out", str(tmp_path)).code == 0
    assert sorted(path.name for path in tmp_path.glob("*")) == [f"two-pages-{n}.md" for n in (1, 2, 3)]
    assert all(path.read_text().endswith("word ") for path in tmp_path.glob("*.md"))


@pytest.mark.parametrize(
    ("name", "safe"),
    [("report.pdf", "report"), ("../../etc/passwd", "passwd"), ("..\\..\\boot.ini", "boot"), ("..", ""),
     (".pdf", "pdf"), ("a\x00b\x1b[31m\n.pdf", "ab[31m"), ("a\u202egpj.exe.pdf", "agpj.exe"),
     ("con: <x>|?*.pdf", "con_ _x____"), ("Übung 1.pdf", "Übung 1"), ("é" * 300 + ".pdf", "é" * 75),
     ("x. .pdf", "x"), ("", "")],
)  # fmt: skip
def test_a_name_is_safe_anywhere(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    outcome = {"id": 7, "files": [name], "output": "markdown", "status": "completed"}
    assert downloading.file_name(outcome) == (f"{safe}-7.md" if safe else "7.md")


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    write_whole(target, b"old")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(target, b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_watching_tells_each_change_and_ends(
    sluice: Client, submission: int, session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.01)
    screen, told = io.StringIO(), threading.Event()
    monkeypatch.setattr(screen, "flush", told.set)
    watcher = threading.Thread(target=watching.watch, args=(sluice, submission, screen))
    watcher.start()
    for job_id in (1, 2, 3):
        assert told.wait(30)
        told.clear()
        finish(session, parts, job_id, "- A summary.")
    watcher.join(30)
    lines = screen.getvalue().splitlines()
    assert lines[0].endswith("] 0 of 3 · 3 created")
    assert lines[-1] == f"[{'#' * 30}] 3 of 3 · 3 completed"


def test_a_terminal_has_one_line(
    sluice: Client, submission: int, session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in (1, 2, 3):
        finish(session, parts, job_id, "- A summary.")
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    watching.watch(sluice, submission, screen)
    assert screen.getvalue() == f"\r[{'#' * 30}] 3 of 3\n"


def test_watch_says_by_its_code_whether_all_have_answers(
    shell: Shell, submission: int, session: Session, parts: Parts
) -> None:
    for job_id in (1, 2):
        finish(session, parts, job_id, "- A summary.")
    fail(session, 3)
    said = shell("watch", str(submission))
    assert (said.code, "2 completed" in said.err, "1 failed" in said.err) == (1, True, True)
