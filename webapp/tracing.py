"""OpenTelemetry to Azure Monitor. Imported only where APPLICATIONINSIGHTS_CONNECTION_STRING is set: its packages are
there only then.

What is traced: requests with their SQL (no parameters, no query strings), and the dispatch of each job. The spans of
one job share a trace, because n8n hands `traceparent` back (domain/traces.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from azure.monitor.opentelemetry.exporter import ApplicationInsightsSampler, AzureMonitorTraceExporter
from flask import Flask, request
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from psycopg.sql import Composable
from sqlalchemy import event
from structlog.contextvars import bind_contextvars

from webapp.domain.traces import HEADER
from webapp.extensions import db
from webapp.gateways.azure_identity import credential

# What the exporter would tell its maker of itself, and the switches that it would ask for. (The resource metric it
# takes from the global tracer provider, which we have not: each export would log an error.)
OWN_TELEMETRY = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED", "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
)  # fmt: skip
EXCLUDED = "^https?://[^/]+/(healthz|readyz|metrics|static/)"  # searched for in the whole address, query included

DispatchSpan = Callable[[str], AbstractContextManager[str]]  # a job's traceparent → the one to hand on


def azure_exporter(connection_string: str) -> SpanExporter:
    """Sends spans to Application Insights, by the identity that AZURE_CLIENT_ID names. Raises ValueError."""
    for name in OWN_TELEMETRY:
        os.environ.setdefault(name, "true")
    return AzureMonitorTraceExporter(
        connection_string=connection_string, credential=credential(), disable_offline_storage=True
    )


def start(app: Flask, service: str, exporter: SpanExporter, ratio: float) -> DispatchSpan:
    """Trace this app's requests and SQL into `exporter`; returns how to trace a dispatch.

    `ratio` of all traces is kept: their ids decide, so that every process keeps the same ones.
    OTEL_SERVICE_NAME, where it is set, stands for `service`.
    """
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME") or service})
    provider = TracerProvider(sampler=_sampler(ratio), resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call]
        app, tracer_provider=provider, excluded_urls=EXCLUDED, enable_commenter=False
    )
    app.before_request(_begin)
    tracer = provider.get_tracer(__name__)
    cursor, server_cursor = _traced(psycopg.Cursor, tracer), _traced(psycopg.ServerCursor, tracer)
    with app.app_context():

        @event.listens_for(db.engine, "connect")
        def trace(connection: psycopg.Connection, _: Any) -> None:
            connection.cursor_factory, connection.server_cursor_factory = cursor, server_cursor

    app.extensions["tracer_provider"] = provider
    return _dispatch_span(provider)


class _Requests(Sampler):
    """SQL outside a request is not traced: the heartbeat's would be a dozen traces each second."""

    def __init__(self, by_id: Sampler) -> None:
        self.by_id = by_id

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, kind: SpanKind | None = None, *more: Any, **named: Any
    ) -> SamplingResult:
        chosen = ALWAYS_OFF if kind is SpanKind.CLIENT else self.by_id
        return chosen.should_sample(parent_context, trace_id, name, kind, *more, **named)

    def get_description(self) -> str:
        return f"Requests({self.by_id.get_description()})"


def _sampler(ratio: float) -> Sampler:
    """A caller's own wish, in the flags of its traceparent, counts for nothing."""
    by_id = ApplicationInsightsSampler(ratio)
    return ParentBased(root=_Requests(by_id), remote_parent_sampled=by_id, remote_parent_not_sampled=by_id)


def _begin() -> None:
    span = get_current_span()
    if (context := span.get_span_context()).is_valid:
        bind_contextvars(trace_id=f"{context.trace_id:032x}")
        for name in ("http.target", "http.url"):
            span.set_attribute(name, request.path)  # a query string may say what is searched for


def _traced(kind: Any, tracer: Tracer) -> Any:
    """The same kind of cursor, that gives each statement a span, without its parameters and rows: also those that go
    past SQLAlchemy, which a library that listens to its events would not see."""

    @contextmanager
    def span_of(cursor: psycopg.Cursor[Any], statement: Any) -> Iterator[None]:
        words = statement.as_string(cursor) if isinstance(statement, Composable) else str(statement)
        told = {"db.system.name": "postgresql", "db.query.text": words}
        name = words.split(None, 1)[0]
        # PostgreSQL's own error may repeat a row: only its first sentence is told.
        with tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=told, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except psycopg.Error as error:
                span.set_status(StatusCode.ERROR, error.diag.message_primary)
                raise

    class Traced(kind):
        def execute(self, query: Any, *args: Any, **named: Any) -> Any:
            with span_of(self, query):
                return super().execute(query, *args, **named)

        def executemany(self, query: Any, *args: Any, **named: Any) -> None:
            with span_of(self, query):
                super().executemany(query, *args, **named)

        @contextmanager
        def copy(self, statement: Any, *args: Any, **named: Any) -> Iterator[psycopg.Copy]:
            with span_of(self, statement), super().copy(statement, *args, **named) as copy:
                yield copy

    return Traced


def _dispatch_span(provider: TracerProvider) -> DispatchSpan:
    tracer, propagator = provider.get_tracer(__name__), TraceContextTextMapPropagator()

    @contextmanager
    def span(traceparent: str) -> Iterator[str]:
        waiting = get_current_span().get_span_context()  # the request of the person who waits, if there is one
        carrier: dict[str, str] = {}
        with tracer.start_as_current_span(
            "dispatch", propagator.extract({HEADER: traceparent}), SpanKind.PRODUCER,
            links=[Link(waiting)] if waiting.is_valid else [],
        ):  # fmt: skip
            propagator.inject(carrier)
            yield carrier[HEADER]

    return span
