"""What the filter of the history matches, as a file."""

from __future__ import annotations

import csv
import io
import json

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_jobs, make_submission, make_user, response
from webapp.domain.answers import read_answer
from webapp.models import Document, User
from webapp.parts import Parts
from webapp.services import job_exports
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer


@pytest.fixture
def browser(client: FlaskClient, alice: User) -> FlaskClient:
    """Alice's."""
    client.post("/login", data={"email": alice.email, "password": PASSWORD})
    return client


def rows_of(client: FlaskClient, query: str = "") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(client.get(f"/jobs/export.csv{query}").text)))


def test_the_file_has_what_the_filter_matches_and_nothing_of_others(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_submission(session, parts, make_user(session, "bob@example.org"))
    made = make_submission(session, parts, alice, 2)
    make_jobs(session, parts, alice, 1)
    assert [row["job"] for row in rows_of(browser)] == ["5", "4", "3"]
    assert [row["job"] for row in rows_of(browser, "?whose=all")] == ["5", "4", "3"]
    rows = rows_of(browser, f"?submission={made.id}")
    assert [(row["job"], row["mode"], row["user"]) for row in rows] == [
        ("4", "sync", alice.email), ("3", "sync", alice.email),
    ]  # fmt: skip
    answer = browser.get("/jobs/export.csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="jobs.csv"'


def test_jsonl_has_an_object_for_each_with_inputs_answer_and_cost(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    [job_id] = make_jobs(session, parts, alice, 1)
    start_attempt(session, parts.settings, job_id=job_id, attempt=1, execution_id="e1")
    record_answer(
        session, parts.settings, parts.prices, job_id=job_id, attempt=1, execution_id="e1",
        answer=read_answer(200, response("- It says ü.")), raw={}, elapsed_ms=5,
    )  # fmt: skip
    answer = browser.get("/jobs/export.jsonl")
    assert answer.content_type == "application/x-ndjson"
    [line] = [json.loads(line) for line in answer.text.splitlines()]
    assert (line["result"], line["status"], line["files"]) == ("- It says ü.", "completed", ["report.pdf"])
    assert line["inputs"]["bullets"] == 8
    assert float(line["costUsd"]) > 0


def test_no_cell_is_a_formula(browser: FlaskClient, session: Session, parts: Parts, alice: User) -> None:
    make_jobs(session, parts, alice, 1)
    session.execute(update(Document).values(filename="=HYPERLINK(1).pdf"))
    session.commit()
    assert rows_of(browser)[0]["files"] == "'=HYPERLINK(1).pdf"


def test_without_a_match_there_is_a_head_only_and_an_odd_filter_exports_nothing(browser: FlaskClient) -> None:
    assert browser.get("/jobs/export.csv").text == ",".join(job_exports.OF_ANY_PROFILE) + "\r\n"
    assert browser.get("/jobs/export.jsonl").text == ""
    assert browser.get("/jobs/export.csv?status=odd").location == "/jobs"
    assert "Nothing was exported." in browser.get("/jobs").text


def test_portions_leave_none_out_and_each_is_a_transaction_of_its_own(
    browser: FlaskClient, session: Session, parts: Parts, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_exports, "JOBS_AT_ONCE", 2)
    ids = make_jobs(session, parts, alice, 4)
    assert [int(row["job"]) for row in rows_of(browser)] == ids[::-1]
    pieces = job_exports.export_jobs(session, job_exports.Wanted(user_id=alice.id), "jsonl")
    assert next(pieces).count("\n") == 2
    assert not session.in_transaction()
