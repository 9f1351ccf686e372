"""Sync runs up to the start: dispatch is repeated, start is exclusive, lost attempts are noticed."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tests.factories import make_job, make_jobs, make_user
from tests.fakes import FakeN8n
from webapp.domain.errors import InvalidMove, NotFound
from webapp.domain.states import JobStatus
from webapp.models import Job, JobEvent, LedgerEntry
from webapp.parts import Parts
from webapp.services.dispatch import CALLS_AT_ONCE, dispatch_due, end_overdue_attempts, end_overdue_jobs, start_attempt


def dispatch(session: Session, parts: Parts) -> int:
    return dispatch_due(session, parts.settings, parts.profiles, parts.n8n)


def start(session: Session, parts: Parts, job: Job, execution: str = "e1", attempt: int = 1) -> tuple[str, str]:
    return start_attempt(session, parts.settings, job_id=job.id, attempt=attempt, execution_id=execution)


def rewind(session: Session, job: Job, **seconds: int) -> None:
    """Move the job's own times back, as if so much time had passed."""
    moves = {name: getattr(Job, name) - timedelta(seconds=value) for name, value in seconds.items()}
    session.execute(update(Job).where(Job.id == job.id).values(**moves))
    session.commit()


def test_dispatch_sends_what_the_payload_map_asks_for(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    job = make_job(session, parts, make_user(session), bullets=4)
    dispatch(session, parts)
    [(path, payload)] = n8n.runs
    assert path == "jobs/run"
    own = f"http://127.0.0.1:8001/api/internal/jobs/{job.id}"
    assert payload == {
        "userId": job.user_id, "input": {"document": job.inputs["document"], "audience": "general", "bullets": 4},
        "executionMode": "sync", "batchStrategy": None, "jobId": job.id, "attempt": 1,
        "callback": {"start": f"{own}/start", "result": f"{own}/result"},
    }  # fmt: skip


def test_a_dispatched_job_is_sent_again_only_after_the_back_off(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    job = make_job(session, parts, make_user(session))
    assert [dispatch(session, parts), dispatch(session, parts)] == [1, 0]
    rewind(session, job, dispatched_at=parts.settings.dispatch_backoff_seconds)
    assert dispatch(session, parts) == 1
    assert len(n8n.runs) == 2


def test_a_job_waits_as_created_while_n8n_is_down(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    job = make_job(session, parts, make_user(session))
    n8n.is_down = True
    dispatch(session, parts)
    session.refresh(job)
    assert (job.status, job.attempt) == (JobStatus.CREATED, 1)


def test_no_more_than_the_limit_is_in_flight(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    make_jobs(session, parts, make_user(session), 5)
    few = parts.settings.model_copy(update={"max_sync_in_flight": 2})
    assert dispatch_due(session, few, parts.profiles, n8n) == 2
    assert dispatch_due(session, few, parts.profiles, n8n) == 0


def test_the_calls_that_n8n_takes_make_room_for_the_next(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    """All places are filled in one go, a few calls at a time."""
    make_jobs(session, parts, make_user(session), 3 * CALLS_AT_ONCE)
    assert dispatch_due(session, parts.settings, parts.profiles, n8n) == parts.settings.max_sync_in_flight
    assert len(n8n.runs) == parts.settings.max_sync_in_flight


def test_while_n8n_is_away_most_jobs_are_left_as_they_are(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    """Each call could last until its timeout."""
    make_jobs(session, parts, make_user(session), 4 * CALLS_AT_ONCE)
    many = parts.settings.model_copy(update={"max_sync_in_flight": 4 * CALLS_AT_ONCE})
    n8n.is_down = True
    assert dispatch_due(session, many, parts.profiles, n8n) <= CALLS_AT_ONCE
    assert session.scalar(select(func.count()).where(Job.dispatched_at.is_not(None))) == CALLS_AT_ONCE


def test_a_workflow_that_takes_nothing_does_not_starve_the_others(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    stuck = make_job(session, parts, make_user(session))
    few = parts.settings.model_copy(update={"max_sync_in_flight": 1})
    dispatch_due(session, few, parts.profiles, n8n)
    rewind(session, stuck, dispatched_at=few.dispatch_backoff_seconds)
    other = make_job(session, parts, stuck.user)
    dispatch_due(session, few, parts.profiles, n8n)
    assert [payload["jobId"] for _, payload in n8n.runs] == [stuck.id, other.id]


def test_no_attempt_starts_after_the_deadline(session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session))
    start(session, parts, job)
    rewind(session, job, lease_until=400)
    end_overdue_attempts(session, parts.settings)
    rewind(session, job, first_started_at=parts.settings.sync_deadline_seconds)
    assert end_overdue_jobs(session, parts.settings) == 1
    session.refresh(job)
    assert (job.status, job.failure_code) == (JobStatus.FAILED, "deadline")


def test_start_hands_out_the_stored_request(session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session), bullets=5)
    url, body = start(session, parts, job)
    assert url == "https://api.openai.com/v1/responses"
    assert json.loads(body)["instructions"].startswith("Summarise the document in exactly 5 bullets")
    session.refresh(job)
    assert (job.status, job.execution_id) == (JobStatus.PROCESSING, "e1")


def test_start_is_exclusive_and_repeatable_for_its_owner(session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session))
    first = start(session, parts, job, "e1")
    assert start(session, parts, job, "e1") == first
    with pytest.raises(InvalidMove):
        start(session, parts, job, "e2")
    assert session.scalar(select(func.count()).where(JobEvent.to_status == "processing")) == 1


def test_start_of_an_unknown_job_is_not_found(session: Session, parts: Parts) -> None:
    with pytest.raises(NotFound):
        start_attempt(session, parts.settings, job_id=999, attempt=1, execution_id="e")


def test_start_refuses_an_attempt_that_is_not_the_current_one(session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session))
    with pytest.raises(InvalidMove):
        start(session, parts, job, attempt=2)


def test_a_lease_that_ended_gives_the_attempt_up_and_notes_a_lost_answer(session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session))
    start(session, parts, job)
    rewind(session, job, lease_until=parts.settings.attempt_lease_seconds + 1)
    assert end_overdue_attempts(session, parts.settings) == 1
    session.refresh(job)
    assert (job.status, job.attempt, job.execution_id) == (JobStatus.CREATED, 2, None)
    entry = session.scalars(select(LedgerEntry)).one()
    assert (entry.reason, entry.amount, entry.attempt) == ("answer_lost", None, 1)


def test_the_last_attempt_fails_with_a_reason(session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session))
    for attempt in (1, 2, 3):
        start(session, parts, job, f"e{attempt}", attempt)
        rewind(session, job, lease_until=parts.settings.attempt_lease_seconds + 1)
        end_overdue_attempts(session, parts.settings)
    session.refresh(job)
    assert (job.status, job.failure_code) == (JobStatus.FAILED, "answer_lost")
    assert "tried 3 times" in (job.failure_message or "")


def test_the_sync_deadline_runs_from_the_first_start(session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session))
    start(session, parts, job)
    rewind(session, job, lease_until=400, first_started_at=parts.settings.sync_deadline_seconds)
    end_overdue_attempts(session, parts.settings)
    session.refresh(job)
    assert job.status is JobStatus.FAILED
