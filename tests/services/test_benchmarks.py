"""Benchmark runs: step after step through the ordinary path, whatever crashes or happens twice, and what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.orm import Session

from tests.factories import (
    end_batch,
    items_of,
    make_benchmark,
    make_document,
    make_jobs,
    make_queued_jobs,
    make_user,
    output_line,
    response,
    submit_window,
)
from webapp.domain.answers import read_answer
from webapp.domain.errors import InvalidInput, InvalidMove
from webapp.domain.profiles import load_profiles, parse_profile
from webapp.domain.states import ExecutionMode, JobStatus
from webapp.gateways.storage import LocalStorage
from webapp.models import (
    AuditEvent,
    BatchWindow,
    BenchmarkRun,
    BenchmarkSample,
    Budget,
    Document,
    Job,
    LedgerEntry,
    Queue,
    User,
)
from webapp.parts import Parts
from webapp.services import (
    batch_ingest,
    benchmark_charts,
    benchmark_exports,
    benchmark_figures,
    benchmark_plans,
    benchmarks,
    control,
)
from webapp.services.benchmark_charts import Chart
from webapp.services.benchmark_plans import Wish
from webapp.services.benchmarks import Step
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer
from webapp.services.registry import Profiles

SYNC, BATCH = ExecutionMode.SYNC, ExecutionMode.BATCH
WISH = Wish("pdf_summary", ["S"], [], ["sync", "batch"], 2, 1)
PROFILE = {
    "id": "own", "name": "Own", "request": {"endpoint": "/v1/responses", "body": {"model": "{{ model }}"}},
    "fields": [{"key": "document", "type": "document", "required": True, "accept": ["application/pdf"]}],
}  # fmt: skip


@pytest.fixture
def admin(session: Session) -> User:
    return make_user(session, "admin@example.org", role="admin")


def advance(session: Session, parts: Parts) -> None:
    benchmarks.advance(session, parts.settings, parts.profiles, parts.prices)
    session.expire_all()


def answer_sync(session: Session, parts: Parts, *job_ids: int) -> None:
    """n8n runs these jobs, or all that wait."""
    for job_id in job_ids or session.scalars(select(Job.id).where(Job.status == JobStatus.CREATED)).all():
        start_attempt(session, parts.settings, job_id=job_id, attempt=1, execution_id=f"e{job_id}")
        body = response(f"- Job {job_id}.")
        record_answer(
            session, parts.settings, parts.prices, job_id=job_id, attempt=1, execution_id=f"e{job_id}",
            answer=read_answer(200, body), raw=body, elapsed_ms=1,
        )  # fmt: skip


def answer_batch(session: Session, parts: Parts) -> None:
    """The provider completes the window that is open."""
    window = submit_window(session, parts, session.scalars(select(BatchWindow).filter_by(status="open")).one())
    lines = [output_line(item) for item in items_of(session, window)]
    lease = end_batch(session, parts, window, "completed", output=lines)
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )


def run_to_the_end(session: Session, parts: Parts, run_id: int) -> BenchmarkRun:
    for _ in range(20):
        advance(session, parts)
        if benchmarks.get_run(session, run_id).status != "running":
            break
        if session.scalar(select(func.count()).select_from(BatchWindow).filter_by(status="open")):
            answer_batch(session, parts)
        answer_sync(session, parts)
    return benchmarks.get_run(session, run_id)


def steps_taken(session: Session) -> list[tuple[int, str, str, int]]:
    """(repetition, mode, tier, jobs) in the order of the jobs."""
    sample = BenchmarkSample
    key = (sample.repetition, sample.execution_mode, sample.tier)
    rows = session.execute(select(*key, func.count()).group_by(*key).order_by(func.min(sample.job_id)))
    return [(repetition, mode.value, tier, count) for repetition, mode, tier, count in rows]


def job_ids(session: Session) -> list[int]:
    return list(session.scalars(select(Job.id).order_by(Job.id)))


# The way of a run


def test_a_run_goes_through_repetitions_modes_and_tiers_in_order(session: Session, parts: Parts, admin: User) -> None:
    run = run_to_the_end(session, parts, make_benchmark(session, parts, admin, "S", "M", repetitions=2))
    assert (run.status, run.problem) == ("completed", None)
    assert run.finished_at
    order = [(n, mode, tier, 2) for n in (1, 2) for mode in ("sync", "batch") for tier in ("S", "M")]
    assert steps_taken(session) == order
    assert session.scalar(select(func.count()).where(Job.status != JobStatus.COMPLETED)) == 0


def test_the_jobs_are_ordinary_ones_of_the_admin_who_started_it(session: Session, parts: Parts, admin: User) -> None:
    make_benchmark(session, parts, admin, modes=["batch"])
    advance(session, parts)
    queue = session.scalars(select(Queue)).one()
    assert (queue.profile_id, queue.strategy.value) == ("pdf_summary", "count_or_wait")
    jobs = session.scalars(select(Job)).all()
    assert {(job.user_id, job.queue_id, job.status.value) for job in jobs} == {(admin.id, queue.id, "queued")}


def test_a_step_waits_until_every_job_of_the_one_before_has_ended(session: Session, parts: Parts, admin: User) -> None:
    make_benchmark(session, parts, admin, repetitions=2)
    advance(session, parts)
    first, second = job_ids(session)
    answer_sync(session, parts, first)
    advance(session, parts)
    assert len(steps_taken(session)) == 1
    answer_sync(session, parts, second)
    advance(session, parts)
    assert steps_taken(session) == [(1, "sync", "S", 2), (1, "batch", "S", 2)]


def test_a_job_that_failed_has_ended_too(session: Session, parts: Parts, admin: User) -> None:
    make_benchmark(session, parts, admin)
    advance(session, parts)
    session.execute(update(Job).values({"status": "failed", "finished_at": datetime.now(UTC)}))
    session.commit()
    advance(session, parts)
    assert len(steps_taken(session)) == 2


def test_advancing_twice_makes_no_job_twice(session: Session, parts: Parts, admin: User) -> None:
    make_benchmark(session, parts, admin)
    for _ in range(3):
        advance(session, parts)
    assert len(job_ids(session)) == 2


def test_two_heartbeats_at_once_make_no_job_twice(session: Session, parts: Parts, admin: User, tables: Engine) -> None:
    for _ in range(5):
        make_benchmark(session, parts, admin, jobs_per_step=5)
    barrier = Barrier(4)

    def beat(_: int) -> None:
        with Session(tables) as own:
            barrier.wait()
            for _ in range(3):
                advance(own, parts)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(beat, range(4)))
    assert session.scalar(select(func.count()).select_from(Job)) == 25
    assert session.scalar(select(func.count()).select_from(BenchmarkSample)) == 25


def test_a_crash_before_the_samples_are_written_leaves_no_jobs(
    session: Session, parts: Parts, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("the power is gone")

    make_benchmark(session, parts, admin)
    with monkeypatch.context() as patch:
        patch.setattr(benchmarks, "insert", crash)
        with pytest.raises(RuntimeError):
            advance(session, parts)
    session.rollback()
    assert job_ids(session) == []
    advance(session, parts)
    assert steps_taken(session) == [(1, "sync", "S", 2)]


def test_what_is_deleted_meanwhile_ends_the_run_with_a_sentence(session: Session, parts: Parts, admin: User) -> None:
    run_id = make_benchmark(session, parts, admin)
    session.execute(update(Document).values(deleted_at=datetime.now(UTC)))
    session.commit()
    run = run_to_the_end(session, parts, run_id)
    assert (run.status, run.problem) == (
        "failed", "The jobs of repetition 1, now, tier S were refused. There is no such document of yours.",
    )  # fmt: skip


def test_a_budget_that_is_too_small_ends_the_run_with_a_sentence(session: Session, parts: Parts, admin: User) -> None:
    session.add(Budget(user_id=admin.id, monthly_amount=Decimal("0.000001")))
    session.commit()
    run = run_to_the_end(session, parts, make_benchmark(session, parts, admin))
    assert run.status == "failed"
    assert run.problem
    assert run.problem.startswith("The jobs of repetition 1, now, tier S were refused. This may cost up to $")
    assert job_ids(session) == []


def test_a_run_that_fails_does_not_keep_the_next_one_from_its_turn(session: Session, parts: Parts, admin: User) -> None:
    other = make_user(session, "other@example.org", role="admin")
    session.add(Budget(user_id=other.id, monthly_amount=Decimal(0)))
    make_benchmark(session, parts, other)
    make_benchmark(session, parts, admin)
    advance(session, parts)
    assert len(job_ids(session)) == 2


def test_a_run_that_breaks_does_not_keep_the_next_one_from_its_turn_either(
    session: Session, parts: Parts, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_user(session, "other@example.org", role="admin")
    make_benchmark(session, parts, other)
    make_benchmark(session, parts, admin)
    create_jobs = benchmarks.jobs.create_jobs

    def break_for_other(*arguments: Any, user: User, **more: Any) -> list[int]:
        if user.id == other.id:
            raise RuntimeError("a defect")
        return create_jobs(*arguments, user=user, **more)

    monkeypatch.setattr(benchmarks.jobs, "create_jobs", break_for_other)
    with pytest.raises(RuntimeError, match="a defect"):
        advance(session, parts)
    assert len(job_ids(session)) == 2


# In a batch


def test_a_step_that_does_not_fill_a_window_is_flushed(session: Session, parts: Parts, admin: User) -> None:
    make_benchmark(session, parts, admin, modes=["batch"])
    advance(session, parts)
    advance(session, parts)
    window = session.scalars(select(BatchWindow)).one()
    assert (window.job_count, window.opened_because) == (2, "flushed")
    deed = session.scalars(select(AuditEvent)).one()
    assert (deed.action, deed.reason, deed.user_id) == ("flush_queue", "benchmark run 1", admin.id)


def test_a_full_window_opens_by_itself(session: Session, parts: Parts, admin: User) -> None:
    make_benchmark(session, parts, admin, modes=["batch"], jobs_per_step=3)
    for _ in range(3):
        advance(session, parts)
    assert session.scalar(select(func.count()).select_from(BatchWindow)) == 0


def test_a_held_queue_is_left_alone(session: Session, parts: Parts, admin: User) -> None:
    run_id = make_benchmark(session, parts, admin, modes=["batch"])
    advance(session, parts)
    queue_id = session.scalars(select(Queue.id)).one()
    control.hold_queue(session, queue_id, user=admin, reason="an incident")
    advance(session, parts)
    assert session.scalar(select(func.count()).select_from(BatchWindow)) == 0
    waiting = benchmarks.progress(session, benchmarks.get_run(session, run_id)).waiting_for
    assert waiting
    assert waiting.queue_id == queue_id


# Cancelling


def test_cancelling_ends_what_nobody_has_started(session: Session, parts: Parts, admin: User) -> None:
    run_id = make_benchmark(session, parts, admin, repetitions=2)
    advance(session, parts)
    first, second = job_ids(session)
    start_attempt(session, parts.settings, job_id=first, attempt=1, execution_id="e1")
    assert benchmarks.cancel_run(session, run_id, user=admin, reason="enough seen") == 1
    session.expire_all()
    assert [session.get_one(Job, id_).status for id_ in (first, second)] == ["processing", "cancelled"]
    advance(session, parts)
    assert benchmarks.get_run(session, run_id).status == "cancelled"
    assert len(job_ids(session)) == 2
    deed = session.scalars(select(AuditEvent)).one()
    assert (deed.action, deed.target, deed.reason) == ("cancel_benchmark", f"benchmark:{run_id}", "enough seen")


def test_cancelling_needs_a_reason_and_a_run_that_goes_on(session: Session, parts: Parts, admin: User) -> None:
    run_id = make_benchmark(session, parts, admin)
    advance(session, parts)
    with pytest.raises(InvalidInput):
        benchmarks.cancel_run(session, run_id, user=admin, reason=" ")
    assert benchmarks.get_run(session, run_id).status == "running"
    assert session.get_one(Job, 1).status == "created"
    benchmarks.cancel_run(session, run_id, user=admin, reason="enough")
    with pytest.raises(InvalidMove, match="has ended"):
        benchmarks.cancel_run(session, run_id, user=admin, reason="again")


# Before it starts


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"profile_id": "text_classification"}, "profile", "needs one document"),
        ({"tiers": []}, "tiers", "Choose a tier"),
        ({"tiers": ["XL"]}, "tiers", "no tier XL"),
        ({"modes": []}, "modes", "Choose now"),
        ({"modes": ["later"]}, "modes", "Choose now"),
        ({"jobs_per_step": 0}, "jobs", "From 1 to 200."),
        ({"jobs_per_step": 201}, "jobs", "From 1 to 200."),
        ({"repetitions": 21}, "repetitions", "From 1 to 20."),
        ({"jobs_per_step": 200, "repetitions": 20}, "jobs", "8,000 jobs"),
        ({"note": "n" * 501}, "note", "500"),
    ],
)
def test_a_wish_that_is_not_right_is_refused_on_its_field(
    session: Session, parts: Parts, changes: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        benchmark_plans.check(parts.profiles, replace(WISH, **changes))
    assert list(refused.value.errors) == [field]
    assert message in refused.value.errors[field]


def profiles_of(tmp_path: Path, **changes: Any) -> Profiles:
    (tmp_path / "own.json").write_text(json.dumps(PROFILE | changes))
    return Profiles(load_profiles(tmp_path))


def test_only_profiles_that_need_one_document_and_nothing_else_are_offered(tmp_path: Path) -> None:
    text: dict[str, Any] = {"key": "text", "type": "text"}
    [document] = PROFILE["fields"]  # type: ignore[misc]
    for changes, is_suited in [
        ({}, True),
        ({"status": "planned"}, False),
        ({"fields": [text]}, False),
        ({"fields": [document, text]}, True),
        ({"fields": [document, text | {"required": True}]}, False),
        ({"fields": [document, document | {"key": "second"}]}, False),
        ({"fields": [document | {"required": False}]}, False),
    ]:
        found = benchmark_plans.suited(profiles_of(tmp_path, **changes))
        assert bool(found) == is_suited, changes


def test_a_profile_without_modes_runs_now_only(tmp_path: Path) -> None:
    profiles = profiles_of(tmp_path)
    benchmark_plans.check(profiles, replace(WISH, profile_id="own", modes=["sync"]))
    with pytest.raises(InvalidInput, match="not right") as refused:
        benchmark_plans.check(profiles, replace(WISH, profile_id="own"))
    assert refused.value.errors == {"modes": "“Own” does not run in a batch."}


def test_another_strategy_is_left_to_the_profile() -> None:
    strategies = {"key": "batchStrategy", "type": "select", "options": ["count_only"], "default": "count_only"}
    profile = parse_profile(json.dumps(PROFILE | {"fields": [*PROFILE["fields"], strategies]}), "own.json")
    assert benchmark_plans.job_values(profile, BATCH, 7) == {"document": 7}


def test_the_documents_of_tiers_are_stored_once_and_own_ones_are_called_by_their_names(
    session: Session, parts: Parts, admin: User
) -> None:
    own = [make_document(session, admin).id for _ in range(2)]

    def tiers() -> dict[str, int]:
        return benchmark_plans.tier_documents(
            session, parts.storage, parts.pdf, parts.files, user_id=admin.id, max_bytes=2**20,
            wish=replace(WISH, tiers=["S", "M"], documents=own),
        )  # fmt: skip

    found = tiers()
    assert list(found) == ["S", "M", "report.pdf", "report.pdf (2)"]
    assert [session.get_one(Document, id_).pages for id_ in found.values()] == [1, 6, 1, 1]
    assert isinstance(parts.storage, LocalStorage)
    assert tiers() == found
    stranger = make_user(session, "other@example.org")
    with pytest.raises(InvalidInput):
        benchmark_plans.tier_documents(
            session, parts.storage, parts.pdf, parts.files, user_id=stranger.id, max_bytes=2**20,
            wish=replace(WISH, tiers=[], documents=own),
        )  # fmt: skip


def test_the_forecast_is_that_of_every_job(session: Session, parts: Parts, admin: User) -> None:
    def forecast(**changes: Any) -> Decimal:
        tiers = {"S": make_document(session, admin).id}
        cost = benchmark_plans.forecast(
            session, parts.settings, parts.prices, parts.profiles, user=admin, wish=replace(WISH, **changes),
            tiers=tiers,
        )  # fmt: skip
        assert cost.ceiling
        return cost.ceiling

    now, batch = (forecast(modes=[mode], jobs_per_step=1) for mode in ("sync", "batch"))
    assert now == 2 * batch > 0
    assert forecast(jobs_per_step=20, repetitions=3) == 60 * (now + batch)


# What it says


def at(seconds: float) -> datetime:
    return datetime(2026, 11, 24, 12, tzinfo=UTC) + timedelta(seconds=seconds)


@pytest.fixture
def measured(session: Session, parts: Parts, admin: User) -> BenchmarkRun:
    """Two repetitions of three jobs of S and T now, and one of S in a batch, with times and costs made by hand."""
    run_id = make_benchmark(session, parts, admin, "S", "T", jobs_per_step=3, repetitions=2)
    times = {  # (repetition, mode, tier): (created, finished) of each job, in seconds
        (1, SYNC, "S"): [(0, 1), (0, 2), (0, 4)], (2, SYNC, "S"): [(100, 103), (100, 110), (100, None)],
        (1, SYNC, "T"): [(10, 30), (10, 50), (10, 70)], (1, BATCH, "S"): [(200, 500), (200, 500), (200, 500)],
    }  # fmt: skip
    for (repetition, mode, tier), spans in times.items():
        for job_id, (created, finished) in zip(
            make_jobs(session, parts, admin, 3, executionMode=mode), spans, strict=True
        ):
            status = (
                "processing" if finished is None else "failed" if (created, finished) == (100, 110) else "completed"
            )
            session.execute(
                update(Job).where(Job.id == job_id).values({
                    "created_at": at(created), "finished_at": None if finished is None else at(finished),
                    "status": status,
                })
            )  # fmt: skip
            session.execute(
                insert(BenchmarkSample).values(
                    job_id=job_id, run_id=run_id, repetition=repetition, execution_mode=mode, tier=tier
                )
            )
    session.commit()
    return benchmarks.get_run(session, run_id)


def bill(session: Session, job_id: int, amount: str | None, attempt: int = 1, key: str = "", **more: Any) -> None:
    job = session.get_one(Job, job_id)
    session.add(LedgerEntry(**{
        "job_id": job_id, "attempt": attempt, "answer_key": key or f"resp_{job_id}_{attempt}", "reason": "answer",
        "user_id": job.user_id, "profile_id": job.profile_id, "execution_mode": job.execution_mode,
        "answered_at": at(0), "recorded_at": at(0), "input_tokens": 1000, "cached_input_tokens": 100,
        "output_tokens": 200, "amount": amount and Decimal(amount), **more,
    }))  # fmt: skip
    session.commit()


def figures_of(session: Session, run: BenchmarkRun) -> dict[tuple[str | None, str | None], Any]:
    return {
        (one.mode and one.mode.value, one.tier): one for one in benchmark_figures.figures(session, run)
    }  # fmt: skip


def test_latencies_are_those_of_completed_jobs(session: Session, measured: BenchmarkRun) -> None:
    found = figures_of(session, measured)
    assert list(found) == [("sync", "S"), ("sync", "T"), ("sync", None), ("batch", "S"), ("batch", None), (None, None)]
    s = found["sync", "S"]
    assert (s.submitted, s.completed, s.failed, s.cancelled) == (6, 4, 1, 0)
    assert (s.mean, s.p50) == (2.5, 2.5)  # of 1, 2, 3 and 4
    assert s.p95 == pytest.approx(3.85)
    assert (found["batch", "S"].mean, found["sync", "T"].p50) == (300, 40)
    assert found[None, None].submitted == 12


def test_what_would_sum_up_a_single_line_is_left_out(session: Session, parts: Parts, admin: User) -> None:
    for changes, lines in [
        ({"modes": ["sync"]}, [("sync", "S")]),
        ({}, [("sync", "S"), ("batch", "S"), (None, None)]),
    ]:
        run = run_to_the_end(session, parts, make_benchmark(session, parts, admin, **changes))
        assert list(figures_of(session, run)) == lines


def test_total_time_is_summed_over_the_repetitions(session: Session, measured: BenchmarkRun) -> None:
    found = figures_of(session, measured)
    assert found["sync", "S"].seconds == 4 + 10
    assert found["sync", None].seconds == 14 + 60
    assert found[None, None].seconds == 74 + 300
    assert found["sync", "S"].jobs_per_minute == pytest.approx(4 / 14 * 60)
    assert found["batch", "S"].jobs_per_second == pytest.approx(0.01)


def test_costs_are_the_ledgers_and_what_is_unknown_is_counted(session: Session, measured: BenchmarkRun) -> None:
    ids = [one.job_id for one in benchmark_figures.samples(session, measured)]
    assert figures_of(session, measured)["sync", "S"].amount is None
    bill(session, ids[0], "0.01")
    bill(session, ids[1], "0.02")
    bill(session, ids[1], "0.04", attempt=2, reason="discarded")
    silent = {"input_tokens": None, "cached_input_tokens": None, "output_tokens": None}
    bill(session, ids[2], None, **silent)
    bill(session, ids[3], "0.08")
    bill(session, ids[3], None, key="lost", reason="answer_lost", **silent)  # settled by the answer that came
    s = figures_of(session, measured)["sync", "S"]
    assert (s.amount, s.unknown) == (Decimal("0.15"), 1)
    assert (s.input_tokens, s.cached_input_tokens, s.output_tokens) == (4000, 400, 800)
    assert s.cost_per_job == Decimal("0.05")  # of the three whose cost is known: 0.01, 0.06 and 0.08
    assert figures_of(session, measured)["sync", "T"].cost_per_job is None


def test_a_run_without_jobs_has_one_line_of_nothing(session: Session, parts: Parts, admin: User) -> None:
    run = benchmarks.get_run(session, make_benchmark(session, parts, admin))
    [nothing] = benchmark_figures.figures(session, run)
    assert (nothing.submitted, nothing.mean, nothing.amount, nothing.jobs_per_minute) == (0, None, None, None)
    assert benchmarks.progress(session, run) == benchmarks.Progress(4, 0, 0, None, 0, None)


def test_progress_names_the_step_and_what_it_waits_for(session: Session, measured: BenchmarkRun) -> None:
    found = benchmarks.progress(session, measured)
    assert (found.all_jobs, found.made, found.ended) == (24, 12, 11)
    assert (found.step, found.step_ended) == (Step(2, SYNC, "S"), 2)
    assert found.waiting_for
    assert found.waiting_for.status == "processing"


def test_the_points_of_repetitions_follow_one_another(session: Session, measured: BenchmarkRun) -> None:
    chart = benchmark_charts.chart(session, measured, Chart.JOBS_SYNC)
    assert chart["series"] == [
        {"label": "S", "x": [1, 2, 3, 4], "values": [1, 2, 4, 3]},
        {"label": "T", "x": [1, 2, 3], "values": [20, 40, 60]},
    ]  # fmt: skip


def test_the_points_of_a_single_tier_are_told_apart_by_repetition(session: Session, parts: Parts, admin: User) -> None:
    run_id = make_benchmark(session, parts, admin, modes=["sync"], repetitions=2)
    chart = benchmark_charts.chart(session, run_to_the_end(session, parts, run_id), Chart.JOBS_SYNC)
    assert [(one["label"], one["x"]) for one in chart["series"]] == [("Repetition 1", [1, 2]), ("Repetition 2", [3, 4])]


def test_charts_show_a_gap_where_nothing_was_measured(session: Session, measured: BenchmarkRun) -> None:
    bill(session, 1, "0.01")
    cost = benchmark_charts.chart(session, measured, Chart.COST)
    assert cost["x"]["values"] == ["S", "T"]
    assert cost["series"] == [{"label": "Now", "values": [0.01, None]}, {"label": "Batch", "values": [None, None]}]
    latency = benchmark_charts.chart(session, measured, Chart.LATENCY_BATCH)
    assert latency["series"][0] == {"label": "Mean", "values": [300.0, None]}


def test_downloads_say_the_same_as_the_page(session: Session, measured: BenchmarkRun) -> None:
    measured.tiers = [{"tier": "=cmd()", "documentId": 1}, {"tier": "T", "documentId": 2}]
    session.execute(update(BenchmarkSample).where(BenchmarkSample.tier == "S").values(tier="=cmd()"))
    bill(session, 1, "0.010000000001")
    summary, samples = benchmark_figures.figures(session, measured), benchmark_figures.samples(session, measured)
    whole = json.loads(json.dumps(benchmark_exports.as_json(measured, summary, samples)))
    assert whole["run"]["tiers"] == ["=cmd()", "T"]
    assert whole["summary"][0]["costUsd"] == "0.010000000001"
    assert len(whole["samples"]) == 12

    def lines(write: Callable[[Any, Any], None], rows: Any) -> list[str]:
        file = StringIO()
        write(rows, file)
        return file.getvalue().splitlines()

    assert lines(benchmark_exports.write_summary, summary)[1].startswith("sync,'=cmd(),6,4,1,0,14.0,2.5,2.5,3.8")
    assert lines(benchmark_exports.write_summary, summary)[-1].startswith("all,all,12,10,1,0,374.0,")
    first = "1,1,sync,'=cmd(),completed,2026-11-24T12:00:00+00:00,2026-11-24T12:00:01+00:00,1.0,1000,100,200,"
    assert lines(benchmark_exports.write_samples, samples)[1] == f"{first}0.010000000001,0"


def test_flush_takes_what_else_waits_in_the_queue(session: Session, parts: Parts, admin: User) -> None:
    """Said in the docs: they ride sooner, at the price of a batch."""
    make_queued_jobs(session, parts, make_user(session), 1, batchStrategy="count_or_wait")
    make_benchmark(session, parts, admin, modes=["batch"], jobs_per_step=1)
    advance(session, parts)
    advance(session, parts)
    assert session.scalars(select(BatchWindow)).one().job_count == 2
