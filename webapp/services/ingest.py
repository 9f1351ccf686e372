"""Apply answers to jobs: one from n8n (sync), or the files of a provider batch. Applied twice is applied once."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.answers import Answer
from webapp.domain.errors import InvalidMove, NotFound
from webapp.domain.outputs import output_fault
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import Output
from webapp.domain.states import TERMINAL_JOBS, ExecutionMode, JobStatus
from webapp.models import Job, JobAnswer, JobRequest, JobResult, ProfileVersion
from webapp.services import ledger, lifecycle
from webapp.services.bulk import copy_rows
from webapp.services.clock import NOW
from webapp.services.dispatch import give_up_attempt
from webapp.services.prepared import prepared

NEW_ANSWER = ("job_id", "attempt", "answer_key", "status_code", "request_id", "raw", "received_at")


_lock_answered = prepared(
    select(
        NOW, Job.id, Job.user_id, Job.profile_id, Job.status, Job.attempt, Job.created_at, Job.first_started_at,
        Job.started_at, JobRequest.model, ProfileVersion.document["output"].astext.label("output"),
    )
    .join(JobRequest, JobRequest.job_id == Job.id)
    .join(ProfileVersion, ProfileVersion.id == Job.profile_version_id)
    .where(Job.id == bindparam("job_id"))
    .with_for_update(of=Job)
)  # fmt: skip


def record_answer(
    session: Session, settings: Settings, prices: PriceList, *,
    job_id: int, attempt: int, execution_id: str, answer: Answer, raw: Any, elapsed_ms: int | None,
) -> str:  # fmt: skip
    """The write-back of a sync attempt. Commits. Returns what became of it:

    completed | failed | repeated (a new attempt follows) | ignored (an error of an earlier attempt) |
    unchanged (this answer was here before).
    Raises NotFound; InvalidMove when the job had ended otherwise (a paid answer is in the ledger all the same).
    """
    found = _lock_answered(session, job_id=job_id)
    if not found:
        raise NotFound
    [job] = found
    now = job.now
    if attempt > job.attempt or job.first_started_at is None:
        raise InvalidMove(f"Job {job_id} has not started attempt {attempt}.")
    if not _store_raw(session, job_id, attempt, answer, raw, now):
        session.commit()
        return "unchanged"
    if answer.is_good:  # one whose output is not what the profile promises is an error that was paid
        answer = output_fault(_read_output(job.output), answer)
    is_used = answer.is_good and job.status not in TERMINAL_JOBS
    _write_ledger(session, prices, job, attempt, answer, is_used=is_used, now=now)
    if job.status in TERMINAL_JOBS:
        session.commit()
        raise InvalidMove(f"Job {job_id} is {job.status}; this other answer was not used.")
    outcome = _apply(session, settings, job, attempt, execution_id, answer, elapsed_ms, now)
    session.commit()
    return outcome


def _apply(
    session: Session, settings: Settings, job: Any, attempt: int, execution_id: str, answer: Answer,
    elapsed_ms: int | None, now: datetime,
) -> str:  # fmt: skip
    actor = f"n8n:{execution_id}"
    if answer.is_good:
        if attempt < job.attempt and job.status == JobStatus.PROCESSING:
            ledger.record_lost_answer(session, job, now)  # the current attempt is under way and may be paid, too
        lifecycle.move_job(session, job.id, JobStatus.COMPLETED, now=now, actor=actor, reason="answered")
        _store_result(session, job, attempt, answer, elapsed_ms, now)
        return "completed"
    if attempt < job.attempt or job.status != JobStatus.PROCESSING:
        return "ignored"
    message = answer.error_message or "The provider did not answer."
    if answer.may_have_been_paid:
        ledger.record_lost_answer(session, job, now)
    if answer.is_retryable:
        status = give_up_attempt(
            session, settings, job, now=now, actor=actor, code=answer.error_code or "no_answer", message=message,
            retry_after_seconds=answer.retry_after_seconds,
        )  # fmt: skip
        return "repeated" if status is JobStatus.CREATED else "failed"
    lifecycle.move_job(
        session, job.id, JobStatus.FAILED, now=now, actor=actor, reason=message,
        values={"failure_code": answer.error_code, "failure_message": message},
    )  # fmt: skip
    return "failed"


_new_answer = prepared(
    insert(JobAnswer)
    .values({name: bindparam(name) for name in NEW_ANSWER})
    .on_conflict_do_nothing(index_elements=["job_id", "attempt", "answer_key"])
    .returning(JobAnswer.id)
)  # fmt: skip


@lru_cache
def _read_output(document: str) -> Output:
    """What a profile's version promises, which never changes: reading its schema costs as much as all the rest."""
    return Output.model_validate_json(document)


def _store_raw(session: Session, job_id: int, attempt: int, answer: Answer, raw: Any, now: datetime) -> bool:
    """Keep the answer as it came; False when it is here already."""
    return bool(_new_answer(
        session, job_id=job_id, attempt=attempt, answer_key=answer.key, status_code=answer.status_code,
        request_id=answer.request_id, raw=json.dumps(raw), received_at=now,
    ))  # fmt: skip


def _write_ledger(
    session: Session, prices: PriceList, job: Any, attempt: int, answer: Answer, *,
    is_used: bool, now: datetime,
) -> None:  # fmt: skip
    if not answer.is_billable:
        return
    reason = "answer" if is_used else "discarded" if answer.is_good else "refused"
    ledger.record(session, [ledger.entry(
        prices, answer, job_id=job.id, job=job, attempt=attempt, mode=ExecutionMode.SYNC,
        requested_model=job.model, reason=reason, now=now,
    )])  # fmt: skip


def _store_result(
    session: Session, job: Any, attempt: int, answer: Answer, elapsed_ms: int | None, now: datetime
) -> None:
    started = job.started_at or job.first_started_at or now
    source = "header" if answer.provider_ms is not None else "n8n" if elapsed_ms is not None else None
    row = result_row(job.id, attempt, answer, now) | {
        "provider_ms": answer.provider_ms if answer.provider_ms is not None else elapsed_ms,
        "provider_ms_source": source,
        "queue_ms": milliseconds(job.created_at, started),
        "total_ms": milliseconds(job.created_at, now),
    }
    copy_rows(session, JobResult, list(row), [tuple(row.values())])


def result_row(job_id: int, attempt: int, answer: Answer, now: datetime) -> dict[str, Any]:
    """The columns of job_results that an answer fills by itself."""
    usage = answer.usage
    return {
        "job_id": job_id, "attempt": attempt, "answer_key": answer.key, "text": answer.text, "is_cut": answer.is_cut,
        "model": answer.model, "created_at": now,
        "input_tokens": usage and usage.input_tokens, "cached_input_tokens": usage and usage.cached_input_tokens,
        "output_tokens": usage and usage.output_tokens, "reasoning_tokens": usage and usage.reasoning_tokens,
    }  # fmt: skip


def milliseconds(start: datetime, end: datetime) -> int:
    return max(round((end - start).total_seconds() * 1000), 0)
