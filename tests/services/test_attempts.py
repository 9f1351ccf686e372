"""The attempts of a job: starts and rides, how each ended, and what it cost."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import (
    end_batch,
    items_of,
    make_job,
    make_submitted_window,
    make_user,
    output_line,
    response,
)
from webapp.domain.answers import read_answer, transport_error
from webapp.models import Job, User
from webapp.parts import Parts
from webapp.services import batch_ingest, reporting
from webapp.services.attempts import Attempt, attempts_of
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


def run(session: Session, parts: Parts, job: Job, attempt: int, answer: object) -> None:
    start_attempt(session, parts.settings, job_id=job.id, attempt=attempt, execution_id=f"e{attempt}")
    record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=attempt, execution_id=f"e{attempt}",
        answer=answer, raw={"attempt": attempt}, elapsed_ms=5,  # type: ignore[arg-type]
    )  # fmt: skip


def found(session: Session, job: Job) -> list[Attempt]:
    session.refresh(job)
    return attempts_of(session, job, reporting.job_cost(session, job.id).entries)


def test_a_job_that_nobody_started_has_none(session: Session, parts: Parts, user: User) -> None:
    assert found(session, make_job(session, parts, user)) == []


def test_each_start_says_how_it_ended_and_what_it_cost(session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    run(session, parts, job, 1, read_answer(503, {"error": {"message": "Overloaded."}}))
    run(session, parts, job, 2, transport_error("The connection broke."))
    run(session, parts, job, 3, read_answer(200, response()))
    first, second, third = found(session, job)
    assert (first.number, first.outcome, first.why, first.entries) == (1, "given up", "Overloaded.", [])
    assert (second.outcome, second.amount, second.is_partly_unknown) == ("given up", None, True)
    assert (third.outcome, third.tokens, str(third.amount)) == ("answered", 1200, "0.000200000000")
    assert third.started_at <= third.ended_at  # type: ignore[operator]


def test_a_start_without_an_end_is_under_way(session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e1")
    [only] = found(session, job)
    assert (only.outcome, only.ended_at, only.tokens, only.amount) == ("under way", None, None, None)


def test_each_ride_names_its_window(session: Session, parts: Parts, user: User) -> None:
    window = make_submitted_window(session, parts, user, 3)
    good, bad, missing = items_of(session, window)
    lines = [output_line(good), output_line(bad, {"error": {"code": "x", "message": "Not so."}}, status=400)]
    lease = end_batch(session, parts, window, "completed", output=lines)
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    jobs = {job.id: job for job in session.scalars(select(Job))}
    [answered] = found(session, jobs[good.job_id])
    assert (answered.window_id, answered.outcome, answered.tokens) == (window.id, "answered", 1200)
    [failed] = found(session, jobs[bad.job_id])
    assert (failed.outcome, failed.why) == ("failed", "Not so.")
    [lost] = found(session, jobs[missing.job_id])
    assert (lost.outcome, lost.why) == ("lost", "The provider ended the batch and has no answer to it.")
