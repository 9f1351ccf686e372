"""The pages of jobs that were made together: progress, filter, retry, cancel, results."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_submission, make_user, response
from webapp.domain.answers import read_answer
from webapp.domain.errors import InvalidMove
from webapp.domain.states import JobStatus
from webapp.models import Job, JobRequest, Submission, User
from webapp.parts import Parts
from webapp.services import job_exports, jobs, lifecycle, submissions
from webapp.services.clock import clock
from webapp.services.dispatch import start_attempt
from webapp.services.heartbeat import Beat, tick
from webapp.services.ingest import record_answer


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def alice(client: FlaskClient, user: User) -> FlaskClient:
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    return client


@pytest.fixture
def made(session: Session, parts: Parts, user: User) -> Submission:
    """Three sync jobs."""
    return make_submission(session, parts, user, 3)


def job_ids(session: Session, submission: Submission) -> list[int]:
    return list(session.scalars(select(Job.id).where(Job.submission_id == submission.id).order_by(Job.id)))


def answer(session: Session, parts: Parts, job_id: int, text: str) -> None:
    start_attempt(session, parts.settings, job_id=job_id, attempt=1, execution_id=f"e{job_id}")
    record_answer(
        session, parts.settings, parts.prices, job_id=job_id, attempt=1, execution_id=f"e{job_id}",
        answer=read_answer(200, response(text)), raw={}, elapsed_ms=5,
    )  # fmt: skip


def fail(session: Session, *ids: int) -> None:
    lifecycle.finish_jobs(
        session, ids, JobStatus.FAILED, now=clock(session), actor="test", reason="a test",
        values={"failure_code": "test", "failure_message": "The provider refused it."},
    )  # fmt: skip
    session.commit()


def test_the_page_says_how_far_it_is_what_it_costs_and_what_it_waits_for(
    alice: FlaskClient, session: Session, parts: Parts, made: Submission
) -> None:
    first, second, _ = job_ids(session, made)
    answer(session, parts, first, '{"label": "good", "confidence": 1, "reason": "x"}')
    fail(session, second)
    html = alice.get(f"/submissions/{made.id}").text
    assert "2 of 3 jobs have ended" in html
    assert "$0.0002" in html
    assert "It waits for its turn" in html
    assert "The provider refused it." in html
    assert "Cancel 1 that has not started" in html


def test_the_whole_region_is_one_poll_that_ends_with_the_last_job(
    alice: FlaskClient, session: Session, made: Submission
) -> None:
    def fragment() -> str:
        return str(alice.get(f"/submissions/{made.id}", headers={"HX-Request": "true"}).text)

    assert fragment().count("hx-trigger") == 1
    assert "<html" not in fragment()
    fail(session, *job_ids(session, made))
    assert "All 3 jobs have ended" in fragment()
    assert "hx-trigger" not in fragment()


def test_the_list_is_filtered_and_paged(
    alice: FlaskClient, session: Session, made: Submission
) -> None:  # fmt: skip
    def listed(path: str) -> str:
        return str(alice.get(path).text.split("<tbody>")[1])

    first, second, third = job_ids(session, made)
    fail(session, second)
    html = listed(f"/submissions/{made.id}?status=failed")
    assert [f"/jobs/{job_id}" in html for job_id in (first, second, third)] == [False, True, False]
    assert "No jobs in this state" in alice.get(f"/submissions/{made.id}?status=expired").text
    assert alice.get(f"/submissions/{made.id}?status=nonsense").status_code == 404
    session.rollback()
    found, later = submissions.list_jobs(session, made.id, size=2)
    assert ([job.id for job in found], later) == ([first, second], second)
    html = listed(f"/submissions/{made.id}?after={second}")
    assert [f"/jobs/{job_id}" in html for job_id in (second, third)] == [False, True]


def test_the_failed_ones_run_again_once_as_a_submission_of_their_own(
    alice: FlaskClient, session: Session, made: Submission
) -> None:
    first, second, _ = job_ids(session, made)
    fail(session, first, second)
    reply = alice.post(f"/submissions/{made.id}/retry")
    assert (reply.status_code, reply.location) == (303, f"/submissions/{made.id + 1}")
    session.rollback()
    again = session.get_one(Submission, made.id + 1)
    assert (again.source, again.job_count, again.user_id) == ("retry", 2, made.user_id)
    repeats = session.execute(
        select(Job.retry_of, Job.status, JobRequest.body.is_not(None))
        .join(JobRequest, JobRequest.job_id == Job.id)
        .where(Job.submission_id == again.id)
        .order_by(Job.id)
    ).all()
    assert [tuple(row) for row in repeats] == [(first, "created", True), (second, "created", True)]
    assert alice.post(f"/submissions/{made.id}/retry").status_code == 409
    session.rollback()
    assert session.scalar(select(func.count()).select_from(Submission)) == 2


def test_what_has_not_started_is_cancelled_and_the_rest_is_left(
    alice: FlaskClient, session: Session, parts: Parts, made: Submission, user: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(jobs, "CANCELLED_AT_ONCE", 1)
    first, second, third = job_ids(session, made)
    start_attempt(session, parts.settings, job_id=first, attempt=1, execution_id="e1")
    assert alice.post(f"/submissions/{made.id}/cancel").status_code == 303
    session.rollback()
    states = {job.id: job.status for job in session.scalars(select(Job))}
    assert states == {first: "processing", second: "cancelled", third: "cancelled"}
    with pytest.raises(InvalidMove):
        submissions.cancel_waiting(session, made.id, user=user)


def test_results_are_a_table_that_no_spreadsheet_runs(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    made = make_submission(session, parts, user, 2, text="=1+1")
    first, second = job_ids(session, made)
    answer(session, parts, first, '{"label": "good", "confidence": 1, "reason": "x"}')
    fail(session, second)
    reply = alice.get(f"/submissions/{made.id}/results.csv", buffered=True)
    assert "attachment" in reply.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    assert [(row["status"], row["input.text"], row["failure"]) for row in rows] == [
        ("completed", "'=1+1", ""), ("failed", "'=1+1", "The provider refused it."),
    ]  # fmt: skip
    assert json.loads(rows[0]["result"])["label"] == "good"
    assert float(rows[0]["costUsd"]) > 0
    lines = [
        json.loads(line) for line in alice.get(f"/submissions/{made.id}/results.jsonl", buffered=True).text.splitlines()
    ]
    assert [line["job"] for line in lines] == [first, second]
    assert lines[0]["result"] == {"label": "good", "confidence": 1, "reason": "x"}
    assert lines[1]["inputs"] == {"text": "=1+1", "labels": "good, bad"}


def test_an_export_reads_portions_and_leaves_none_out(
    session: Session, parts: Parts, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_exports, "JOBS_AT_ONCE", 2)
    made = make_submission(session, parts, user, 5)
    text = "".join(job_exports.export_submission(session, made.id, "jsonl"))
    assert [json.loads(line)["job"] for line in text.splitlines()] == job_ids(session, made)


def test_the_newest_are_listed_first_and_poll_while_one_is_under_way(
    alice: FlaskClient, session: Session, parts: Parts, user: User, made: Submission
) -> None:
    other = make_submission(session, parts, make_user(session, "bob@example.org"))
    newer = make_submission(session, parts, user)
    html = alice.get("/submissions").text
    assert re.findall(r'href="/submissions/(\d+)"', html) == [str(newer.id), str(made.id)]
    assert str(other.id) not in re.findall(r'href="/submissions/(\d+)"', html)
    assert "data-poll" in html
    fail(session, *job_ids(session, made), *job_ids(session, newer))
    assert "data-poll" not in alice.get("/submissions").text
    assert "No older submissions" in alice.get("/submissions?before=1").text


def test_without_any_the_list_says_what_they_are(alice: FlaskClient) -> None:
    assert "No submissions yet" in alice.get("/submissions").text


def test_a_stranger_finds_nothing_and_an_admin_sees_whose_it_is(
    client: FlaskClient, session: Session, made: Submission
) -> None:
    for email, role, status in (("bob@example.org", "user", 404), ("admin@example.org", "admin", 200)):
        make_user(session, email, role=role)
        client.post("/login", data={"email": email, "password": PASSWORD})
        page = client.get(f"/submissions/{made.id}")
        assert (page.status_code, "alice@example.org" in page.text) == (status, status == 200)


def test_the_heartbeat_marks_the_end(session: Session, parts: Parts, made: Submission) -> None:
    tick(session, parts, Beat())
    assert session.get_one(Submission, made.id).finished_at is None
    fail(session, *job_ids(session, made))
    tick(session, parts, Beat())
    session.refresh(made)
    assert made.finished_at is not None
