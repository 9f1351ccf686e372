"""`/api/v1/jobs`: list, result, cancel, retry, and waiting for the result in the same answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from tests.factories import make_job, make_jobs, make_user, response
from tests.fakes import FakeN8n
from tests.statements import heard
from webapp.domain.answers import read_answer
from webapp.extensions import db
from webapp.models import Budget, Job, JobEvent, JobRequest, User
from webapp.parts import Parts
from webapp.services import accounts, awaiting, dispatch, ingest, jobs, lifecycle
from webapp.services.clock import clock

TEXT = {"profile": "text_classification", "inputs": {"text": "All went well."}}
GOOD = '{"label": "good", "confidence": 0.9, "reason": "It says so."}'


def finish(session: Session, parts: Parts, job_id: int, text: str = GOOD) -> None:
    """n8n starts the job and brings an answer."""
    dispatch.start_attempt(session, parts.settings, job_id=job_id, attempt=1, execution_id="7")
    body = response(text)
    ingest.record_answer(
        session, parts.settings, parts.prices, job_id=job_id, attempt=1, execution_id="7",
        answer=read_answer(200, body), raw=body, elapsed_ms=5,
    )  # fmt: skip


def fail(session: Session, job_id: int) -> None:
    job = session.get_one(Job, job_id)
    lifecycle.move_job(
        session, job.id, "failed", now=clock(session), actor="test", reason="broken",
        values={"failure_code": "broken", "failure_message": "It broke."},
    )  # fmt: skip
    session.commit()


def test_a_job_that_no_budget_limits_is_stored_by_one_statement(
    api: FlaskClient, session: Session, alice: User
) -> None:
    batch = {"profile": TEXT["profile"], "inputs": {**TEXT["inputs"], "executionMode": "batch"}}
    for _ in range(2):  # the first stores its version and its queue beside it
        api.post("/api/v1/jobs", json=batch)
    with heard() as said:
        answer = api.post("/api/v1/jobs", json=batch)
    assert [statement for statement, _ in said if not statement.startswith("SELECT")] == [said[-1].sql]
    job = session.get_one(Job, answer.json["id"])
    assert (job.status, job.user_id, job.created_at == job.queued_at) == ("queued", alice.id, True)
    assert {key: answer.json[key] for key in ("status", "attempt")} == {"status": "queued", "attempt": 1}
    [event] = session.scalars(select(JobEvent).where(JobEvent.job_id == job.id))
    assert (event.at, event.to_status, event.actor) == (job.created_at, "queued", f"user:{alice.id}")
    assert session.get_one(JobRequest, job.id).ceiling


@pytest.mark.parametrize("whose", ["user", "profile"])
def test_a_budget_is_asked_for_each_job(api: FlaskClient, session: Session, alice: User, whose: str) -> None:
    api.post("/api/v1/jobs", json=TEXT)
    ceiling = session.scalars(select(JobRequest.ceiling)).one() or 0
    owner = {"user_id": alice.id} if whose == "user" else {"profile_id": TEXT["profile"]}
    session.add(Budget(**owner, monthly_amount=ceiling * Decimal("2.5")))
    session.commit()
    answers = [api.post("/api/v1/jobs", json=TEXT) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 409, 409]
    assert [answer.json.get("code") for answer in answers] == [None, "over_budget", "over_budget"]
    stored = session.scalars(select(Job.id).order_by(Job.id)).all()
    assert len(stored) == 2
    assert stored[-1] == answers[0].json["id"]


def test_a_list_is_paged_newest_first_and_filtered(
    api: FlaskClient, session: Session, alice: User, parts: Parts
) -> None:  # fmt: skip
    make_job(session, parts, make_user(session, "bob@example.org"))
    own = make_jobs(session, parts, alice, 3) + make_jobs(session, parts, alice, 2, executionMode="batch")
    first = api.get("/api/v1/jobs?limit=3").json
    assert [job["id"] for job in first["jobs"]] == own[:1:-1]
    second = api.get(f"/api/v1/jobs?limit=3&after={first['next']}").json
    assert ([job["id"] for job in second["jobs"]], second["next"]) == (own[1::-1], None)
    fail(session, own[0])
    [failed] = api.get("/api/v1/jobs?status=failed").json["jobs"]
    assert (failed["id"], failed["error"]) == (own[0], {"code": "broken", "message": "It broke."})
    assert len(api.get("/api/v1/jobs?mode=batch&profile=pdf_summary").json["jobs"]) == 2
    assert api.get("/api/v1/jobs?profile=other").json["jobs"] == []
    session.execute(update(Job).where(Job.id <= own[1]).values(created_at=Job.created_at - timedelta(days=9)))
    session.commit()
    day = (clock(session) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [job["id"] for job in api.get(f"/api/v1/jobs?createdBefore={day}").json["jobs"]] == own[1::-1]
    assert [job["id"] for job in api.get(f"/api/v1/jobs?createdAfter={day}").json["jobs"]] == own[:1:-1]


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=201", "limit"), ("after=0", "after"), ("status=done", "status"), ("createdAfter=today", "createdAfter"),
     ("createdAfter=5", "createdAfter"), ("colour=red", "colour"), ("limit=1&limit=2", "limit")],
)  # fmt: skip
def test_a_wrong_parameter_is_named(api: FlaskClient, query: str, field: str) -> None:
    answer = api.get(f"/api/v1/jobs?{query}")
    assert (answer.status_code, list(answer.json["errors"])) == (422, [field])


def test_the_result_alone_comes_as_the_profile_says(
    api: FlaskClient, session: Session, alice: User, parts: Parts
) -> None:  # fmt: skip
    job_id = api.post("/api/v1/jobs", json=TEXT).json["id"]
    early = api.get(f"/api/v1/jobs/{job_id}/result")
    assert (early.status_code, early.json["code"]) == (409, "no_result")
    finish(session, parts, job_id)
    answer = api.get(f"/api/v1/jobs/{job_id}/result")
    assert (answer.content_type, answer.json["label"]) == ("application/json", "good")
    summary = make_job(session, parts, alice)
    finish(session, parts, summary.id, "- A summary.")
    answer = api.get(f"/api/v1/jobs/{summary.id}/result")
    assert (answer.content_type, answer.text) == ("text/markdown; charset=utf-8", "- A summary.")


def test_a_job_is_cancelled_once(api: FlaskClient) -> None:
    job_id = api.post("/api/v1/jobs", json=TEXT).json["id"]
    assert api.post(f"/api/v1/jobs/{job_id}/cancel").json["status"] == "cancelled"
    assert api.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 409


def test_a_failed_job_is_repeated_as_it_was(api: FlaskClient, session: Session, n8n: FakeN8n) -> None:
    job_id = api.post("/api/v1/jobs", json=TEXT).json["id"]
    early = api.post(f"/api/v1/jobs/{job_id}/retry")
    assert (early.status_code, "only a job that ended" in early.json["detail"]) == (409, True)
    fail(session, job_id)
    answer = api.post(f"/api/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json["retryOf"], answer.json["status"]) == (202, job_id, "created")
    assert answer.json["inputs"] == api.get(f"/api/v1/jobs/{job_id}").json["inputs"]
    assert len(n8n.runs) == 2


def test_a_job_is_repeated_with_changes(api: FlaskClient, session: Session) -> None:
    job_id = api.post("/api/v1/jobs", json=TEXT).json["id"]
    answer = api.post(f"/api/v1/jobs/{job_id}/retry", json={"inputs": {"labels": "up, down", "executionMode": "batch"}})
    assert (answer.status_code, answer.json["retryOf"], answer.json["executionMode"]) == (202, job_id, "batch")
    assert answer.json["inputs"] == {"text": "All went well.", "labels": "up, down"}
    wrong = api.post(f"/api/v1/jobs/{job_id}/retry", json={"inputs": {"labels": "one", "colour": "red"}})
    assert (wrong.status_code, set(wrong.json["errors"])) == (422, {"labels", "colour"})


@pytest.mark.parametrize("what", ["", "/result", "/cancel", "/retry"])
def test_somebody_else_s_job_is_not_there_for_an_admin_s_token_either(
    client: FlaskClient, session: Session, parts: Parts, alice: User, what: str
) -> None:
    job = make_job(session, parts, alice)
    admin = make_user(session, "admin@example.org", role="admin")
    header = {"Authorization": f"Bearer {accounts.create_token(session, admin, 'tests')}"}
    method = "GET" if what in ("", "/result") else "POST"
    assert client.open(f"/api/v1/jobs/{job.id}{what}", method=method, headers=header).status_code == 404


class AnsweringN8n(FakeN8n):
    """Brings the answer a moment after it was called, as the real one does."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine, self.threads, self.parts = engine, list[threading.Thread](), None

    def run(self, webhook_path: str, payload: dict[str, Any], traceparent: str) -> None:
        super().run(webhook_path, payload, traceparent)
        self.threads.append(threading.Thread(target=self._answer, args=[payload["jobId"]]))
        self.threads[-1].start()

    def _answer(self, job_id: int) -> None:
        assert self.parts
        with Session(self.engine) as own:
            finish(own, self.parts, job_id)


class TestWaiting:
    @pytest.fixture
    def n8n(self, tables: Engine) -> Any:
        made = AnsweringN8n(tables)
        yield made
        for thread in made.threads:
            thread.join()

    def test_the_result_comes_in_the_same_answer(self, api: FlaskClient, n8n: AnsweringN8n, parts: Parts) -> None:
        n8n.parts = parts
        answer = api.post("/api/v1/jobs", json=TEXT, headers={"Prefer": "respond-async, wait=30"})
        assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=30")
        assert (answer.json["status"], answer.json["result"]["text"]) == ("completed", GOOD)
        assert answer.headers["Location"] == f"/api/v1/jobs/{answer.json['id']}"

    def test_a_batch_job_is_not_waited_for(self, api: FlaskClient) -> None:
        run = {**TEXT, "inputs": {**TEXT["inputs"], "executionMode": "batch"}}
        answer = api.post("/api/v1/jobs", json=run, headers={"Prefer": "wait=30"})
        assert (answer.status_code, answer.headers.get("Preference-Applied")) == (202, None)


def test_after_the_time_is_over_the_job_is_still_under_way(api: FlaskClient) -> None:
    answer = api.post("/api/v1/jobs", json=TEXT, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=1")
    assert answer.json["status"] == "created"


def test_a_quarter_of_the_threads_waits_and_holds_no_connection(
    make_app: Any, session: Session, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(database_pool_size=8)
    header = {"Authorization": f"Bearer {accounts.create_token(session, alice, 'tests')}", "Prefer": "wait=30"}
    waiting, go_on = threading.Semaphore(0), threading.Event()

    def look(seconds: float) -> None:
        waiting.release()
        assert go_on.wait(20)

    monkeypatch.setattr(awaiting, "time", SimpleNamespace(monotonic=time.monotonic, sleep=look))

    def ask(_: int) -> Any:
        return app.test_client().post("/api/v1/jobs", json=TEXT, headers=header)

    with app.app_context(), ThreadPoolExecutor(2) as pool:
        two = [pool.submit(ask, number) for number in range(2)]
        for _ in two:
            assert waiting.acquire(timeout=20)
        held = db.engine.pool.checkedout()  # type: ignore[attr-defined]
        third = ask(2)
        for job_id in session.scalars(select(Job.id)):
            jobs.cancel_job(session, session.get_one(Job, job_id), actor="test")
        go_on.set()
        answers = [one.result() for one in two]
    assert (third.status_code, third.headers.get("Preference-Applied")) == (202, None)
    assert [(one.status_code, one.json["status"]) for one in answers] == [(200, "cancelled")] * 2
    assert held == 0
