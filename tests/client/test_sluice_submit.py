"""`sluice submit`: a folder is bought once, wherever it is stopped."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from sluice_client import Client, SluiceError, submitting
from sluice_client.files import write_whole
from tests.client.conftest import Shell
from tests.client.flaky import LOSE, REFUSE, STALL, Link
from tests.conftest import DATA, ROOT
from webapp.models import Document, IdempotencyKey, Job, Submission

COMMAND = ("--profile", "pdf_summary", "--mode", "batch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two PDFs, and what is none of our business."""
    folder = tmp_path / "invoices"
    (folder / "older").mkdir(parents=True)
    shutil.copy(DATA / "two-pages.pdf", folder / "a.pdf")
    shutil.copy(DATA / "two-pages.pdf", folder / "b.PDF")
    shutil.copy(DATA / "two-pages.pdf", folder / "older/c.pdf")
    (folder / "notes.txt").write_text("x")
    return folder


def counts(session: Session) -> tuple[int, int, int]:
    """(documents, submissions, jobs)"""
    session.rollback()
    return tuple(session.scalar(select(func.count()).select_from(one)) for one in (Document, Submission, Job))  # type: ignore[return-value]


def test_a_folder_is_a_submission(shell: Shell, folder: Path, session: Session) -> None:
    said = shell("submit", str(folder), *COMMAND, "--set", "bullets=5", "--set", "audience=expert")
    assert (said.code, said.out) == (0, "1\n")
    assert counts(session) == (2, 1, 2)
    job = session.get_one(Job, 1)
    assert (job.execution_mode, job.inputs["bullets"], job.inputs["audience"]) == ("batch", 5, "expert")
    assert session.get_one(Submission, 1).name == "invoices"


def test_the_second_time_only_what_is_new_is_bought(shell: Shell, folder: Path, session: Session) -> None:
    shell("submit", str(folder), *COMMAND)
    again = shell("submit", str(folder), *COMMAND)
    assert (again.out, "2 of 2 files are in submission 1 already" in again.err) == ("1\n", True)
    shutil.copy(DATA / "debian-history.pdf", folder / "a.pdf")
    assert shell("submit", str(folder), *COMMAND).out == "1\n2\n"
    assert counts(session) == (3, 2, 3)
    assert shell("submit", str(folder), *COMMAND, "--again").out == "3\n"
    assert counts(session) == (5, 3, 5)
    assert shell("submit", str(folder), *COMMAND, "--set", "bullets=3").out == "4\n"


@pytest.mark.parametrize("fault", [REFUSE, LOSE, 200])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_lost_connection_buys_nothing_twice(
    shell: Shell, link: Link, folder: Path, session: Session, place: int, fault: Any
) -> None:
    shell.patience = 0
    link.faults.extend([*[None] * place, fault])  # the profiles, the files, the submission
    first = shell("submit", str(folder), *COMMAND)
    assert (first.code, "does not answer" in first.err) == (4, True)
    assert shell("submit", str(folder), *COMMAND).out == "1\n"
    assert counts(session) == (2, 1, 2)


@pytest.mark.parametrize("is_written", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_killed_at_any_write_it_buys_nothing_twice(
    shell: Shell, folder: Path, session: Session, monkeypatch: pytest.MonkeyPatch, place: int, is_written: bool
) -> None:
    left = [place]

    def write(*given: Any) -> None:
        left[0] -= 1
        if left[0] >= 0 or is_written:
            write_whole(*given)
        if left[0] < 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sluice_client.state.write_whole", write)
        assert shell("submit", str(folder), *COMMAND).code == 130
    assert shell("submit", str(folder), *COMMAND).out == "1\n"
    assert counts(session) == (2, 1, 2)


@pytest.mark.parametrize("seed", range(4))
def test_however_often_it_breaks_it_buys_once(
    shell: Shell, link: Link, folder: Path, session: Session, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(submitting, "MOST_FILES", 1)
    shell.patience = 0
    link.faults.extend(chance.choice([None, None, REFUSE, LOSE, 150, 400]) for _ in range(12))
    said = [shell("submit", str(folder), *COMMAND)]
    while said[-1].code:
        assert said[-1].code == 4, said[-1].err
        said.append(shell("submit", str(folder), *COMMAND))
    assert (said[-1].out, counts(session)) == ("1\n", (2, 1, 2))


def test_without_its_memory_it_buys_nothing_twice(shell: Shell, folder: Path, session: Session) -> None:
    shell("submit", str(folder), *COMMAND)
    (folder / ".sluice.json").unlink()
    assert shell("submit", str(folder), *COMMAND).out == "1\n"
    assert counts(session) == (2, 1, 2)


def test_it_finds_what_it_made_days_ago(shell: Shell, link: Link, folder: Path, session: Session) -> None:
    shell.patience = 0
    link.faults.extend([None, None, LOSE])
    assert shell("submit", str(folder), *COMMAND).code == 4
    session.execute(delete(IdempotencyKey))
    session.commit()
    state = folder / ".sluice.json"
    known = json.loads(state.read_text())
    [asked] = known["servers"][link.url]["submissions"]
    asked["asked_at"] = "2020-01-01T00:00:00+00:00"
    state.write_text(json.dumps(known))
    assert shell("submit", str(folder), *COMMAND).out == "1\n"
    assert counts(session) == (2, 1, 2)


def test_ctrl_c_says_how_to_go_on(
    link: Link, token: str, folder: Path, session: Session, tmp_path: Path
) -> None:  # fmt: skip
    link.faults.extend([None, None, STALL])
    environment = {"SLUICE_URL": link.url, "SLUICE_TOKEN": token, "PYTHONPATH": str(ROOT / "client")}
    command = [sys.executable, "-m", "sluice_client", "submit", str(folder), *COMMAND]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's `make test &` has it ignored
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        assert link.stalled.wait(60)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert (process.returncode, "Run the same command again" in said, "Traceback" in said) == (130, True, False)
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "1\n"
    assert counts(session) == (2, 1, 2)


def test_once_more_is_once_more_although_the_answer_was_lost(
    shell: Shell, link: Link, folder: Path, session: Session
) -> None:
    shell.patience = 0
    shell("submit", str(folder), *COMMAND)
    link.faults.extend([None, None, LOSE])
    assert shell("submit", str(folder), *COMMAND, "--again").code == 4
    assert shell("submit", str(folder), *COMMAND, "--again").out == "2\n"
    assert counts(session) == (4, 2, 4)


def test_ctrl_c_while_watching_says_where_to_look(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sluice_client.watching.watch", stop)
    said = shell("submit", str(folder), *COMMAND, "--watch")
    assert (said.code, said.out, "`sluice watch 1`" in said.err) == (130, "1\n", True)


def test_bad_files_are_all_named_and_nothing_is_bought(shell: Shell, folder: Path, session: Session) -> None:
    (folder / "bad.pdf").write_bytes(b"no")
    shutil.copy(DATA / "no-text-layer.pdf", folder / "scan.pdf")
    said = shell("submit", str(folder), *COMMAND)
    assert (said.code, said.out) == (3, "")
    assert {"bad.pdf:", "scan.pdf:"} <= set(said.err.split())
    assert counts(session) == (2, 0, 0)
    assert shell("submit", str(folder), *COMMAND, "--skip-bad").out == "1\n"
    assert counts(session) == (2, 1, 2)


def test_a_document_that_was_deleted_is_sent_again(
    shell: Shell, sluice: Client, folder: Path, session: Session
) -> None:
    (folder / "bad.pdf").write_bytes(b"no")
    assert shell("submit", str(folder), *COMMAND).code == 3
    (folder / "bad.pdf").unlink()
    sluice.delete_document(1)
    said = shell("submit", str(folder), *COMMAND)
    assert (said.code, "line 1: document: " in said.err, "--again sends all files" in said.err) == (3, True, True)
    assert shell("submit", str(folder), *COMMAND, "--again").code == 0
    assert counts(session) == (4, 1, 2)


def test_many_files_go_in_portions(
    shell: Shell, link: Link, folder: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "MOST_FILES", 2)
    for number in range(3):
        shutil.copy(DATA / "two-pages.pdf", folder / f"x{number}.pdf")
    said = shell("submit", str(folder), *COMMAND)
    assert (link.count, "2 of 5 files are sent" in said.err) == (1 + 3 + 1, True)
    assert counts(session) == (5, 1, 5)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [(("--set", "colour=red"), 2, "KEY one of executionMode"), (("--set", "bullets"), 2, "write KEY=VALUE"),
     (("--set", "bullets=99"), 3, "line 1: bullets:"), (("--set", "bullets=few"), 3, "line 1: bullets:"),
     (("--profile", "none"), 2, "see `sluice profiles`"), (("--profile", "text_classification"), 2, "takes no doc")],
)  # fmt: skip
def test_what_is_wrong_is_said(
    shell: Shell, folder: Path, session: Session, more: tuple[str, ...], code: int, says: str
) -> None:
    said = shell("submit", str(folder), *COMMAND, *more)
    assert (said.code, says in said.err) == (code, True), said.err
    assert counts(session)[1:] == (0, 0)
    assert shell("submit", str(folder), *COMMAND).code == 0


def test_a_folder_without_pdfs_or_a_broken_memory_is_said(shell: Shell, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "There is no PDF" in shell("submit", str(tmp_path / "empty"), *COMMAND).err
    assert "cannot be read: No such file" in shell("submit", str(tmp_path / "none"), *COMMAND).err
    (folder / ".sluice.json").write_text("{")
    said = shell("submit", str(folder), *COMMAND)
    assert (said.code, "move it away to start anew" in said.err) == (2, True)


def test_another_token_does_not_make_it_forget(
    shell: Shell, link: Link, folder: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.patience = 0
    link.faults.extend([None, None, LOSE])
    shell("submit", str(folder), *COMMAND, "--again")
    refused: list[Any] = []

    def refuse(self: Client, *_: Any, **__: Any) -> Any:
        refused.append(self)
        raise SluiceError("no living token", status=401)

    with monkeypatch.context() as patch:
        patch.setattr(Client, "create_submission", refuse)
        assert shell("submit", str(folder), *COMMAND).code == 3
    assert shell("submit", str(folder), *COMMAND).out == "1\n"
    assert (len(refused), counts(session)) == (1, (2, 1, 2))
