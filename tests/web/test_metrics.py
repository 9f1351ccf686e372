"""`/metrics`: who may read it, that Prometheus can, and that each figure is right on a made-up population."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from tests.factories import (
    answer_step,
    end_batch,
    items_of,
    make_jobs,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    output_line,
    response,
    take_lease,
)
from webapp.domain.answers import Usage, read_answer, transport_error
from webapp.domain.states import ExecutionMode
from webapp.domain.windows import Step
from webapp.models import BatchWindow, Job, JobEvent, JobResult, Queue, User, WindowEvent
from webapp.parts import Parts
from webapp.services import batch_files, batch_ingest, dispatch, heartbeat, ingest, ledger, lifecycle, vitals
from webapp.services.clock import clock

METRICS_TOKEN = "a token that only reads figures"
QUEUE = {"queue": "1", "profile": "pdf_summary", "model": "gpt-6-luna", "strategy": "count_only"}
Figure = Callable[..., float | None]


@pytest.fixture
def figure(internal: FlaskClient) -> Figure:
    """figure("queue_jobs", queue="1"): the value of `sluice_queue_jobs` now; None when there is no such sample."""

    def value(name: str, **labels: str) -> float | None:
        page = internal.get("/metrics").get_data(as_text=True)
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        found = [one.value for one in samples if (one.name, one.labels) == (f"sluice_{name}", labels)]
        assert len(found) <= 1
        return found[0] if found else None

    return value


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


def started(session: Session, parts: Parts, user: User, count: int = 1) -> list[int]:
    """Sync jobs that n8n has started, 2 seconds after they were handed to it."""
    job_ids = make_jobs(session, parts, user, count)
    dispatch.dispatch_due(session, parts.settings, parts.profiles, parts.n8n, only=job_ids)
    for job_id in job_ids:
        dispatch.start_attempt(session, parts.settings, job_id=job_id, attempt=1, execution_id=f"e{job_id}")
    back = Job.started_at - timedelta(seconds=2)
    session.execute(update(Job).where(Job.id.in_(job_ids)).values(dispatched_at=back, created_at=back))
    session.commit()
    return job_ids


def answer(session: Session, parts: Parts, job_id: int, status: int = 200, body: Any = None) -> None:
    """The write-back; status 0: no answer came."""
    raw = body or response(f"- Summary of {job_id}.")
    found = read_answer(status, raw) if status else transport_error("connection reset", "ECONNRESET")
    ingest.record_answer(
        session, parts.settings, parts.prices, job_id=job_id, attempt=1, execution_id=f"e{job_id}", answer=found,
        raw=raw, elapsed_ms=500,
    )  # fmt: skip


def age_answers(session: Session, **columns: Any) -> None:
    session.execute(update(Job).where(Job.finished_at.is_not(None)).values(**columns))
    session.commit()


def ingest_window(session: Session, parts: Parts, window: BatchWindow, **ended: Any) -> None:
    """The provider completes it; each of its jobs has an answer."""
    lines = [output_line(item) for item in items_of(session, window)]
    lease = end_batch(session, parts, window, "completed", output=lines, **ended)
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )


# Who may read it


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {METRICS_TOKEN}"}, 200),
        ({"Authorization": f"bearer  {METRICS_TOKEN}"}, 200),
        ({"Authorization": f"Basic {METRICS_TOKEN}"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer ünicode"}, 401),
        ({"X-Internal-Token": METRICS_TOKEN}, 401),
        ({"X-Internal-Token": "an internal token for tests"}, 200),
        ({"Authorization": "Bearer an internal token for tests"}, 401),
    ],
)
def test_who_may_read_the_figures(make_app: Any, headers: dict[str, str], status: int) -> None:
    client = make_app("internal", metrics_token=SecretStr(METRICS_TOKEN)).test_client()
    assert client.get("/metrics", headers=headers).status_code == status


@pytest.mark.parametrize("token", ["", "None"])
def test_without_a_metrics_token_no_bearer_token_opens_it(make_app: Any, token: str) -> None:
    client = make_app("internal").test_client()
    assert client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_the_metrics_token_opens_nothing_else(make_app: Any) -> None:
    client = make_app("internal", metrics_token=SecretStr(METRICS_TOKEN)).test_client()
    for headers in ({"Authorization": f"Bearer {METRICS_TOKEN}"}, {"X-Internal-Token": METRICS_TOKEN}):
        assert client.get("/api/internal/queues", headers=headers).status_code == 401


def test_the_figures_are_not_on_the_public_listener(client: FlaskClient) -> None:
    assert client.get("/metrics").status_code == 404


# What Prometheus needs


def test_prometheus_gets_the_format_that_it_asks_for(internal: FlaskClient) -> None:
    plain = internal.get("/metrics")
    assert plain.content_type == "text/plain; version=0.0.4; charset=utf-8"
    asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"}
    open_metrics = internal.get("/metrics", headers=asked)
    assert open_metrics.content_type.startswith("application/openmetrics-text")
    assert len(list(parse_openmetrics(open_metrics.get_data(as_text=True)))) > 20


def test_each_metric_is_named_by_the_conventions_and_explained(internal: FlaskClient) -> None:
    for family in text_string_to_metric_families(internal.get("/metrics").get_data(as_text=True)):
        assert family.name.startswith("sluice_")
        assert family.documentation.endswith("."), family.name
        if family.type == "gauge":
            assert not family.name.endswith(("_total", "_count", "_sum")), family.name


def test_an_empty_system_has_figures(figure: Figure) -> None:
    assert figure("jobs", mode="sync", status="created") == 0
    assert figure("windows", status="failed") == 0
    assert figure("cost_usd_total", mode="batch") == 0
    assert figure("recent_provider_errors", **{"class": "server"}) == 0
    assert figure("heartbeat_age_seconds") is None, "it has never beaten"


# What the figures say


def test_queues(figure: Figure, session: Session, parts: Parts, user: User) -> None:
    make_queued_jobs(session, parts, user, 2)
    session.execute(update(Job).values(queued_at=clock(session) - timedelta(seconds=600)))
    session.commit()
    assert figure("queue_jobs", **QUEUE) == 2
    assert figure("queue_oldest_age_seconds", **QUEUE) == pytest.approx(600, abs=5)
    assert figure("queue_overdue_seconds", **QUEUE) == 0, "2 of 3 jobs: it waits for another"
    make_queued_jobs(session, parts, user, 1)
    assert figure("queue_overdue_seconds", **QUEUE) == pytest.approx(600, abs=5)
    assert figure("queue_held", **QUEUE) == 0
    session.execute(update(Queue).values(held_at=clock(session)))
    session.commit()
    assert figure("queue_held", **QUEUE) == 1
    assert figure("queue_overdue_seconds", **QUEUE) == 0


def test_a_queue_in_which_nobody_waits_is_there_with_zero(
    figure: Figure, session: Session, parts: Parts, user: User
) -> None:
    make_window(session, parts, user)
    assert figure("queue_jobs", **QUEUE) == 0
    assert figure("queue_oldest_age_seconds", **QUEUE) == 0


def test_unfinished_jobs_by_mode_and_status(figure: Figure, session: Session, parts: Parts, user: User) -> None:
    make_submitted_window(session, parts, user, 3)
    make_window(session, parts, user, 2)
    make_queued_jobs(session, parts, user, 1)
    started(session, parts, user, 2)
    created = make_jobs(session, parts, user, 4)
    long_ago = clock(session) - timedelta(seconds=90)
    session.execute(update(JobEvent).where(JobEvent.job_id == created[0]).values(at=long_ago))
    session.commit()
    found = {
        (mode, status): figure("jobs", mode=mode, status=status)
        for mode, status in [
            ("sync", "created"), ("sync", "processing"), ("batch", "queued"), ("batch", "claimed"),
            ("batch", "processing"),
        ]
    }  # fmt: skip
    assert list(found.values()) == [4, 2, 1, 2, 3]
    assert figure("created_oldest_age_seconds") == pytest.approx(90, abs=5)


def test_a_job_waits_for_n8n_from_its_move_to_sync_or_the_end_of_its_back_off(
    figure: Figure, session: Session, parts: Parts, user: User
) -> None:
    _, [moved, _] = make_queued_jobs(session, parts, user, 2)
    days_ago, now = clock(session) - timedelta(days=2), clock(session)
    session.execute(update(Job).where(Job.finished_at.is_not(None)).values(created_at=days_ago))
    session.execute(update(JobEvent).values(at=days_ago))
    lifecycle.move_jobs_to_sync(session, [moved], now=now - timedelta(seconds=40), actor="test", reason="its deadline")
    session.commit()
    assert figure("created_oldest_age_seconds") == pytest.approx(40, abs=5)
    for not_before, expected in ((now - timedelta(seconds=20), 20), (now + timedelta(seconds=60), 0)):
        session.execute(update(Job).where(Job.id == moved).values(not_before=not_before))
        session.commit()
        assert figure("created_oldest_age_seconds") == pytest.approx(expected, abs=5)


def test_windows_by_state(figure: Figure, session: Session, parts: Parts, user: User) -> None:
    ended = make_submitted_window(session, parts, user, 1)
    ingest_window(session, parts, ended)
    make_submitted_window(session, parts, user, 1)
    troubled = make_window(session, parts, user, 1)
    session.execute(update(BatchWindow).where(BatchWindow.id == troubled.id).values(problem="The provider is away."))
    session.execute(update(BatchWindow).where(BatchWindow.id == ended.id).values(problem="was", needs_attention="odd"))
    session.commit()
    assert [figure("windows", status=status) for status in ("completed", "submitted", "open", "failed")] == [1, 1, 1, 0]
    assert figure("windows_troubled") == 1, "that of a window that has ended is history"
    assert figure("windows_needing_attention") == 1


def test_jobs_that_ended_lately_by_outcome(figure: Figure, session: Session, parts: Parts, user: User) -> None:
    good, refused, _ = started(session, parts, user, 3)
    answer(session, parts, good)
    answer(session, parts, refused, 400, {"error": {"message": "no"}})
    ingest_window(session, parts, make_submitted_window(session, parts, user, 2))
    assert figure("recent_jobs_ended", mode="sync", outcome="completed") == 1
    assert figure("recent_jobs_ended", mode="sync", outcome="failed") == 1
    assert figure("recent_jobs_ended", mode="batch", outcome="completed") == 2
    age_answers(session, finished_at=clock(session) - timedelta(minutes=16))
    assert figure("recent_jobs_ended", mode="sync", outcome="completed") is None


def test_how_long_dispatch_and_ingest_take(figure: Figure, session: Session, parts: Parts, user: User) -> None:
    job_id, failed = started(session, parts, user, 2)
    answer(session, parts, job_id)
    answer(session, parts, failed, 400, {"error": {"message": "no"}})  # it has no result to measure
    times = {"queue_ms": 2_000, "provider_ms": 500, "total_ms": 12_500}
    session.execute(update(JobResult).values(**times))
    session.execute(update(Job).values(created_at=Job.finished_at - timedelta(milliseconds=12_500)))
    session.commit()
    for quantile in ("0.5", "0.95"):
        assert figure("recent_dispatch_seconds", quantile=quantile) == pytest.approx(2, abs=0.01)
        assert figure("recent_job_seconds", mode="sync", quantile=quantile) == 12.5
        assert figure("recent_ingest_seconds", mode="sync", quantile=quantile) == 10


def test_a_result_that_took_no_known_time_at_the_provider_is_not_measured(
    figure: Figure, session: Session, parts: Parts, user: User
) -> None:
    [job_id] = started(session, parts, user)
    answer(session, parts, job_id)
    session.execute(update(JobResult).values(provider_ms=None))
    session.commit()
    assert figure("recent_ingest_seconds", mode="sync", quantile="0.5") is None


def test_how_long_the_ingest_of_a_window_takes(figure: Figure, session: Session, parts: Parts, user: User) -> None:
    completed_at = round(clock(session).timestamp()) - 30
    ingest_window(session, parts, make_submitted_window(session, parts, user), completed_at=completed_at)
    assert figure("recent_ingest_seconds", mode="batch", quantile="0.5") == pytest.approx(30, abs=5)


@pytest.mark.parametrize("nonsense", ["soon", 1e300, -5, None, [], {"at": 1}, True])
def test_a_provider_that_tells_nonsense_of_its_times_breaks_no_figure(
    internal: FlaskClient, figure: Figure, session: Session, parts: Parts, user: User, nonsense: Any
) -> None:
    ingest_window(session, parts, make_submitted_window(session, parts, user), completed_at=nonsense)
    assert internal.get("/metrics").status_code == 200
    assert figure("recent_ingest_seconds", mode="batch", quantile="0.5") is None


@pytest.mark.parametrize(
    ("status", "name"),
    [(429, "rate_limited"), (401, "denied"), (403, "denied"), (400, "refused"), (404, "refused"), (500, "server"),
     (503, "server"), (0, "no_answer")],
)  # fmt: skip
def test_provider_errors_by_class(
    figure: Figure, session: Session, parts: Parts, user: User, status: int, name: str
) -> None:
    bad, good = started(session, parts, user, 2)
    answer(session, parts, good)
    answer(session, parts, bad, status, {"error": {"message": "no"}})
    classes = ("no_answer", "rate_limited", "denied", "refused", "server")
    found = {one: figure("recent_provider_errors", **{"class": one}) for one in classes}
    assert found == dict.fromkeys(classes, 0) | {name: 1}


def test_a_refused_create_of_a_batch_is_an_error_of_the_provider(
    figure: Figure, session: Session, parts: Parts, user: User
) -> None:
    window = make_window(session, parts, user)
    upload = take_lease(session, parts, Step.UPLOAD_INPUT)
    batch_files.upload_input(session, parts.files, window_id=window.id, token=upload.token)
    answer_step(session, parts, take_lease(session, parts, Step.CREATE), {"error": {"message": "no"}}, status=401)
    assert figure("recent_provider_errors", **{"class": "denied"}) == 1
    session.execute(update(WindowEvent).values(at=clock(session) - timedelta(minutes=16)))
    session.commit()
    assert figure("recent_provider_errors", **{"class": "denied"}) == 0


def test_cost_and_answers_by_mode(figure: Figure, session: Session, parts: Parts, user: User) -> None:
    first, lost = started(session, parts, user, 2)
    answer(session, parts, first)
    ledger.record_lost_answer(session, session.get_one(Job, lost), clock(session))
    session.commit()
    ingest_window(session, parts, make_submitted_window(session, parts, user, 2))
    sync, batch = figure("cost_usd_total", mode="sync"), figure("cost_usd_total", mode="batch")
    assert sync == pytest.approx(float(price(parts, 1000, 200)))
    assert batch == pytest.approx(2 * sync / 2), "two answers at half the price"
    assert figure("answers_total", mode="sync", reason="answer") == 1
    assert figure("answers_total", mode="sync", reason="answer_lost") == 1
    assert figure("answers_total", mode="batch", reason="answer") == 2
    assert figure("cost_unknown_entries") == 1
    heartbeat.tick(session, parts, heartbeat.Beat())  # rolls the ledger up
    assert (figure("cost_usd_total", mode="sync"), figure("answers_total", mode="batch", reason="answer")) == (sync, 2)


def price(parts: Parts, input_tokens: int, output_tokens: int) -> Any:
    unit = parts.prices.unit_prices("gpt-6-luna", ExecutionMode.SYNC, datetime.now(UTC))
    assert unit
    return unit.cost(Usage(input_tokens, output_tokens, 0))


def test_the_heartbeat_s_age(figure: Figure, session: Session, parts: Parts) -> None:
    heartbeat.tick(session, parts, heartbeat.Beat())
    assert figure("heartbeat_age_seconds") == pytest.approx(0, abs=5)


def test_connections_of_this_process(figure: Figure) -> None:
    assert figure("database_pool_connections", state="busy") == 1, "the one of this request"


def test_requests_are_counted_by_route_and_status(figure: Figure, internal: FlaskClient) -> None:
    for path in ("/api/internal/jobs/7/context", "/api/internal/jobs/8/context", "/nowhere?token=x"):
        internal.get(path)
    route = "/api/internal/jobs/<int:job_id>/context"
    assert figure("http_requests_total", route=route, status="404") == 2
    assert figure("http_requests_total", route="none", status="404") == 1
    assert figure("http_request_duration_seconds_count", route=route) == 2
    assert figure("http_request_duration_seconds_bucket", route=route, le="300.0") == 2


def test_a_slow_figure_does_not_hide_the_others(
    internal: FlaskClient, figure: Figure, session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat.tick(session, parts, heartbeat.Beat())
    assert figure("scrape_failed") == 0

    def be_slow(session: Session) -> Any:
        session.execute(text("SET LOCAL statement_timeout = '1ms'; SELECT pg_sleep(60)"))

    monkeypatch.setattr(vitals, "recent_figures", be_slow)
    assert internal.get("/metrics").status_code == 200
    assert figure("scrape_failed") == 1
    assert figure("heartbeat_age_seconds") == pytest.approx(0, abs=5)
    assert figure("jobs", mode="sync", status="created") == 0
    assert figure("cost_unknown_entries") is None


def test_without_a_database_a_scrape_says_so(make_app: Any) -> None:
    client = make_app("internal", database_url=SecretStr("postgresql+psycopg://x@/x?host=/nowhere")).test_client()
    page = client.get("/metrics", headers={"X-Internal-Token": "an internal token for tests"})
    assert (page.status_code, "sluice_scrape_failed 1.0" in page.text) == (200, True)


def test_a_scrape_writes_nothing_and_is_not_long(internal: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def look(session: Session) -> float | None:
        found.append(session.execute(text("SHOW transaction_read_only")).scalar_one())
        found.append(session.execute(text("SHOW statement_timeout")).scalar_one())
        return None

    monkeypatch.setattr(vitals, "heartbeat_age", look)
    internal.get("/metrics")
    assert found == ["on", "5s"]
