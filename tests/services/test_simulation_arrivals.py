"""What the simulator reads of the past: arrivals, their costs, how long windows take; and what it cannot be asked."""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tests.factories import (
    end_batch,
    items_of,
    make_job,
    make_jobs,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    output_line,
    response,
)
from webapp.domain.answers import read_answer
from webapp.domain.errors import InvalidInput
from webapp.models import BatchWindow, Job, JobRequest, Queue
from webapp.parts import Parts
from webapp.services import batch_ingest, deadlines, dispatch, ingest, jobs, simulation
from webapp.services.clock import clock

PROFILE = "pdf_summary"


def read(session: Session, parts: Parts, **values: Any) -> tuple[dict[int, tuple[Decimal | None, Decimal | None]], str]:
    """({job id: (USD now, USD in a batch)}, the sentences)"""
    wish = simulation.read_wish({"profile": PROFILE, **values}, UTC)
    arrivals, notes = simulation.recorded_arrivals(session, parts.settings, parts.prices, wish, now=clock(session))
    return {arrival.key: (arrival.sync_cost, arrival.batch_cost) for arrival in arrivals}, " ".join(notes)


def answer_windows(session: Session, parts: Parts, count: int = 2) -> list[int]:
    """A window of `count` jobs that was answered: 1,000 tokens in and 200 out of each. Returns the jobs."""
    window = make_submitted_window(session, parts, make_user(session), count)
    items = items_of(session, window)
    lease = end_batch(session, parts, window, "completed", output=[output_line(item) for item in items])
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    return [item.job_id for item in items]


def test_what_the_ledger_knows_is_what_a_job_costs(session: Session, parts: Parts) -> None:
    ids = answer_windows(session, parts)
    costs, notes = read(session, parts)
    assert costs == dict.fromkeys(ids, (Decimal("0.0002"), Decimal("0.0001")))
    assert "2 from the ledger" in notes


def test_a_job_that_ran_now_is_priced_as_if_it_had_waited(session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session))
    dispatch.dispatch_due(session, parts.settings, parts.profiles, parts.n8n, only=[job.id])
    dispatch.start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e")
    ingest.record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=1, execution_id="e",
        answer=read_answer(200, response()), raw=response(), elapsed_ms=5,
    )  # fmt: skip
    assert read(session, parts)[0] == {}
    assert read(session, parts, every_job="y")[0] == {job.id: (Decimal("0.0002"), Decimal("0.0001"))}


def test_a_job_without_an_answer_costs_its_estimate_or_its_ceiling_or_nobody_knows(
    session: Session, parts: Parts
) -> None:
    _, ids = make_queued_jobs(session, parts, make_user(session), 3)
    tokens = {"estimated_input_tokens": 2000, "estimated_output_tokens": 400}
    session.execute(update(JobRequest).where(JobRequest.job_id == ids[0]).values(tokens))
    ceiling = {"most_input_tokens": 10_000, "max_output_tokens": 2000, "estimated_output_tokens": None}
    session.execute(update(JobRequest).where(JobRequest.job_id == ids[1]).values(ceiling))
    unknown = {"max_output_tokens": None, "estimated_output_tokens": None}
    session.execute(update(JobRequest).where(JobRequest.job_id == ids[2]).values(unknown))
    costs, notes = read(session, parts)
    assert [costs[id_] for id_ in ids] == [
        (Decimal("0.0004"), Decimal("0.0002")), (Decimal("0.002"), Decimal("0.001")), (None, None),
    ]  # fmt: skip
    assert "1 from the estimate at submit" in notes
    assert "1 counted high" in notes
    assert "1 unknown" in notes


def test_a_job_that_left_for_its_deadline_was_a_batch_job_and_a_cancelled_one_is_none(
    session: Session, parts: Parts
) -> None:
    user = make_user(session)
    values = {"executionMode": "batch", "batchStrategy": "deadline"}
    [left] = make_jobs(session, parts, user, 1, needBy=clock(session) + timedelta(minutes=5), **values)
    [rides] = make_jobs(session, parts, user, 1, needBy=clock(session) + timedelta(hours=5), **values)
    assert deadlines.run_due_jobs_now(session, parts.settings) == 1
    withdrawn, other = make_jobs(session, parts, user, 2, executionMode="batch", batchStrategy="count_only")
    jobs.cancel_job(session, session.get_one(Job, withdrawn), actor="test")
    assert list(read(session, parts)[0]) == [left, rides, other]
    [queue_id] = session.scalars(select(Queue.id).where(Queue.strategy == "deadline"))
    assert list(read(session, parts, profile=None, queue=queue_id)[0]) == [left, rides]


def test_the_period_counts_and_of_too_many_the_newest(session: Session, parts: Parts) -> None:
    now = clock(session)
    _, ids = make_queued_jobs(session, parts, make_user(session), 4)
    for days, id_ in enumerate(ids):
        session.execute(update(Job).where(Job.id == id_).values(created_at=now - timedelta(days=3 * days, hours=1)))
    assert list(read(session, parts)[0]) == [ids[2], ids[1], ids[0]]
    period = {"since": now - timedelta(days=10), "until": now - timedelta(days=1)}
    assert list(read(session, parts, **period)[0]) == [ids[3], ids[2], ids[1]]
    wish = simulation.Wish(profile=PROFILE, since=now - timedelta(days=30))
    arrivals, notes = simulation.recorded_arrivals(session, parts.settings, parts.prices, wish, now=now, most=2)
    assert [arrival.key for arrival in arrivals] == [ids[1], ids[0]]
    assert "There were more: these are the newest 2." in notes


def test_the_turnaround_is_the_median_of_the_windows_or_given_or_assumed(session: Session, parts: Parts) -> None:
    def said(**values: Any) -> str:
        wish = simulation.read_wish({"profile": PROFILE, **values}, UTC)
        return " ".join(simulation.run(session, parts.settings, parts.prices, wish).notes)

    assert "60 min after it opens (an assumption: no window has ended yet)" in said()
    answer_windows(session, parts)
    session.execute(update(BatchWindow).values(opened_at=BatchWindow.finished_at - timedelta(minutes=7)))
    assert "7 min after it opens (the median of 1 windows)" in said()
    assert "50.0 s after it opens (as given)" in said(turnaround="50")


def test_a_report_compares_the_policies_on_what_was_recorded(session: Session, parts: Parts) -> None:
    answer_windows(session, parts, 3)
    wish = simulation.read_wish({"profile": PROFILE, "sizes": "2,3", "waits": "600,60"}, UTC)
    found = simulation.run(session, parts.settings, parts.prices, wish).outcomes
    assert len(found) == 1 + 4 + 2 + 4  # for count_only there is no wait to choose
    assert [(row.jobs, row.cost) for row in found] == [(3, Decimal("0.0006")), *[(3, Decimal("0.0003"))] * 10]


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({}, "", "a profile, a queue, or a rate"),
        ({"rate": "many"}, "rate", "valid number"),
        ({"rate": "nan"}, "rate", "less than"),
        ({"rate": "1000", "hours": "1000"}, "hours", "1,000,000 jobs; 200,000 can be simulated here"),
        ({"rate": "1", "sizes": "10,x"}, "sizes", "x: this should be a valid integer"),
        ({"rate": "1", "sizes": ","}, "sizes", "Choose at least one."),
        ({"rate": "1", "sizes": "60000"}, "sizes", "60000: this should be less than"),
        ({"rate": "1", "sizes": ",".join(map(str, range(1, 50)))}, "sizes", "60 are enough"),
        ({"rate": "1", "strategies": "fifo"}, "strategies", "count_only"),
        ({"rate": "1", "pattern": "lunar"}, "pattern", "office"),
        ({"profile": "p\x00"}, "profile", "match"),
        ({"profile": "p", "since": "0001-01-01"}, "since", "too far away"),
        ({"profile": "p", "since": "2026-02-01", "until": "2026-01-01"}, "until", "after the beginning"),
    ],
)
def test_what_cannot_be_simulated_is_refused_on_its_field(values: dict[str, str], field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        simulation.read_wish(values, UTC)
    assert list(refused.value.errors) == [field]
    assert words in refused.value.errors[field]


def test_there_is_no_such_queue(session: Session, parts: Parts) -> None:
    with pytest.raises(InvalidInput, match="not right") as refused:
        read(session, parts, profile=None, queue="7")
    assert refused.value.errors == {"queue": "There is no queue 7."}
