"""Traces: what is done for a job is in one trace, in each process, and nothing that people wrote is in a span."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter
from azure.monitor.opentelemetry.exporter.export._base import ExportResult
from flask import Flask
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import PASSWORD, make_job, make_jobs, make_user, make_window, response
from webapp import create_app, tracing
from webapp.config import InvalidSettings, Settings
from webapp.domain import traces
from webapp.extensions import db
from webapp.gateways import azure_identity
from webapp.gateways.n8n import N8n
from webapp.models import Job
from webapp.parts import Parts
from webapp.services import dispatch, heartbeat

CONNECTION_STRING = "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=http://127.0.0.1:1/"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)  # a back-off from then on is over
EMAIL = "alice@example.org"


class Webhooks(ThreadingHTTPServer):
    """n8n's side: it takes everything and remembers it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Webhook)
        self.taken: list[dict[str, Any]] = []  # {"traceparent": …, "jobId": …}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Webhook(BaseHTTPRequestHandler):
    server: Webhooks

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken.append({"traceparent": self.headers["traceparent"], "jobId": payload["jobId"]})
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhooks() -> Iterator[Webhooks]:
    with Webhooks() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Traced:
    """An app whose spans are kept here."""

    def __init__(self, app: Flask, webhooks: Webhooks, ratio: float = 1.0) -> None:
        self.app, self.exporter = app, InMemorySpanExporter()
        span = tracing.start(app, "sluice-test", self.exporter, ratio)
        parts: Parts = app.extensions["sluice"]
        self.parts = replace(parts, n8n=N8n(webhooks.url, "a token", span))
        app.extensions["sluice"] = self.parts

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        self.app.extensions["tracer_provider"].force_flush()
        return [span for span in self.exporter.get_finished_spans() if name in (None, span.name)]


@pytest.fixture
def trace_app(make_app: Any, webhooks: Webhooks) -> Any:
    return lambda listener, **options: Traced(make_app(listener), webhooks, **options)


@pytest.fixture
def web(trace_app: Any) -> Traced:
    return trace_app("web")


@pytest.fixture
def internal_app(trace_app: Any) -> Traced:
    return trace_app("internal")


def statements(app: Traced) -> list[str]:
    return [
        str(span.attributes["db.query.text"])
        for span in app.spans()
        if span.attributes and span.kind is SpanKind.CLIENT
    ]


def trace_of(span: ReadableSpan) -> str:
    assert span.context
    return f"{span.context.trace_id:032x}"


def submit(web: Traced, session: Session) -> None:
    """A person signs in and runs a document now."""
    make_user(session, EMAIL)
    client = web.app.test_client()
    client.post("/login", data={"email": EMAIL, "password": PASSWORD})
    form = {"profile": "pdf_summary", "audience": "general", "bullets": "5", "executionMode": "sync"}
    document = (io.BytesIO((DATA / "two-pages.pdf").read_bytes()), "private name.pdf")
    assert client.post("/jobs/new?q=private", data=form | {"document": document}).status_code == 303


def run_on_n8n(app: Flask, settings: Settings, call: dict[str, Any]) -> None:
    """What the run flow does, traceparent included."""
    headers = {
        "X-Internal-Token": settings.internal_token.get_secret_value(), "traceparent": call["traceparent"],
    }  # fmt: skip
    own, start = f"/api/internal/jobs/{call['jobId']}", {"attempt": 1, "executionId": "7"}
    result = {**start, "statusCode": 200, "headers": {}, "body": response("- The model's words.")}
    client = app.test_client()
    assert client.post(f"{own}/start", json=start, headers=headers).status_code == 200
    assert client.post(f"{own}/result", json=result, headers=headers).status_code == 200


# What is the same in each process, without a word between them


def test_a_job_s_trace_is_its_own_and_that_of_this_system() -> None:
    found = {
        traces.traceparent(address, kind, number)
        for address in ("https://one.example", "https://two.example")
        for kind in ("jobs", "windows")
        for number in (1, 2)
    }
    assert len({traces.trace_id(header) for header in found}) == 8
    assert None not in {traces.trace_id(header) for header in found}
    assert traces.traceparent("https://one.example", "jobs", 1) in found


def test_each_attempt_of_a_job_is_in_one_trace(
    session: Session, parts: Parts, webhooks: Webhooks, settings: Settings
) -> None:
    """Also where nothing is traced: the log lines have the trace's id."""
    parts = replace(parts, n8n=N8n(webhooks.url, "a token"))
    job = make_job(session, parts, make_user(session))
    for attempt in (1, 2):
        dispatch.dispatch_due(session, settings, parts.profiles, parts.n8n)
        assert len(webhooks.taken) == attempt
        dispatch.start_attempt(session, settings, job_id=job.id, attempt=attempt, execution_id=f"e{attempt}")
        session.refresh(job)
        dispatch.give_up_attempt(session, settings, job, now=LONG_AGO, actor="test", code="x", message="x")
        session.commit()
    expected = traces.traceparent(settings.public_url, "jobs", job.id)
    assert webhooks.taken == [{"traceparent": expected, "jobId": job.id}] * 2


def test_a_lease_names_the_trace_of_its_window(internal: Any, session: Session, parts: Parts) -> None:
    window = make_window(session, parts, make_user(session))
    lease = internal.post("/api/internal/batches/lease").json
    assert lease["traceparent"] == traces.traceparent(parts.settings.public_url, "windows", window.id)


# Spans


def test_the_spans_of_one_job_share_its_trace(
    web: Traced, internal_app: Traced, session: Session, settings: Settings, webhooks: Webhooks
) -> None:
    submit(web, session)
    [call] = webhooks.taken
    run_on_n8n(internal_app.app, settings, call)
    job_trace = traces.trace_id(traces.traceparent(settings.public_url, "jobs", call["jobId"]))
    [dispatched] = web.spans("dispatch")
    routes = ["/api/internal/jobs/<int:job_id>/start", "/api/internal/jobs/<int:job_id>/result"]
    served = [span for route in routes for span in internal_app.spans(f"POST {route}")]
    assert [trace_of(span) for span in (dispatched, *served)] == [job_trace] * 3
    for span in served:
        assert span.parent
        assert dispatched.context
        assert span.parent.span_id == dispatched.context.span_id, "n8n answers to the dispatch"


def test_a_dispatch_names_the_request_of_the_person_who_waits(web: Traced, session: Session) -> None:
    submit(web, session)
    [dispatched], [request] = web.spans("dispatch"), web.spans("POST /jobs/new")
    assert [link.context for link in dispatched.links] == [request.context]
    assert trace_of(dispatched) != trace_of(request)


def test_the_heartbeat_traces_its_dispatches_and_not_its_queries(web: Traced, session: Session) -> None:
    make_job(session, web.parts, make_user(session))
    with web.app.app_context():
        heartbeat.tick(db.session(), web.parts, heartbeat.Beat())
    assert [span.name for span in web.spans()] == ["dispatch"]


def test_each_statement_of_a_request_has_a_span(
    web: Traced, internal_app: Traced, session: Session, settings: Settings, webhooks: Webhooks
) -> None:
    """Also those that go past SQLAlchemy."""
    submit(web, session)
    run_on_n8n(internal_app.app, settings, webhooks.taken[0])
    [request] = internal_app.spans("POST /api/internal/jobs/<int:job_id>/result")
    assert [span.parent for span in internal_app.spans() if span.name == "INSERT"] == [request.context] * 3
    stored = [statement.partition(" (")[0] for statement in statements(internal_app) if statement.startswith("INSERT")]
    assert stored == ["INSERT INTO job_answers", "INSERT INTO ledger", "INSERT INTO job_results"]


def test_rows_that_are_copied_or_streamed_have_spans(web: Traced, session: Session, parts: Parts) -> None:
    user = make_user(session)
    tracer = web.app.extensions["tracer_provider"].get_tracer("test")
    with web.app.app_context(), tracer.start_as_current_span("a command"):
        make_jobs(db.session(), parts, user, 3)
        assert len(list(db.session().execute(select(Job.id).execution_options(yield_per=2)))) == 3
    told = statements(web)
    copied = [statement.split()[1] for statement in told if statement.startswith("COPY")]
    assert copied[:3] == ['"jobs"', '"job_events"', '"job_requests"']
    assert told[-1].startswith("SELECT jobs.id")


def test_queries_are_in_the_trace_of_their_request(web: Traced, session: Session) -> None:
    submit(web, session)
    [request] = web.spans("POST /jobs/new")
    queries = [span for span in web.spans() if span.kind is SpanKind.CLIENT and trace_of(span) == trace_of(request)]
    assert len(queries) > 5


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/static/app.css"])
def test_probes_and_files_are_not_traced(web: Traced, path: str) -> None:
    web.app.test_client().get(path).close()
    assert web.spans() == []


@pytest.mark.parametrize("path", ["/login?next=/static/", "/nowhere/readyz"])
def test_a_page_is_traced_that_only_names_what_is_not(web: Traced, path: str) -> None:
    web.app.test_client().get(path)
    assert [span.kind for span in web.spans() if span.kind is SpanKind.SERVER] == [SpanKind.SERVER]


def test_no_span_has_what_people_wrote(
    web: Traced, internal_app: Traced, session: Session, settings: Settings, webhooks: Webhooks
) -> None:
    submit(web, session)
    run_on_n8n(internal_app.app, settings, webhooks.taken[0])
    words = " ".join(span.to_json() for span in (*web.spans(), *internal_app.spans())).lower()
    assert "insert into job_results" in words
    token = settings.internal_token.get_secret_value()
    never = [EMAIL, PASSWORD, "private", "sluice keeper", "the model's words", token]
    assert [word for word in never if word.lower() in words] == []


def test_an_error_of_the_database_tells_no_row(web: Traced, session: Session) -> None:
    make_user(session, EMAIL)
    web.app.test_client().post("/register", data={"email": EMAIL, "password": PASSWORD})
    [failed] = [span for span in web.spans() if span.status.status_code is StatusCode.ERROR]
    assert failed.status.description == 'duplicate key value violates unique constraint "uq_users_email_lower"'


def test_the_ids_of_traces_decide_which_are_kept(trace_app: Any, session: Session) -> None:
    """So that each process keeps the same ones; the flag of a caller, or of another process, counts for nothing."""
    half = trace_app("internal", ratio=0.5)
    client = half.app.test_client()
    headers = [traces.traceparent("https://one.example", "jobs", number) for number in range(40)]
    for header in headers:
        client.get("/nothing", headers={"traceparent": header})
    first = {trace_of(span) for span in half.spans()}
    assert 8 <= len(first) <= 32
    for header in headers:
        client.get("/nothing", headers={"traceparent": header[:-2] + "00"})
    assert [trace_of(span) for span in half.spans()].count(min(first)) == 2
    assert {trace_of(span) for span in half.spans()} == first


def test_the_log_line_of_a_request_without_a_trace_names_the_one_that_it_was_given(
    web: Traced, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: dict[str, Any] = {}
    monkeypatch.setattr(tracing, "bind_contextvars", bound.update)
    web.app.test_client().get("/login")
    assert bound == {"trace_id": trace_of(web.spans("GET /login")[0])}


@pytest.mark.parametrize(("given", "name"), [(None, "sluice-test"), ("sluice-heartbeat", "sluice-heartbeat")])
def test_each_process_has_its_name(
    trace_app: Any, monkeypatch: pytest.MonkeyPatch, given: str | None, name: str
) -> None:
    if given:
        monkeypatch.setenv("OTEL_SERVICE_NAME", given)
    app = trace_app("web")
    app.app.test_client().get("/login")
    assert app.spans("GET /login")[0].resource.attributes["service.name"] == name


# Azure Monitor


def traced_settings(settings: Settings, connection_string: str = CONNECTION_STRING) -> Settings:
    return settings.model_validate(settings.model_dump() | {"applicationinsights_connection_string": connection_string})


@pytest.fixture
def traced_app(settings: Settings, tables: Any) -> Iterator[Any]:
    made: list[Flask] = []
    yield lambda listener: made.append(create_app(listener, traced_settings(settings))) or made[-1]
    for app in made:
        app.extensions["tracer_provider"].shutdown()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have gone to Azure."""
    envelopes: list[Any] = []

    def transmit(_self: Any, some: list[Any], *_: Any, **__: Any) -> ExportResult:
        envelopes.extend(some)
        return ExportResult.SUCCESS

    monkeypatch.setattr(AzureMonitorTraceExporter, "_transmit", transmit)
    return envelopes


def test_an_app_with_a_connection_string_is_traced(
    traced_app: Any, sent: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    app = traced_app("internal")
    assert app.extensions["tracer_provider"].resource.attributes["service.name"] == "sluice-internal"
    with app.extensions["sluice"].n8n.span(traces.traceparent("https://one.example", "jobs", 1)) as handed_on:
        assert traces.trace_id(handed_on)
    app.extensions["tracer_provider"].force_flush()
    assert [envelope.data.base_data.name for envelope in sent] == ["dispatch"]
    assert '"level": "error"' not in capsys.readouterr().out


def test_a_post_that_is_refused_for_its_csrf_token_is_traced(traced_app: Any, sent: list[Any]) -> None:
    app = traced_app("web")
    assert app.test_client().post("/login").status_code == 419
    app.extensions["tracer_provider"].force_flush()
    assert "POST /login" in {envelope.data.base_data.name for envelope in sent}


def test_spans_go_out_by_the_app_s_one_identity(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(tracing, "AzureMonitorTraceExporter", lambda **options: given.update(options))
    tracing.azure_exporter(CONNECTION_STRING)
    assert given["credential"] is azure_identity.credential()


def test_a_wrong_connection_string_stops_the_start(settings: Settings) -> None:
    with pytest.raises(InvalidSettings, match=r"^APPLICATIONINSIGHTS_CONNECTION_STRING: "):
        create_app("web", traced_settings(settings, "InstrumentationKey=none"))


def test_without_the_packages_the_start_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "webapp.tracing", None)
    monkeypatch.delitem(sys.modules, "webapp.tracing")
    monkeypatch.setitem(sys.modules, "azure.monitor.opentelemetry.exporter", None)
    with pytest.raises(InvalidSettings, match=r"pip install -r requirements/azure\.txt"):
        create_app("web", traced_settings(settings))


def test_without_a_connection_string_none_of_it_is_loaded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webapp.tracing", None)  # importing it would fail
    assert "tracer_provider" not in create_app("web", settings).extensions
