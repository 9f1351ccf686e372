"""`sluice submit rows.jsonl`: a job of each line, bought once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sluice_client.files import write_whole
from tests.client.conftest import Shell
from tests.client.flaky import LOSE, Link
from webapp.models import Job

COMMAND = ("--profile", "text_classification", "--mode", "batch", "--set", "labels=up, down")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "It rose."}\n{"text": "It fell.", "labels": "a, b"}\n')
    return path


def job_count(session: Session) -> int:
    session.rollback()
    return session.scalar(select(func.count()).select_from(Job)) or 0


def test_each_line_is_a_job(shell: Shell, rows: Path, session: Session) -> None:
    assert shell("submit", str(rows), *COMMAND).out == "1\n"
    jobs = session.scalars(select(Job).order_by(Job.id)).all()
    assert [(job.inputs["text"], job.inputs["labels"]) for job in jobs] == [
        ("It rose.", "up, down"), ("It fell.", "a, b"),
    ]  # fmt: skip


def test_a_file_is_bought_once_until_it_changes(shell: Shell, rows: Path, session: Session) -> None:
    shell("submit", str(rows), *COMMAND)
    again = shell("submit", str(rows), *COMMAND)
    assert (again.out, "is in submission 1 already" in again.err, job_count(session)) == ("1\n", True, 2)
    assert shell("submit", str(rows), *COMMAND, "--again").out == "2\n"
    rows.write_text('{"text": "It stayed."}\n')
    assert shell("submit", str(rows), *COMMAND).out == "3\n"
    assert job_count(session) == 5


@pytest.mark.parametrize("again", [(), ("--again",)])
def test_a_lost_answer_buys_nothing_twice(
    shell: Shell, link: Link, rows: Path, session: Session, again: tuple[str, ...]
) -> None:
    shell.patience = 0
    link.faults.extend([None, LOSE])
    assert shell("submit", str(rows), *COMMAND, *again).code == 4
    assert shell("submit", str(rows), *COMMAND, *again).out == "1\n"
    assert job_count(session) == 2


def test_after_a_day_a_person_decides(shell: Shell, link: Link, rows: Path, session: Session) -> None:
    shell.patience = 0
    link.faults.extend([None, LOSE])
    shell("submit", str(rows), *COMMAND)
    state = rows.with_name(".sluice.json")
    known = json.loads(state.read_text())
    known["servers"][link.url]["submissions"][0]["asked_at"] = "2020-01-01T00:00:00+00:00"
    write_whole(state, json.dumps(known).encode())
    said = shell("submit", str(rows), *COMMAND)
    assert (said.code, "look at `sluice jobs --profile text_classification`" in said.err) == (2, True)
    assert shell("submit", str(rows), *COMMAND, "--again").out == "2\n"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [('{"text": "a"}\n[]\n', 2, "line 2 is not a JSON object"), ("{\n", 2, "line 1 is not a JSON object"),
     ('{"text": "a"}\n{"text": ""}\n', 3, "line 2: text: "), ("", 3, ""),
     ("\udcff", 2, "line 1 is not a JSON object")],
)  # fmt: skip
def test_a_wrong_line_is_named_and_nothing_is_bought(
    shell: Shell, rows: Path, session: Session, text: str, code: int, says: str
) -> None:
    rows.write_bytes(text.encode(errors="surrogateescape"))
    said = shell("submit", str(rows), *COMMAND)
    assert (said.code, says in said.err, job_count(session)) == (code, True, 0), said.err
    rows.write_text('{"text": "It rose."}\n')
    assert shell("submit", str(rows), *COMMAND).code == 0


def test_a_file_that_is_not_there_is_said(shell: Shell, tmp_path: Path) -> None:
    said = shell("submit", str(tmp_path / "none.jsonl"), *COMMAND)
    assert (said.code, "none.jsonl cannot be read: No such file" in said.err) == (2, True)
