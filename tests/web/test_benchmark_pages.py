"""The pages of benchmark runs and `flask benchmark`."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import PASSWORD, make_benchmark, make_user, response
from webapp import cli_benchmark
from webapp.domain.answers import read_answer
from webapp.models import BenchmarkRun, Document, Job, Queue, User
from webapp.parts import Parts
from webapp.services import benchmarks, control
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer

FORM: dict[str, Any] = {
    "profile": "pdf_summary", "tiers": ["S", "M"], "modes": ["sync", "batch"], "jobs": "20", "repetitions": "3",
    "note": "before the new model",
}  # fmt: skip


@pytest.fixture
def admin(session: Session) -> User:
    return make_user(session, "admin@example.org", role="admin")


@pytest.fixture
def page(client: FlaskClient, admin: User) -> FlaskClient:
    assert client.post("/login", data={"email": admin.email, "password": PASSWORD}).status_code == 303
    return client


def advance(session: Session, parts: Parts) -> None:
    benchmarks.advance(session, parts.settings, parts.profiles, parts.prices)


def answer_all(session: Session, parts: Parts) -> None:
    for job_id in session.scalars(select(Job.id).where(Job.status == "created")).all():
        start_attempt(session, parts.settings, job_id=job_id, attempt=1, execution_id=f"e{job_id}")
        record_answer(
            session, parts.settings, parts.prices, job_id=job_id, attempt=1, execution_id=f"e{job_id}",
            answer=read_answer(200, response(f"- {job_id}")), raw={}, elapsed_ms=1,
        )  # fmt: skip


def finished_run(session: Session, parts: Parts, user: User, **changes: Any) -> int:
    run_id = make_benchmark(session, parts, user, modes=["sync"], **changes)
    advance(session, parts)
    answer_all(session, parts)
    advance(session, parts)
    return run_id


def with_file(name: str = "debian-history.pdf", **changes: Any) -> dict[str, Any]:
    return FORM | {"document": [(io.BytesIO((DATA / name).read_bytes()), name)]} | changes


def test_a_page_without_runs_says_what_they_are_for(page: FlaskClient) -> None:
    found = page.get("/admin/benchmarks").text
    assert "No run yet" in found
    assert "PDF summary" in found
    assert "Text classification" not in found
    assert "None yet" in page.get("/admin").text


def test_the_form_starts_a_run(page: FlaskClient, session: Session) -> None:
    answer = page.post("/admin/benchmarks", data=with_file(tiers=["S"]))
    assert (answer.status_code, answer.location) == (303, "/admin/benchmarks/1")
    run = session.scalars(select(BenchmarkRun)).one()
    assert [tier["tier"] for tier in run.tiers] == ["S", "debian-history.pdf"]
    assert (run.modes, run.jobs_per_step, run.repetitions) == (["sync", "batch"], 20, 3)
    assert run.note == "before the new model"
    assert "before the new model" in page.get("/admin/benchmarks").text


def test_what_is_wrong_is_said_on_its_field_and_nothing_begins(page: FlaskClient, session: Session) -> None:
    answer = page.post("/admin/benchmarks", data=FORM | {"jobs": "many", "tiers": []})
    assert answer.status_code == 422
    assert "From 1 to 200." in answer.text
    assert "Choose a tier" in answer.text
    answer = page.post("/admin/benchmarks", data=with_file("not-a-pdf.pdf"))
    assert answer.status_code == 422
    assert "not-a-pdf.pdf: This file is not a PDF." in answer.text
    assert session.scalar(select(func.count()).select_from(BenchmarkRun)) == 0


def test_the_estimate_counts_jobs_and_the_most_that_they_cost(page: FlaskClient, session: Session) -> None:
    found = page.post("/admin/benchmarks/estimate", data=with_file(tiers=["S"]), headers={"HX-Request": "true"}).text
    assert "<html" not in found
    assert "<strong>240 jobs</strong>, at most <strong>$" in found
    document = session.scalars(select(Document).where(Document.filename == "debian-history.pdf")).one()
    assert f'name="document-kept" value="{document.id}" checked' in found
    again = page.post("/admin/benchmarks", data=FORM | {"tiers": [], "document-kept": [str(document.id)]})
    assert again.status_code == 303
    assert session.scalars(select(BenchmarkRun.tiers)).one() == [
        {"tier": "debian-history.pdf", "documentId": document.id}
    ]


def test_an_estimate_of_a_form_that_is_not_right_says_why(page: FlaskClient) -> None:
    found = page.post("/admin/benchmarks/estimate", data=FORM | {"modes": []}).text
    assert "Choose now (sync), in a batch (batch), or both." in found
    assert "at most <strong>" not in found


def test_the_page_polls_until_the_run_has_ended(page: FlaskClient, session: Session, parts: Parts, admin: User) -> None:
    run_id = make_benchmark(session, parts, admin, modes=["sync"])
    assert "It begins with the next beat" in page.get(f"/admin/benchmarks/{run_id}").text
    advance(session, parts)
    running = page.get(f"/admin/benchmarks/{run_id}/status").text
    assert "hx-trigger" in running
    assert "Now: repetition 1, now, tier S. 0 of its 2 jobs have ended." in running
    assert "data-chart" not in running
    answer_all(session, parts)
    advance(session, parts)
    ended = page.get(f"/admin/benchmarks/{run_id}/status").text
    assert "hx-trigger" not in ended
    assert "2 of 2" in ended
    assert ended.count("data-chart") == 4  # sync alone: latency, jobs, cost, throughput
    assert "Run 1" in page.get("/admin").text


def test_a_held_queue_is_named(page: FlaskClient, session: Session, parts: Parts, admin: User) -> None:
    run_id = make_benchmark(session, parts, admin, modes=["batch"])
    advance(session, parts)
    queue_id = session.scalars(select(Queue.id)).one()
    control.hold_queue(session, queue_id, user=admin, reason="an incident")
    found = page.get(f"/admin/benchmarks/{run_id}").text
    assert "an administrator holds this queue." in found
    assert f'<a href="/admin/queues/{queue_id}">the queue</a> is resumed.' in found


def test_every_chart_of_the_page_can_be_drawn(page: FlaskClient, session: Session, parts: Parts, admin: User) -> None:
    run_id = finished_run(session, parts, admin)
    found = page.get(f"/admin/benchmarks/{run_id}").text
    urls = [part.split('"')[0] for part in found.split('data-chart="')[1:]]
    for url in urls:
        chart = page.get(url).json
        assert chart
        assert chart["kind"] in ("bars", "points")
        for series in chart["series"]:
            assert len(series["values"]) == len(series.get("x", chart["x"]["values"]))
    assert page.get(f"/admin/benchmarks/{run_id}/chart/nothing.json").status_code == 404


def test_downloads(page: FlaskClient, session: Session, parts: Parts, admin: User) -> None:
    run_id = finished_run(session, parts, admin)
    whole = page.get(f"/admin/benchmarks/{run_id}.json").json
    assert whole
    assert (whole["run"]["status"], whole["summary"][0]["jobsCompleted"], len(whole["samples"])) == ("completed", 2, 2)
    summary = page.get(f"/admin/benchmarks/{run_id}/summary.csv")
    assert summary.headers["Content-Disposition"] == 'attachment; filename="benchmark-1-summary.csv"'
    assert summary.text.splitlines()[1].startswith("sync,S,2,2,0,0,")
    assert len(page.get(f"/admin/benchmarks/{run_id}/samples.csv").text.splitlines()) == 3


def test_two_runs_side_by_side(page: FlaskClient, session: Session, parts: Parts, admin: User) -> None:
    for count in (2, 4):
        finished_run(session, parts, admin, jobs_per_step=count)
    found = page.get("/admin/benchmarks/compare?a=1&b=2").text
    [completed] = [
        row for row in found.split("<tr>") if "Completed jobs" in row and "All" not in row and "Total" not in row
    ]
    assert [cell.split("<")[0] for cell in completed.split('<td class="num">')[1:]] == ["2", "4", "2.00"]
    assert page.get("/admin/benchmarks/compare?a=1&b=9").status_code == 404
    assert page.get("/admin/benchmarks/compare?a=1").status_code == 303


def test_cancelling_asks_why_and_is_in_the_audit_log(
    page: FlaskClient, session: Session, parts: Parts, admin: User
) -> None:
    run_id = make_benchmark(session, parts, admin)
    advance(session, parts)
    page.post(f"/admin/benchmarks/{run_id}/cancel", data={"reason": ""})
    assert "Say why" in page.get(f"/admin/benchmarks/{run_id}").text
    page.post(f"/admin/benchmarks/{run_id}/cancel", data={"reason": "enough seen"})
    found = page.get(f"/admin/benchmarks/{run_id}").text
    assert "2 jobs were cancelled with it" in found
    assert "enough seen" in found
    assert f'<a href="/admin/benchmarks/{run_id}">' in page.get("/admin/audit").text
    page.post(f"/admin/benchmarks/{run_id}/cancel", data={"reason": "again"})
    assert "has ended" in page.get(f"/admin/benchmarks/{run_id}").text


def test_unknown_costs_are_said_and_not_0(page: FlaskClient, session: Session, parts: Parts, admin: User) -> None:
    run_id = make_benchmark(session, parts, admin, modes=["sync"], jobs_per_step=1)
    advance(session, parts)
    start_attempt(session, parts.settings, job_id=1, attempt=1, execution_id="e1")
    record_answer(
        session, parts.settings, parts.prices, job_id=1, attempt=1, execution_id="e1",
        answer=read_answer(200, response(usage=None)), raw={}, elapsed_ms=1,
    )  # fmt: skip
    found = page.get(f"/admin/benchmarks/{run_id}").text
    assert '<td class="num">unknown</td>' in found
    assert "$0" not in found


# The command


@pytest.fixture
def command(make_app: Any, session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `flask benchmark`; while it sleeps, the heartbeat and n8n do their work."""

    def work(_: float) -> None:
        advance(session, parts)
        answer_all(session, parts)

    monkeypatch.setattr(cli_benchmark, "sleep", work)

    def run(*options: str) -> tuple[int, str, str]:
        app = make_app()
        with app.app_context():
            result = app.test_cli_runner().invoke(args=["benchmark", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_command_waits_and_prints_the_table(command: Any, admin: User) -> None:
    options = ("--tiers", "S", "--document", str(DATA / "two-pages.pdf"), "--modes", "sync", "--jobs", "2")
    status, out, err = command(*options, "--repetitions", "2")
    assert status == 0, err
    header, small, own, *_ = out.splitlines()
    assert header.split()[:4] == ["mode", "tier", "jobs", "done"]
    assert small.split()[:4] == ["Now", "S", "4", "4"]
    assert own.split()[:4] == ["Now", "two-pages.pdf", "4", "4"]
    assert "Benchmark run 1: 8 jobs of S, two-pages.pdf; at most $" in err
    assert "8 of 8 jobs have ended" in err


def test_the_command_prints_json(command: Any, admin: User) -> None:
    status, out, _ = command("--tiers", "S", "--modes", "sync", "--jobs", "1", "--repetitions", "1", "--json")
    assert status == 0
    assert json.loads(out)["summary"][0]["jobsCompleted"] == 1


def test_the_command_fails_with_the_run(command: Any, session: Session, admin: User, parts: Parts) -> None:
    real = cli_benchmark.sleep

    def work(seconds: float) -> None:
        session.execute(update(Document).values(deleted_at=func.now()))
        session.commit()
        real(seconds)

    cli_benchmark.sleep = work
    status, _, err = command("--tiers", "S", "--modes", "sync", "--jobs", "1", "--repetitions", "1")
    assert status == 1
    assert "were refused. There is no such document of yours." in err


def test_the_command_says_what_it_does_not_take(command: Any, session: Session, admin: User) -> None:
    assert "tiers: There is no tier XL" in command("--tiers", "XL")[2]
    assert "email: There is no admin bob@example.org." in command("--email", "bob@example.org")[2]
    make_user(session, "second@example.org", role="admin")
    assert "Say which admin" in command("--tiers", "S")[2]
    assert session.scalar(select(func.count()).select_from(BenchmarkRun)) == 0
