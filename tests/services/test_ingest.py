"""Write-backs of sync attempts: first terminal write wins, a replay changes nothing, nothing paid is forgotten."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.factories import make_job, make_user, response
from webapp.domain.answers import Answer, read_answer, transport_error
from webapp.domain.errors import InvalidMove
from webapp.domain.states import JobStatus
from webapp.models import Job, JobAnswer, JobResult, LedgerEntry
from webapp.parts import Parts
from webapp.services import reporting
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer


@pytest.fixture
def job(session: Session, parts: Parts) -> Job:
    """A job that execution e1 has started."""
    job = make_job(session, parts, make_user(session))
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e1")
    return job


def write_back(session: Session, parts: Parts, job: Job, answer: Answer, attempt: int = 1) -> str:
    outcome = record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=attempt, execution_id=f"e{attempt}",
        answer=answer, raw={}, elapsed_ms=80,
    )  # fmt: skip
    session.refresh(job)
    return outcome


def good(text: str = "- A summary.", **headers: Any) -> Answer:
    return read_answer(200, response(text), headers)


def test_a_good_answer_completes_the_job_and_is_billed_at_list_price(session: Session, parts: Parts, job: Job) -> None:
    assert write_back(session, parts, job, good()) == "completed"
    result = session.get_one(JobResult, job.id)
    assert (job.status, result.text, result.output_tokens) == (JobStatus.COMPLETED, "- A summary.", 200)
    entry = session.scalars(select(LedgerEntry)).one()
    assert entry.amount == (1000 * Decimal("0.10") + 200 * Decimal("0.50")) / 1_000_000
    assert (entry.reason, entry.model) == ("answer", "gpt-6-luna")


def test_provider_latency_comes_from_the_header_else_from_n8n(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, good(**{"openai-processing-ms": "41"}))
    result = session.get_one(JobResult, job.id)
    assert (result.provider_ms, result.provider_ms_source) == (41, "header")


def test_without_the_header_n8n_s_own_measure_is_kept(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, good())
    result = session.get_one(JobResult, job.id)
    assert (result.provider_ms, result.provider_ms_source) == (80, "n8n")


def test_second_identical_write_back_changes_nothing(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, good())
    assert write_back(session, parts, job, good()) == "unchanged"
    for table in (LedgerEntry, JobResult, JobAnswer):
        assert session.scalar(select(func.count()).select_from(table)) == 1


def test_another_answer_after_the_end_is_a_conflict_but_not_forgotten(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, good())
    with pytest.raises(InvalidMove):
        write_back(session, parts, job, good("- Another."))
    assert session.get_one(JobResult, job.id).text == "- A summary."
    reasons = session.scalars(select(LedgerEntry.reason).order_by(LedgerEntry.id)).all()
    assert reasons == ["answer", "discarded"]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_retryable_error_gives_the_attempt_up(session: Session, parts: Parts, job: Job, status: int) -> None:
    assert write_back(session, parts, job, read_answer(status, {"error": {"message": "busy"}})) == "repeated"
    assert (job.status, job.attempt) == (JobStatus.CREATED, 2)
    assert session.scalar(select(func.count()).select_from(LedgerEntry)) == 0


def test_retry_after_sets_when_the_next_attempt_may_start(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, read_answer(429, {}, {"retry-after": "120"}))
    assert job.not_before is not None
    assert 115 < (job.not_before - job.first_started_at).total_seconds() < 130


@pytest.mark.parametrize(
    "answer",
    [
        read_answer(400, {"error": {"message": "bad request", "code": "invalid"}}),
        read_answer(429, {"error": {"message": "no money", "code": "insufficient_quota"}}),
        read_answer(200, response(output=[{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}])),
    ],
    ids=["400", "insufficient_quota", "refusal"],
)
def test_a_definite_no_fails_the_job(session: Session, parts: Parts, job: Job, answer: Answer) -> None:
    assert write_back(session, parts, job, answer) == "failed"
    assert job.failure_message == answer.error_message


def test_a_refusal_is_paid(session: Session, parts: Parts, job: Job) -> None:
    refusal = [{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]
    write_back(session, parts, job, read_answer(200, response(output=refusal)))
    entry = session.scalars(select(LedgerEntry)).one()
    assert (entry.reason, entry.output_tokens) == ("refused", 200)


def test_an_error_of_an_earlier_attempt_is_ignored(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, transport_error("time-out"))
    start_attempt(session, parts.settings, job_id=job.id, attempt=2, execution_id="e2")
    assert write_back(session, parts, job, transport_error("late time-out"), attempt=1) == "ignored"
    assert (job.status, job.attempt) == (JobStatus.PROCESSING, 2)


def test_a_good_answer_to_an_earlier_attempt_is_used(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, transport_error("time-out"))
    assert write_back(session, parts, job, good(), attempt=1) == "completed"
    assert (job.status, job.attempt) == (JobStatus.COMPLETED, 2)
    assert session.get_one(JobResult, job.id).attempt == 1


def test_the_answer_of_the_attempt_that_was_overtaken_is_paid_and_discarded(
    session: Session, parts: Parts, job: Job
) -> None:
    write_back(session, parts, job, transport_error("time-out"))
    start_attempt(session, parts.settings, job_id=job.id, attempt=2, execution_id="e2")
    write_back(session, parts, job, good(), attempt=1)
    with pytest.raises(InvalidMove):
        write_back(session, parts, job, good("- The second."), attempt=2)
    entries = session.execute(select(LedgerEntry.attempt, LedgerEntry.reason).order_by(LedgerEntry.id)).all()
    assert [tuple(entry) for entry in entries] == [
        (1, "answer_lost"), (1, "answer"), (2, "answer_lost"), (2, "discarded"),
    ]  # fmt: skip
    assert reporting.job_cost(session, job.id).unknown == 0


@pytest.mark.parametrize(("code", "entries"), [("ECONNREFUSED", 0), ("ETIMEDOUT", 1)])
def test_a_call_that_reached_the_provider_may_have_been_paid(
    session: Session, parts: Parts, job: Job, code: str, entries: int
) -> None:
    write_back(session, parts, job, transport_error("no answer", code))
    assert session.scalar(select(func.count()).where(LedgerEntry.reason == "answer_lost")) == entries


def test_absurd_counts_are_unknown_and_do_not_break_the_write_back(session: Session, parts: Parts, job: Job) -> None:
    usage = {"input_tokens": 2**53 - 1, "output_tokens": 1}
    assert write_back(session, parts, job, read_answer(200, response(usage=usage))) == "completed"
    assert session.scalars(select(LedgerEntry.amount)).one() is None


def test_missing_usage_is_unknown_and_not_zero(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, read_answer(200, response(usage=None)))
    entry = session.scalars(select(LedgerEntry)).one()
    assert (entry.amount, entry.input_tokens) == (None, None)


def test_a_model_without_a_price_is_billed_as_the_one_asked_for(session: Session, parts: Parts, job: Job) -> None:
    write_back(session, parts, job, read_answer(200, response(model="gpt-6-luna-2026-09-22")))
    assert session.scalars(select(LedgerEntry.model)).one() == "gpt-6-luna"
