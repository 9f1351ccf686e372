"""The admin page, failures by reason, health in words, and latency by hour."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, get_args

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from tests.conftest import ROOT
from tests.factories import PASSWORD, make_job, make_jobs, make_queued_jobs, make_user, make_window
from tests.fakes import FakeN8n
from tests.statements import heard
from webapp.domain.states import JobStatus
from webapp.models import BatchWindow, ExecutionFailure, Heartbeat, Job, JobAnswer, JobResult, User
from webapp.models.operation import BEAT_ROW
from webapp.parts import Parts
from webapp.services import batches, failure_reports, health, latency, overview, webhooks
from webapp.services.clock import clock, move_clock

HOSTILE = "<img/src=x/onerror=alert(1)>"
DAY = timedelta(days=1)


@pytest.fixture
def alice(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def admin(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session, "admin@example.org", role="admin")
    client.post("/login", data={"email": "admin@example.org", "password": PASSWORD})
    return client


def fail(session: Session, job_ids: list[int], code: str | None, message: str = "It broke.", **ago: float) -> None:
    at = clock(session) - timedelta(**ago)
    session.execute(
        update(Job).where(Job.id.in_(job_ids))
        .values(status=JobStatus.FAILED, failure_code=code, failure_message=message, finished_at=at)
    )  # fmt: skip
    session.commit()


def complete(session: Session, job_id: int, took_ms: int, **ago: float) -> None:
    at = clock(session) - timedelta(**ago)
    times = {"created_at": at - timedelta(milliseconds=took_ms), "finished_at": at}
    session.execute(update(Job).where(Job.id == job_id).values(status=JobStatus.COMPLETED, **times))
    session.add(JobResult(job_id=job_id, attempt=1, answer_key=str(job_id), text="x", is_cut=False, queue_ms=0,
                          total_ms=took_ms, created_at=at))  # fmt: skip
    session.commit()


def report(session: Session, number: int, message: str = "fetch failed") -> None:
    session.execute(insert(ExecutionFailure).values(
        execution_id=f"e{number}", workflow="Run", last_node="Call", message=message, reported_at=clock(session),
    ))  # fmt: skip
    session.commit()


def lines(session: Session, period: timedelta = DAY, **more: Any) -> list[tuple[Any, ...]]:
    found = failure_reports.job_failures(session, period, **more)
    return [(line.code, line.jobs, line.is_at_least, line.example_id) for line in found]


def test_failures_are_grouped_by_reason(session: Session, parts: Parts, alice: User) -> None:
    ids = make_jobs(session, parts, alice, 6)
    fail(session, ids[:3], "invalid_output")
    fail(session, ids[3:5], "answer_lost")
    fail(session, ids[5:], None)
    assert lines(session) == [("invalid_output", 3, False, 3), ("answer_lost", 2, False, 5), (None, 1, False, 6)]


def test_failures_are_of_the_period(session: Session, parts: Parts, alice: User) -> None:
    ids = make_jobs(session, parts, alice, 2)
    fail(session, ids[:1], "deadline", days=3)
    fail(session, ids[1:], "deadline")
    assert lines(session) == [("deadline", 1, False, 2)]
    assert lines(session, timedelta(days=7)) == [("deadline", 2, False, 2)]


def test_of_a_reason_only_the_newest_jobs_are_read(session: Session, parts: Parts, alice: User) -> None:
    fail(session, make_jobs(session, parts, alice, 3), "deadline")
    assert lines(session, most=2) == [("deadline", 2, True, 3)]


def test_the_page_of_failures_leads_to_an_example(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    fail(session, [make_job(session, parts, alice).id], "invalid_output", HOSTILE)
    report(session, 1, HOSTILE)
    page = admin.get("/admin/failures").text
    for words in ("invalid_output", "/jobs/1", "execution e1", "&lt;img"):
        assert words in page, words
    [address] = re.findall(r'href="(/jobs\?status=failed&amp;profile=[^"]+)"', page)
    assert "/jobs/1" in admin.get(address.replace("&amp;", "&")).text
    assert "<img" not in page


def test_reports_of_n8n_are_grouped(session: Session) -> None:
    for number in range(3):
        report(session, number)
    [line] = failure_reports.execution_failures(session, DAY)
    assert (line.executions, line.example_id) == (3, "e2")


def test_without_failures_the_page_says_so(admin: FlaskClient) -> None:
    page = admin.get("/admin/failures").text
    assert "No job failed" in page
    assert "No execution failed" in page


def test_a_period_that_is_not_known_is_said(admin: FlaskClient) -> None:
    page = admin.get("/admin/failures?period=%3Cb%3E")
    assert page.status_code == 200
    assert "There is no period “&lt;b&gt;”" in page.text


def test_health_says_what_is_wrong_and_what_to_do(admin: FlaskClient, session: Session, n8n: FakeN8n) -> None:
    n8n.is_down = True
    session.add(Heartbeat(name=BEAT_ROW, at=clock(session) - timedelta(minutes=5)))
    session.commit()
    page = admin.get("/admin/health").text
    assert re.search(r"It is silent for 3\d\d s\.", page)
    assert "n8n is down" in page
    assert page.count("What to do:") == 2


def test_health_tells_of_the_provider_and_of_windows(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    window = make_window(session, parts, alice)
    session.execute(update(BatchWindow).values(problem="The provider did not answer"))
    session.add(JobAnswer(job_id=1, attempt=1, answer_key="a", status_code=401, raw="{}", received_at=clock(session)))
    session.commit()
    page = admin.get("/admin/health").text
    assert window.id == 1
    assert "it refused the key (1)" in page
    assert "1 of the unfinished ones ran into a problem" in page


def test_health_tells_of_webhooks_that_are_not_told(admin: FlaskClient, session: Session, parts: Parts) -> None:
    assert "No message waits for the next try." in admin.get("/admin/health").text
    owner = make_user(session, "owner@example.org")
    webhook, _ = webhooks.create_webhook(session, parts.settings, owner, "https://example.org/hook")
    webhooks.send_test(session, webhook)
    move_clock(session, ahead=timedelta(minutes=15))
    assert "1 message waits, one of them for 15 minutes longer" in admin.get("/admin/health").text


def test_what_the_health_page_names_is_in_the_runbook() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert set(get_args(health.Heading)) - {""} <= set(headings)


def test_latency_is_by_hour_and_mode(session: Session, parts: Parts, alice: User) -> None:
    now_jobs = make_jobs(session, parts, alice, 3)
    _, batch_jobs = make_queued_jobs(session, parts, alice, 1)
    for job_id, took in zip(now_jobs, (1000, 2000, 9000), strict=True):
        complete(session, job_id, took)
    complete(session, batch_jobs[0], 60_000, hours=2)
    newest, oldest = latency.by_hour(session, clock(session))
    assert (newest.mode, newest.jobs, newest.p50, round(newest.p95, 2)) == ("sync", 3, 2.0, 8.3)
    assert (oldest.mode, oldest.p50, newest.hour - oldest.hour) == ("batch", 60.0, timedelta(hours=2))
    day = latency.last_day(session, clock(session))
    assert {mode.value: spread[0] for mode, spread in day.items()} == {"sync": 2, "batch": 60}


def test_the_chart_has_the_figures_of_the_table(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    first, second = make_jobs(session, parts, alice, 2)
    complete(session, first, 1500)
    complete(session, second, 4000, hours=3)
    chart = admin.get("/admin/latency/chart.json").json
    values = {one["label"]: one["values"] for one in chart["series"]}
    assert values == {"Now p50": [4.0, None, None, 1.5], "Now p95": [4.0, None, None, 1.5]}
    page = admin.get("/admin/latency").text
    assert 'data-chart="/admin/latency/chart.json"' in page
    assert page.count("1.5 s") >= 2


def test_without_answers_there_is_no_chart(admin: FlaskClient) -> None:
    assert "data-chart" not in admin.get("/admin/latency").text
    assert admin.get("/admin/latency/chart.json").json["series"] == []


def test_the_admin_page_is_everything_at_a_glance(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_window(session, parts, alice)
    make_queued_jobs(session, parts, alice, 2)
    complete(session, make_job(session, parts, alice).id, 1234)
    page = admin.get("/admin").text
    for words in ("0 now, 3 in 1 windows", "2 for a window", "1.2 s", "Window 1", "alice@example.org", "Health"):
        assert words in page, words
    for part in ("failures", "latency", "health", "queues", "windows", "costs", "benchmarks", "audit"):
        assert f'href="/admin/{part}"' in page, part


def test_one_poll_brings_the_admin_page_up_to_date(admin: FlaskClient, session: Session) -> None:
    page = admin.get("/admin").text
    assert page.count("data-poll") == 1
    fragment = admin.get("/admin", headers={"HX-Request": "true"}).text
    assert "<html" not in fragment
    assert 'hx-get="/admin"' in fragment
    assert "data-poll" not in admin.get("/admin?before=5").text  # an older page stands still


def test_a_long_queue_is_counted_as_far_as_a_window_takes(session: Session, parts: Parts, alice: User) -> None:
    make_queued_jobs(session, parts, alice, 5)
    [view] = batches.list_queues(session, parts.settings, parts.profiles, at_most=4)
    assert (view.state.queued, view.readiness.reason, view.readiness.take) == (4, "full", 3)


def test_no_figure_of_these_pages_reads_every_job(session: Session, parts: Parts, alice: User) -> None:
    """PostgreSQL is asked how it would do it if it were forbidden to read whole tables."""
    fail(session, make_jobs(session, parts, alice, 2), "deadline")
    make_window(session, parts, alice)
    with heard() as asked:
        queues = batches.list_queues(session, parts.settings, parts.profiles, at_most=batches.MOST_QUEUED)
        overview.overview(session, queues, clock(session))
        failure_reports.job_failures(session, DAY)
        latency.by_hour(session, clock(session))
        latency.last_day(session, clock(session))
    connection = session.connection()
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    for query, parameters in asked:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {query}", parameters).scalars())
        assert not re.search(r"Seq Scan on (jobs|job_\w+|ledger)\b", plan), plan
    assert len(asked) >= 8
