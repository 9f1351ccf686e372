"""`/metrics` for Prometheus, on the internal listener only (docs/monitoring.md).

What the database knows is asked at each scrape, so any process gives the same answer; what a process counts itself
(its requests, its connections) is that of the process that answers.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flask import Blueprint, Flask, Response, abort, current_app, g, request
from flask.typing import ResponseReturnValue
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool

from webapp.domain.states import WindowStatus
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import vitals
from webapp.views.access import has_internal_token

log = logging.getLogger(__name__)
bp = Blueprint("metrics", __name__)

LONGEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)  # an ingest takes minutes
RECENTLY = "within the last 15 minutes"


def register(app: Flask) -> None:
    """Serve `/metrics`, and count this process's requests."""
    registry = CollectorRegistry()
    requests = Counter(
        "sluice_http_requests", "Requests that this process answered.", ["route", "status"], registry=registry
    )
    took = Histogram(
        "sluice_http_request_duration_seconds", "How long this process took to answer.", ["route"],
        buckets=LONGEST_BUCKETS, registry=registry,
    )  # fmt: skip
    registry.register(_Vitals())
    app.extensions["metrics"] = registry
    app.register_blueprint(bp)

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        requests.labels(route, str(response.status_code)).inc()
        took.labels(route).observe(time.perf_counter() - g.began_at)
        return response


@bp.before_request
def require_metrics_token() -> None:
    """METRICS_TOKEN as a bearer token, which opens nothing else; or the internal token, for people with curl."""
    token = parts().settings.metrics_token
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    is_scraper = (
        token is not None
        and scheme.lower() == "bearer"
        and hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode())
    )
    if not (is_scraper or has_internal_token()):
        abort(401, "Send METRICS_TOKEN as a bearer token, or the X-Internal-Token header.")


@bp.get("/metrics")
def show_metrics() -> ResponseReturnValue:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(current_app.extensions["metrics"]), content_type=content_type)


class _Vitals(Collector):
    def collect(self) -> Iterator[Metric]:
        session, has_failed = db.session(), False
        try:
            vitals.be_brief(session)
            yield _heartbeat(vitals.heartbeat_age(session))  # first: a slow figure must not hide the most urgent
            queues = vitals.queue_figures(session, parts().settings, parts().profiles)
            yield from _queues(queues)
            yield from _jobs_and_windows(
                vitals.sync_figures(session), vitals.window_figures(session), sum(one.jobs for one in queues)
            )
            yield from _recent(vitals.recent_figures(session))
            yield from _costs(vitals.cost_figures(session))
            yield from _webhooks(*vitals.webhook_figures(session))
        except OperationalError as error:
            log.warning("a scrape has not all figures: %s", error.orig)
            has_failed = True
        yield _connections()
        yield _gauge("scrape_failed", "1: the database did not answer in time, and figures are missing.",
                     (), {(): has_failed})  # fmt: skip
        session.rollback()

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is asked before the first scrape


def _queues(queues: list[vitals.QueueFigures]) -> Iterator[Metric]:
    names = ("queue", "profile", "model", "strategy")
    keyed = [((str(one.queue.id), one.queue.profile_id, one.queue.model, one.queue.strategy), one) for one in queues]
    yield _gauge("queue_jobs", "Jobs that wait for a window.", names, {key: one.jobs for key, one in keyed})
    yield _gauge(
        "queue_oldest_age_seconds", "How long the oldest job of the queue has been waiting.", names,
        {key: one.oldest_seconds for key, one in keyed},
    )  # fmt: skip
    yield _gauge(
        "queue_overdue_seconds", "The same where a window should be open by now, else 0; 0 if the queue is held.",
        names, {key: one.overdue_seconds for key, one in keyed},
    )  # fmt: skip
    yield _gauge(
        "queue_held", "1: an operator holds the queue.", names,
        {key: one.queue.held_at is not None for key, one in keyed},
    )  # fmt: skip


def _jobs_and_windows(sync: vitals.SyncFigures, windows: vitals.WindowFigures, queued: int) -> Iterator[Metric]:
    yield _gauge(
        "jobs", "Unfinished jobs; of batches: those that open (claimed) and submitted (processing) windows began with.",
        ("mode", "status"), {
            ("sync", "created"): sync.created, ("sync", "processing"): sync.processing, ("batch", "queued"): queued,
            ("batch", "claimed"): windows.jobs[WindowStatus.OPEN],
            ("batch", "processing"): windows.jobs[WindowStatus.SUBMITTED],
        },
    )  # fmt: skip
    yield _gauge("created_oldest_age_seconds", "How long the oldest sync job has been due that n8n has not started.",
                 (), {(): sync.oldest_created_seconds})  # fmt: skip
    yield _gauge("windows", "Batch windows by state.", ("status",), {(s,): n for s, n in windows.windows.items()})
    yield _gauge("windows_troubled", "Unfinished windows whose last step ran into a problem; it is taken again.",
                 (), {(): windows.troubled})  # fmt: skip
    yield _gauge("windows_needing_attention", "Windows that do not add up; their pages say why.",
                 (), {(): windows.needing_attention})  # fmt: skip


def _recent(recent: vitals.RecentFigures) -> Iterator[Metric]:
    yield _gauge("recent_jobs_ended", f"Jobs that ended {RECENTLY}, by outcome; {vitals.MOST_COUNTED} at most.",
                 ("mode", "outcome"), recent.ended)  # fmt: skip
    yield _spread("recent_job_seconds", "Created until stored, of jobs completed", ("mode",),
                  {(mode,): spread for mode, spread in recent.took.items()})  # fmt: skip
    yield _spread("recent_dispatch_seconds", "Handed to n8n until started, of sync jobs ended", (),
                  {(): recent.dispatched} if recent.dispatched else {})  # fmt: skip
    yield _spread("recent_ingest_seconds", "Answered by the provider until stored, of sync jobs and windows ended",
                  ("mode",), {(mode,): spread for mode, spread in recent.ingested.items()})  # fmt: skip
    yield _gauge("recent_provider_errors", f"Errors of the provider: answers to jobs, refused batches, {RECENTLY}.",
                 ("class",), {(name,): count for name, count in recent.provider_errors.items()})  # fmt: skip


def _costs(costs: vitals.CostFigures) -> Iterator[Metric]:
    answers = CounterMetricFamily(
        "sluice_answers", "Ledger entries: answers that were paid or may have been.", labels=("mode", "reason")
    )
    for key, entries in costs.answers.items():
        answers.add_metric(key, entries)
    yield answers
    amount = CounterMetricFamily("sluice_cost_usd", "What the answers cost, as far as it is known.", labels=("mode",))
    for mode, usd in costs.amount.items():
        amount.add_metric((mode,), float(usd))
    yield amount
    yield _gauge("cost_unknown_entries", "Ledger entries whose amount nobody knows.", (), {(): costs.unknown})


def _webhooks(waiting: int, overdue_seconds: float) -> Iterator[Metric]:
    yield _gauge("webhook_messages", "Messages that wait for their first or next try, of enabled webhooks.",
                 (), {(): waiting})  # fmt: skip
    yield _gauge("webhook_overdue_seconds", "How long the one of them is overdue that is due longest, else 0.",
                 (), {(): overdue_seconds})  # fmt: skip


def _heartbeat(age: float | None) -> Metric:
    return _gauge("heartbeat_age_seconds", "Since the last beat; absent when there was none.", (),
                  {} if age is None else {(): age})  # fmt: skip


def _connections() -> Metric:
    pool = db.engine.pool
    assert isinstance(pool, QueuePool)
    return _gauge("database_pool_connections", "Connections of this process to the database.", ("state",),
                  {("busy",): pool.checkedout(), ("idle",): pool.checkedin()})  # fmt: skip


def _gauge(name: str, words: str, labels: Sequence[str], values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"sluice_{name}", words, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _spread(name: str, words: str, labels: Sequence[str], spreads: Mapping[Any, vitals.Spread]) -> GaugeMetricFamily:
    """Quantiles as a gauge: a summary's would be those of all times."""
    values = {
        (*key, str(quantile)): seconds
        for key, spread in spreads.items()
        for quantile, seconds in zip(vitals.QUANTILES, spread, strict=True)
    }
    return _gauge(name, f"{words} {RECENTLY}.", (*labels, "quantile"), values)
