"""The log: one JSON object a line, a name for each request, and nothing that is a secret or somebody's own words."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import PASSWORD, make_job, make_queued_jobs, make_user, response
from tests.fakes import FakeN8n
from webapp import logs
from webapp.domain import traces
from webapp.domain.scopes import Scope
from webapp.extensions import db
from webapp.models import User
from webapp.parts import Parts
from webapp.services import dispatch, heartbeat

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DOCUMENT_WORDS = "the sluice keeper"  # of two-pages.pdf
Lines = list[dict[str, Any]]


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], Lines]]:
    """output(): the lines that were logged since the last time."""
    before = logging.getLogger().handlers
    with (tmp_path / "output").open("w+b") as written, (tmp_path / "output").open("rb") as unread:
        monkeypatch.setattr(logs, "STDOUT", written.fileno())
        logs.configure_logging()  # as each app that is made does
        yield lambda: [json.loads(line) for line in unread]
    logging.getLogger().handlers = before


@pytest.fixture
def internal_app(make_app: Any) -> Flask:
    return make_app("internal")


def token(parts: Parts) -> dict[str, str]:
    return {"X-Internal-Token": parts.settings.internal_token.get_secret_value()}


def only_request(lines: Lines) -> dict[str, Any]:
    [line] = [line for line in lines if line["event"] == "request"]
    return line


def test_threads_do_not_write_into_each_other_s_lines(output: Any) -> None:
    def tell(number: int) -> None:
        logging.getLogger("webapp").info("told", extra={"number": number, "much": f"{number} " * 500})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(400)))
    lines = output()
    assert sorted(line["number"] for line in lines) == list(range(400))
    assert all(set(line["much"].split()) == {str(line["number"])} for line in lines)


# One line for each request


def test_a_request_is_one_line(make_app: Any, output: Any) -> None:
    make_app().test_client().get("/login?next=/jobs%3Fq%3Dprivate")
    line = only_request(output())
    assert {"method": "GET", "route": "/login", "status": 200, "level": "info"}.items() <= line.items()
    assert 0 <= line["duration_ms"] < 30_000
    assert len(line["request_id"]) == 32
    assert "private" not in json.dumps(line)


def test_an_address_that_is_no_route_is_not_repeated(make_app: Any, output: Any) -> None:
    make_app().test_client().get("/reset/a-secret-link")
    line = only_request(output())
    assert (line["route"], line["status"]) == (None, 404)
    assert "a-secret-link" not in json.dumps(line)


@pytest.mark.parametrize("listener", ["web", "internal"])
def test_probes_and_scrapes_are_not_logged(make_app: Any, output: Any, parts: Parts, listener: str) -> None:
    client = make_app(listener).test_client()
    for path in ("/healthz", "/readyz", "/metrics" if listener == "internal" else "/healthz"):
        client.get(path, headers=token(parts))
    assert [line for line in output() if line["event"] == "request"] == []


@pytest.mark.parametrize("job_id", [17, 10**20])
def test_the_line_names_the_job_that_the_address_names(
    internal_app: Flask, output: Any, parts: Parts, job_id: int
) -> None:
    internal_app.test_client().get(f"/api/internal/jobs/{job_id}/context", headers=token(parts))
    assert only_request(output())["job_id"] == job_id


def test_who_asks_is_answered_where_nobody_reads_the_log(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read, written = os.pipe()
    os.close(read)
    monkeypatch.setattr(logs, "STDOUT", written)
    assert make_app().test_client().get("/login").status_code == 200
    os.close(written)


def test_the_line_names_the_window_that_was_opened_and_the_one_that_was_leased(
    internal_app: Flask, output: Any, session: Session, parts: Parts
) -> None:
    queue, _ = make_queued_jobs(session, parts, make_user(session), 3)
    client = internal_app.test_client()
    client.post("/api/internal/batches/open", json={"queue": queue}, headers=token(parts))
    client.post("/api/internal/batches/lease", headers=token(parts))
    client.post("/api/internal/batches/1/ingest", json={"leaseToken": "stale"}, headers=token(parts))
    client.post("/api/internal/batches/lease", headers=token(parts))
    assert [line.get("window_id") for line in output() if line["event"] == "request"] == [1, 1, 1, None]


def test_the_line_names_who_is_signed_in_and_no_address_of_theirs(make_app: Any, output: Any, session: Session) -> None:
    user = make_user(session)
    client = make_app().test_client()
    client.post("/login", data={"email": user.email, "password": PASSWORD})
    output()
    client.get("/jobs")
    assert only_request(output())["user_id"] == user.id


def test_each_sign_in_is_logged_with_its_end_and_without_an_address(
    make_app: Any, output: Any, session: Session
) -> None:
    user = make_user(session)
    client = make_app().test_client()
    for password in (PASSWORD, *["wrong"] * 6):
        client.post("/login", data={"email": user.email, "password": password})
    lines = [line for line in output() if line["event"].startswith("sign-in")]
    assert [line["event"].partition(":")[2] for line in lines[:2]] == ["", " wrong e-mail or password, or disabled"]
    assert (lines[0]["user_id"], lines[-1]["event"]) == (user.id, "sign-in refused: too many wrong passwords")
    assert user.email not in json.dumps(lines)


# Names of requests and traces


@pytest.mark.parametrize("given", ["f0e1d2c3b4a5968778695a4b3c2d1e0f", "gateway-1.2026_x"])
def test_a_request_keeps_the_name_that_it_came_with(make_app: Any, output: Any, given: str) -> None:
    answer = make_app().test_client().get("/login", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == only_request(output())["request_id"] == given


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "with space", 'quote"quote', "ünicode-name", "a,b,c,d,e"])
def test_an_ill_formed_name_is_replaced(make_app: Any, output: Any, given: str) -> None:
    answer = make_app().test_client().get("/login", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == only_request(output())["request_id"] != given


def test_two_requests_have_two_names_and_share_nothing(internal_app: Flask, output: Any, parts: Parts) -> None:
    client = internal_app.test_client()
    client.get("/api/internal/jobs/17/context", headers=token(parts) | {"traceparent": TRACE})
    client.get("/api/internal/queues", headers=token(parts))
    first, second = output()
    assert first["request_id"] != second["request_id"]
    assert not {"job_id", "trace_id"} & second.keys()


@pytest.mark.parametrize(
    ("header", "trace_id"),
    [
        (TRACE, TRACE[3:35]),
        (TRACE.upper(), None),
        (TRACE[:-1], None),
        ("undefined", None),  # what a workflow sends that was given none
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01", None),
        (TRACE + "\N{ARABIC-INDIC DIGIT ONE}", None),
    ],
)
def test_the_trace_is_that_of_a_well_formed_traceparent(header: str, trace_id: str | None) -> None:
    assert traces.trace_id(header) == trace_id


def test_the_trace_of_the_caller_is_in_the_line(internal_app: Flask, output: Any, parts: Parts) -> None:
    internal_app.test_client().get("/api/internal/queues", headers=token(parts) | {"traceparent": TRACE})
    assert only_request(output())["trace_id"] == TRACE[3:35]


def test_a_crash_is_logged_under_the_name_that_its_page_tells(make_app: Any, output: Any) -> None:
    app = make_app()
    app.add_url_rule("/crash", "crash", lambda: 1 / 0)
    answer = app.test_client().get("/crash")
    name = answer.headers["X-Request-ID"]
    assert name in answer.get_data(as_text=True)
    crash, line = output()
    assert "ZeroDivisionError" in crash["exception"]
    assert crash["request_id"] == line["request_id"] == name


# Jobs


def test_a_dispatch_is_logged_with_the_job_its_trace_and_the_request_that_made_it(
    make_app: Any, output: Any, session: Session, parts: Parts, n8n: FakeN8n
) -> None:
    job = make_job(session, parts, make_user(session))
    with make_app().test_request_context("/"):
        logs._begin()
        dispatch.dispatch_due(session, parts.settings, parts.profiles, parts.n8n)
    [line] = output()
    assert (line["event"], line["job_id"]) == ("dispatched", job.id)
    assert line["trace_id"] == traces.trace_id(n8n.traceparents[0])
    assert len(line["request_id"]) == 32


def test_a_job_that_n8n_did_not_take_is_named(output: Any, session: Session, parts: Parts, n8n: FakeN8n) -> None:
    job = make_job(session, parts, make_user(session))
    n8n.is_down = True
    dispatch.dispatch_due(session, parts.settings, parts.profiles, parts.n8n)
    [line] = output()
    assert (line["level"], line["job_id"]) == ("warning", job.id)


# What must never be in a line


def test_libraries_do_not_tell_each_call(output: Any) -> None:
    for name in ("azure.core.pipeline.policies.http_logging_policy", "httpx2", "alembic.runtime.migration"):
        logging.getLogger(name).info("GET https://somewhere/?sig=secret")
    assert output() == []


def test_gunicorn_s_worker_speaks_json(output: Any) -> None:
    logging.getLogger("gunicorn.error").warning("Invalid request from ip=10.0.0.1")
    [line] = output()
    assert (line["logger"], line["level"]) == ("gunicorn.error", "warning")


def test_an_error_of_the_database_does_not_tell_the_parameters(make_app: Any, output: Any) -> None:
    app, parameters = make_app(), {"document": DOCUMENT_WORDS}

    def crash() -> str:
        db.session.execute(text("SELECT CAST(:document AS text) FROM nowhere"), parameters)
        return ""

    app.add_url_rule("/crash", "crash", crash)
    app.test_client().get("/crash")
    lines = output()
    assert "nowhere" in lines[0]["exception"]
    assert DOCUMENT_WORDS not in json.dumps(lines)


def test_an_error_of_the_database_does_not_repeat_the_row(make_app: Any, output: Any, session: Session) -> None:
    app, user = make_app(), make_user(session, "somebody@example.org")

    def crash() -> str:
        db.session.execute(update(User).where(User.id == user.id).values(role=None))
        return ""

    app.add_url_rule("/crash", "crash", crash)
    assert app.test_client().get("/crash").status_code == 500
    lines = output()
    assert 'null value in column "role" of relation "users"' in lines[0]["exception"]
    assert "somebody@example.org" not in json.dumps(lines)


def test_the_main_flows_log_no_secret_no_document_and_no_address_of_a_person(
    make_app: Any, internal_app: Flask, output: Any, session: Session, parts: Parts, n8n: FakeN8n
) -> None:
    web, door, settings = make_app().test_client(), internal_app.test_client(), parts.settings
    person = {"email": "somebody@example.org", "password": PASSWORD}
    web.post("/register", data=person)
    web.post("/login", data=person | {"password": "a wrong password"})
    web.post("/login", data=person)
    wanted = {"name": "tests", "expiry": "30", "scopes": [*Scope]}
    api_token = web.post("/account/tokens", data=wanted).get_data(as_text=True).split("sluice_")[1][:43]
    pdf = (DATA / "two-pages.pdf").read_bytes()
    for mode in ("sync", "batch", "batch", "batch"):
        form = {"profile": "pdf_summary", "audience": "general", "bullets": "5", "executionMode": mode}
        made = web.post("/jobs/new", data=form | {"document": (io.BytesIO(pdf), "private name.pdf")})
        assert made.status_code == 303
    bearer = {"Authorization": f"Bearer sluice_{api_token}"}
    web.get("/api/v1/jobs/1", headers=bearer)
    run = {"profile": "text_classification", "inputs": {"text": "the text of a run", "labels": "good, bad"}}
    assert web.post("/api/v1/jobs", json=run, headers=bearer).status_code == 202
    web.get("/jobs?q=somebody@example.org")
    start = {"attempt": 1, "executionId": "7"}
    door.post("/api/internal/jobs/1/start", json=start, headers=token(parts))
    result = {**start, "statusCode": 200, "headers": {}, "body": response("- The model's words.")}
    assert door.post("/api/internal/jobs/1/result", json=result, headers=token(parts)).json == {"outcome": "completed"}
    door.post("/api/internal/jobs/1/result", json={"attempt": "the model's words"}, headers=token(parts))
    door.post("/api/internal/batches/open", json={"queue": 1}, headers=token(parts))
    lease = door.post("/api/internal/batches/lease", headers=token(parts)).json
    door.post("/api/internal/batches/1/input-file", json={"leaseToken": lease["leaseToken"]}, headers=token(parts))
    door.get("/api/internal/queues", headers={"X-Internal-Token": "a wrong token"})
    n8n.is_down = True
    heartbeat.tick(session, parts, heartbeat.Beat())

    logged = output()
    assert len(logged) > 15
    words = json.dumps(logged, ensure_ascii=False).lower()
    secrets = [settings.secret_key, settings.internal_token, settings.n8n_webhook_token, settings.openai_api_key]
    never = [
        *(secret.get_secret_value() for secret in secrets if secret), "a wrong token", api_token, PASSWORD,
        "a wrong password", lease["leaseToken"], "somebody@example.org", "private name", "the text of a run",
        "the model's words", DOCUMENT_WORDS,
    ]  # fmt: skip
    assert [word for word in never if word.lower() in words] == []
