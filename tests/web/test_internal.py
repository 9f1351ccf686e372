"""n8n's door over HTTP: shapes, statuses and the token. What the steps do is tested in tests/services."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from tests.factories import (
    batch_object,
    make_job,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    response,
)
from webapp.models import Job, LedgerEntry
from webapp.parts import Parts
from webapp.services.dispatch import end_overdue_attempts


def test_without_the_token_every_route_is_401(make_app: Any) -> None:
    app = make_app("internal")
    client = app.test_client()
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("internal.")]
    for rule in rules:
        path = str(rule).replace("<int:job_id>", "1").replace("<int:window_id>", "1")
        method = "POST" if "POST" in (rule.methods or ()) else "GET"
        assert client.open(path, method=method, json={}).status_code == 401, path
    assert len(rules) > 8


def test_the_internal_api_is_not_on_the_public_listener(client: FlaskClient, tables: Any) -> None:
    assert client.get("/api/internal/queues").status_code == 404


def test_start_and_result_of_a_sync_job(internal: FlaskClient, session: Session, parts: Parts) -> None:
    make_job(session, parts, make_user(session))
    start = {"attempt": 1, "executionId": "7"}
    answer = internal.post("/api/internal/jobs/1/start", json=start)
    assert answer.json["request"]["url"] == "https://api.openai.com/v1/responses"
    assert answer.json["request"]["body"]["model"] == "gpt-6-luna"
    assert internal.post("/api/internal/jobs/1/start", json=start | {"executionId": "8"}).status_code == 409
    result = {**start, "statusCode": 200, "headers": {"openai-processing-ms": "12"}, "body": response()}
    assert internal.post("/api/internal/jobs/1/result", json=result).json == {"outcome": "completed"}
    assert internal.post("/api/internal/jobs/1/result", json=result).json == {"outcome": "unchanged"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs/1/start", {}),
        ("/jobs/1/start", {"attempt": "x", "executionId": "1"}),
        ("/jobs/1/result", {"attempt": 1}),
        ("/batches/open", {"queue": -1}),
        ("/batches/1/answer", {"leaseToken": "t", "step": "dance"}),
        ("/batches/1/ingest", []),
    ],
)
def test_a_message_of_the_wrong_shape_is_422(internal: FlaskClient, tables: Any, path: str, body: Any) -> None:
    assert internal.post(f"/api/internal{path}", json=body).status_code == 422


def test_open_answers_409_with_the_count_and_201_with_the_window(
    internal: FlaskClient, session: Session, parts: Parts
) -> None:
    user = make_user(session)
    queue, _ = make_queued_jobs(session, parts, user, 2)
    short = internal.post("/api/internal/batches/open", json={"queue": queue})
    assert short.status_code == 409
    assert (short.json["code"], short.json["needed"], short.json["available"]) == ("insufficient_jobs", 3, 2)
    [seen] = internal.get("/api/internal/queues").json["queues"]
    assert (seen["queue"], seen["queued"], seen["ready"], seen["reason"]) == (queue, 2, False, "short")
    make_queued_jobs(session, parts, user, 1)
    opened = internal.post("/api/internal/batches/open", json={"queue": queue})
    assert (opened.status_code, opened.json) == (201, {"batch": {"id": 1}, "jobCount": 3})


def test_a_window_goes_through_its_steps(internal: FlaskClient, session: Session, parts: Parts) -> None:
    window = make_window(session, parts, make_user(session))
    lease = internal.post("/api/internal/batches/lease").json
    assert (lease["nextStep"], lease["request"], lease["batch"]["id"]) == ("upload_input", None, window.id)
    token = {"leaseToken": lease["leaseToken"]}
    assert internal.post(f"/api/internal/batches/{window.id}/input-file", json=token).json == {"inputFileId": "file-1"}
    lease = internal.post("/api/internal/batches/lease").json
    assert (lease["nextStep"], lease["request"]["method"]) == ("create", "POST")
    session.refresh(window)
    answer = {"leaseToken": lease["leaseToken"], "step": "create", "statusCode": 200, "headers": {},
              "body": batch_object(window, "validating")}  # fmt: skip
    assert internal.post(f"/api/internal/batches/{window.id}/answer", json=answer).status_code == 200
    assert internal.post(f"/api/internal/batches/{window.id}/answer", json=answer).status_code == 409
    lease = internal.post("/api/internal/batches/lease").json
    assert lease["request"]["url"].endswith(f"/batches/batch_{window.id}")
    assert internal.post("/api/internal/batches/lease").status_code == 204


def test_a_failed_execution_is_recorded_once_and_gives_its_attempt_up(
    internal: FlaskClient, session: Session, parts: Parts
) -> None:
    job = make_job(session, parts, make_user(session))
    internal.post("/api/internal/jobs/1/start", json={"attempt": 1, "executionId": "7"})
    report = {"executionId": "7", "workflow": "Sluice run", "lastNode": "Ask the provider", "message": "crashed"}
    for _ in range(2):
        assert internal.post("/api/internal/executions/failed", json=report).status_code == 200
    session.refresh(job)
    assert (job.status, job.attempt) == ("created", 2)


def test_errors_are_json_on_this_listener(internal: FlaskClient, tables: Any) -> None:
    answer = internal.get("/")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_a_clock_that_jumped_does_not_cost_the_answer(internal: FlaskClient, session: Session, parts: Parts) -> None:
    make_job(session, parts, make_user(session))
    start = {"attempt": 1, "executionId": "7"}
    internal.post("/api/internal/jobs/1/start", json=start)
    result = {**start, "statusCode": 200, "headers": {}, "body": response(), "elapsedMs": -3_600_000}
    assert internal.post("/api/internal/jobs/1/result", json=result).json == {"outcome": "completed"}


def test_context_and_document_are_there_for_custom_workflows(
    internal: FlaskClient, session: Session, parts: Parts
) -> None:
    make_job(session, parts, make_user(session), bullets=4)
    context = internal.get("/api/internal/jobs/1/context").json
    assert (context["input"]["bullets"], context["documents"][0]["filename"]) == (4, "report.pdf")
    assert internal.get("/api/internal/jobs/2/context").status_code == 404


def rows(session: Session, *tables: str) -> list[Any]:
    """All rows of these tables, as they are now."""
    session.rollback()
    return [session.execute(text(f"SELECT t::text FROM {table} t ORDER BY 1")).scalars().all() for table in tables]


def test_replayed_and_stale_write_backs_change_no_job_and_pay_once(
    internal: FlaskClient, session: Session, parts: Parts
) -> None:
    make_job(session, parts, make_user(session))
    first, second = ({"attempt": number, "executionId": f"e{number}"} for number in (1, 2))
    internal.post("/api/internal/jobs/1/start", json=first)
    session.execute(update(Job).values(lease_until=func.now() - timedelta(seconds=1)))
    session.commit()
    end_overdue_attempts(session, parts.settings)
    internal.post("/api/internal/jobs/1/start", json=second)
    used = {**second, "statusCode": 200, "headers": {}, "body": response("- Used.", id="resp_2")}
    assert internal.post("/api/internal/jobs/1/result", json=used).json == {"outcome": "completed"}

    before, [ledger] = rows(session, "jobs", "job_results", "job_events"), rows(session, "ledger")
    assert internal.post("/api/internal/jobs/1/result", json=used).json == {"outcome": "unchanged"}
    assert rows(session, "ledger") == [ledger]
    stale = {**first, "statusCode": 200, "headers": {}, "body": response("- Stale.", id="resp_1")}
    assert internal.post("/api/internal/jobs/1/result", json=stale).status_code == 409
    [paid] = rows(session, "ledger")
    assert len(paid) == len(ledger) + 1
    assert internal.post("/api/internal/jobs/1/result", json=stale).json == {"outcome": "unchanged"}
    assert rows(session, "ledger") == [paid]
    error = {**first, "error": {"message": "socket hang up", "code": "ECONNRESET"}}
    assert internal.post("/api/internal/jobs/1/result", json=error).status_code == 409
    assert rows(session, "ledger") == [paid]
    assert internal.post("/api/internal/jobs/1/start", json=first).status_code == 409
    assert rows(session, "jobs", "job_results", "job_events") == before
    reasons = session.scalars(select(LedgerEntry.reason).order_by(LedgerEntry.id)).all()
    assert reasons == ["answer_lost", "answer", "discarded"]


@pytest.mark.parametrize("path", ["input-file", "ingest", "answer"])
def test_a_stale_token_changes_no_window(internal: FlaskClient, session: Session, parts: Parts, path: str) -> None:
    window = make_submitted_window(session, parts, make_user(session))
    before = rows(session, "batch_windows", "batch_items", "jobs", "window_events", "ledger")
    body: dict[str, Any] = {"leaseToken": "an old one"}
    if path == "answer":
        body |= {"step": "poll", "statusCode": 200, "headers": {}, "body": batch_object(window, "completed")}
    answer = internal.post(f"/api/internal/batches/{window.id}/{path}", json=body)
    assert (answer.status_code, answer.json["code"]) == (409, "stale_lease")
    assert rows(session, "batch_windows", "batch_items", "jobs", "window_events", "ledger") == before
