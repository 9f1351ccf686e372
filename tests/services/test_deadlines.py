"""Strategy deadline: the most urgent first, cancelled in time, and what is not back runs now."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.factories import (
    answer_step,
    batch_object,
    end_batch,
    items_of,
    make_document,
    make_user,
    output_line,
    response,
    take_lease,
)
from webapp.domain.answers import read_answer
from webapp.domain.errors import InsufficientJobs, InvalidInput
from webapp.domain.states import ExecutionMode, ItemOutcome, JobStatus, WindowStatus
from webapp.domain.windows import Step
from webapp.models import BatchWindow, Job, JobRequest, JobResult, LedgerEntry, Queue, User
from webapp.parts import Parts
from webapp.services import batch_files, batch_ingest, batches, control, deadlines, doctor, ingest, jobs, windows
from webapp.services.clock import clock, move_clock
from webapp.services.dispatch import dispatch_due, start_attempt

HOUR = 3600


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


@pytest.fixture(autouse=True)
def _real_time_again(session: Session) -> Iterator[None]:
    yield
    session.rollback()
    move_clock(session, ahead=timedelta())


def make_due_jobs(session: Session, parts: Parts, user: User, *seconds: int) -> list[int]:
    """Batch jobs that are needed in so many seconds."""
    document, now = make_document(session, user), clock(session)
    return jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="pdf_summary",
        runs=[
            {"document": document.id, "executionMode": "batch", "batchStrategy": "deadline",
             "needBy": now + timedelta(seconds=more)}
            for more in seconds
        ],
    )  # fmt: skip


def open_window(session: Session, parts: Parts) -> BatchWindow:
    queue_id = session.scalars(select(Queue.id)).one()
    return batches.open_window(session, parts.settings, parts.profiles, queue_id=queue_id, actor="test")


def flush(session: Session, parts: Parts) -> BatchWindow:
    queue_id = session.scalars(select(Queue.id)).one()
    return batches.open_window(session, parts.settings, parts.profiles, queue_id=queue_id, flush=True, actor="test")


def submit(session: Session, parts: Parts, window: BatchWindow) -> None:
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)
    session.refresh(window)
    answer_step(session, parts, take_lease(session, parts, Step.CREATE), batch_object(window, "in_progress"))


def beat(session: Session, parts: Parts) -> int:
    deadlines.cut_off_windows(session)
    windows.end_cancelled_unsent(session)
    return deadlines.run_due_jobs_now(session, parts.settings)


def statuses(session: Session) -> list[str]:
    session.expire_all()
    return [status.value for status in session.scalars(select(Job.status).order_by(Job.id))]


def settle(session: Session, parts: Parts, lease: windows.Lease) -> dict[str, int]:
    return batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=lease.window.id, token=lease.token
    )


def answer_now(session: Session, parts: Parts, job_id: int, text: str = "- Now.") -> str:
    """n8n starts the job and brings its answer."""
    dispatch_due(session, parts.settings, parts.profiles, parts.n8n, only=[job_id])
    attempt = session.get_one(Job, job_id).attempt
    start_attempt(session, parts.settings, job_id=job_id, attempt=attempt, execution_id=f"e{job_id}")
    body = response(text, id=f"resp_now_{job_id}")
    return ingest.record_answer(
        session, parts.settings, parts.prices, job_id=job_id, attempt=attempt, execution_id=f"e{job_id}",
        answer=read_answer(200, body), raw=body, elapsed_ms=5,
    )  # fmt: skip


def test_the_most_urgent_jobs_are_claimed_first(session: Session, parts: Parts, user: User) -> None:
    ids = make_due_jobs(session, parts, user, 9 * HOUR, 5 * HOUR, 8 * HOUR, 6 * HOUR)
    window = open_window(session, parts)
    assert [item.job_id for item in items_of(session, window)] == [ids[1], ids[2], ids[3]]
    need_by = session.get_one(Job, ids[1]).need_by
    assert need_by is not None
    assert window.cut_off_at == need_by - timedelta(seconds=1800)


def test_a_job_that_is_too_near_its_deadline_for_a_window_runs_now(session: Session, parts: Parts, user: User) -> None:
    ids = make_due_jobs(session, parts, user, 2390)
    with pytest.raises(InsufficientJobs):
        flush(session, parts)
    assert beat(session, parts) == 1
    job = session.get_one(Job, ids[0])
    assert (job.status, job.execution_mode, job.queue_id, job.attempt) == (
        JobStatus.CREATED,
        ExecutionMode.SYNC,
        None,
        1,
    )
    assert answer_now(session, parts, job.id) == "completed"
    assert doctor.examine(session, parts.settings) == []


def test_a_job_past_its_last_ride_does_not_block_the_others(session: Session, parts: Parts, user: User) -> None:
    """While the heartbeat is silent nobody takes it out of the queue: the claim leaves it out, so must the policy."""
    _, *in_time = make_due_jobs(session, parts, user, 60, 36_000, 36_000)
    [view] = batches.list_queues(session, parts.settings, parts.profiles)
    assert (view.state.queued, view.readiness.reason) == (2, "short")
    assert {item.job_id for item in items_of(session, flush(session, parts))} == set(in_time)


def test_at_its_cut_off_a_window_is_cancelled_and_what_is_due_runs_now(
    session: Session, parts: Parts, user: User
) -> None:
    ids = make_due_jobs(session, parts, user, 2 * HOUR, 2 * HOUR, 9 * HOUR)
    window = open_window(session, parts)
    submit(session, parts, window)
    move_clock(session, ahead=timedelta(seconds=2 * HOUR - 1799))
    assert beat(session, parts) == 0
    answer_step(session, parts, take_lease(session, parts, Step.CANCEL), batch_object(window, "cancelling"))
    move_clock(session, ahead=timedelta(seconds=2 * HOUR - 1700))
    first = items_of(session, window)[0]
    lease = end_batch(session, parts, window, "cancelled", output=[output_line(first)])
    assert settle(session, parts, lease) == {"completed": 1, "released": 2}
    assert beat(session, parts) == 1
    assert statuses(session) == ["completed", "created", "queued"]
    assert answer_now(session, parts, ids[1]) == "completed"
    assert session.scalars(select(Queue.held_at)).one() is None
    assert doctor.examine(session, parts.settings) == []


def overdue_window(session: Session, parts: Parts, user: User) -> tuple[BatchWindow, list[int]]:
    """The provider does not cancel in time: two jobs left the window, one is not due."""
    ids = make_due_jobs(session, parts, user, 2 * HOUR, 2 * HOUR, 9 * HOUR)
    window = open_window(session, parts)
    submit(session, parts, window)
    move_clock(session, ahead=timedelta(seconds=2 * HOUR - 1199))
    assert beat(session, parts) == 2
    assert statuses(session) == ["created", "created", "processing"]
    answer_step(session, parts, take_lease(session, parts, Step.CANCEL), batch_object(window, "cancelling"))
    move_clock(session, ahead=timedelta(seconds=2 * HOUR - 1100))
    return window, ids


def test_what_the_provider_brings_after_the_last_call_is_extra(session: Session, parts: Parts, user: User) -> None:
    window, ids = overdue_window(session, parts, user)
    assert answer_now(session, parts, ids[0]) == "completed"
    lines = [output_line(item) for item in items_of(session, window)]
    assert settle(session, parts, end_batch(session, parts, window, "cancelled", output=lines)) == {"completed": 3}
    assert statuses(session) == ["completed", "completed", "completed"]
    reasons = session.execute(
        select(LedgerEntry.job_id, LedgerEntry.reason, LedgerEntry.execution_mode).order_by(LedgerEntry.id)
    ).all()
    assert [tuple(row) for row in reasons] == [
        (ids[0], "answer", ExecutionMode.SYNC), (ids[0], "discarded", ExecutionMode.BATCH),
        (ids[1], "answer", ExecutionMode.BATCH), (ids[2], "answer", ExecutionMode.BATCH),
    ]  # fmt: skip
    texts = dict(session.execute(select(JobResult.job_id, JobResult.text)).all())
    assert texts == {ids[0]: "- Now.", ids[1]: f"- Summary of job {ids[1]}.", ids[2]: f"- Summary of job {ids[2]}."}
    assert doctor.examine(session, parts.settings) == []


def test_a_late_line_that_wins_leaves_the_answer_under_way_as_lost_until_it_comes(
    session: Session, parts: Parts, user: User
) -> None:
    window, ids = overdue_window(session, parts, user)
    start_attempt(session, parts.settings, job_id=ids[0], attempt=2, execution_id="e1")
    line = output_line(items_of(session, window)[0])
    settle(session, parts, end_batch(session, parts, window, "cancelled", output=[line]))
    lost = select(func.count()).where(LedgerEntry.job_id == ids[0], LedgerEntry.reason == "answer_lost")
    assert (statuses(session)[0], session.scalar(lost)) == ("completed", 1)


def test_an_error_line_of_a_job_that_left_ends_nothing(session: Session, parts: Parts, user: User) -> None:
    window, ids = overdue_window(session, parts, user)
    refused = output_line(items_of(session, window)[0], {"error": {"message": "bad", "code": "x"}}, 400)
    settle(session, parts, end_batch(session, parts, window, "cancelled", error_lines=[refused]))
    assert items_of(session, window)[0].outcome is ItemOutcome.FAILED
    assert statuses(session) == ["created", "created", "queued"]
    assert answer_now(session, parts, ids[0]) == "completed"


def test_a_window_that_is_cut_off_before_the_provider_has_it_ends_at_once(
    session: Session, parts: Parts, user: User
) -> None:
    make_due_jobs(session, parts, user, 2 * HOUR, 2 * HOUR, 9 * HOUR)
    window = open_window(session, parts)
    move_clock(session, ahead=timedelta(seconds=2 * HOUR - 1799))
    assert beat(session, parts) == 2
    session.refresh(window)
    assert (window.status, statuses(session)) == (WindowStatus.CANCELLED, ["created", "created", "queued"])


def test_a_job_that_leaves_asks_the_model_of_sync(session: Session, parts: Parts, user: User, settings: Any) -> None:
    ids = make_due_jobs(session, parts, user, 1700)
    before = session.scalars(select(JobRequest.body)).one()
    deadlines.run_due_jobs_now(session, settings.model_copy(update={"sync_model": "gpt-6.1-terra"}))
    request = session.get_one(JobRequest, ids[0], populate_existing=True)
    assert before is not None
    assert json.loads(request.body or "") == json.loads(before) | {"model": "gpt-6.1-terra"}
    assert (request.model, request.body_bytes) == ("gpt-6.1-terra", len((request.body or "").encode()))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batchStrategy": "deadline"}, "needs to know by when"),
        ({"batchStrategy": "deadline", "needBy": "2020-01-01T00:00:00Z"}, "has passed"),
        ({"batchStrategy": "deadline", "needBy": "9999-12-31T23:59:59-12:00"}, "more than a year"),
        ({"batchStrategy": "count_only", "needBy": "2120-01-01T00:00:00Z"}, "Only the strategy “deadline”"),
    ],
)
def test_a_needed_by_that_makes_no_sense_is_refused_on_its_field(
    session: Session, parts: Parts, user: User, values: dict[str, str], words: str
) -> None:
    document = make_document(session, user)
    with pytest.raises(InvalidInput) as refused:
        jobs.create_jobs(
            session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="pdf_summary",
            runs=[{"document": document.id, "executionMode": "batch", **values}],
        )  # fmt: skip
    assert words in refused.value.errors["needBy"]


def test_a_run_that_runs_now_needs_no_deadline(session: Session, parts: Parts, user: User) -> None:
    document = make_document(session, user)
    [job_id] = jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="pdf_summary",
        runs=[{"document": document.id, "batchStrategy": "deadline", "needBy": "2120-01-01T00:00:00Z"}],
    )  # fmt: skip
    assert session.get_one(Job, job_id).need_by is None


def test_a_batch_that_is_found_after_the_last_call_leaves_the_jobs_that_left_alone(
    session: Session, parts: Parts, user: User
) -> None:
    """The create's answer was lost, and n8n was away until after the last call."""
    ids = make_due_jobs(session, parts, user, 2 * HOUR, 2 * HOUR, 9 * HOUR)
    window = open_window(session, parts)
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)
    take_lease(session, parts, Step.CREATE)
    move_clock(session, ahead=timedelta(seconds=2 * HOUR - 1199))
    assert beat(session, parts) == 2
    session.refresh(window)
    page = {"object": "list", "data": [batch_object(window, "in_progress")], "has_more": False}
    answer_step(session, parts, take_lease(session, parts, Step.FIND), page)
    assert statuses(session) == ["created", "created", "processing"]
    assert [answer_now(session, parts, job_id) for job_id in ids[:2]] == ["completed", "completed"]


def test_many_deadlines_in_a_row_use_up_nobodys_returns(session: Session, parts: Parts, user: User) -> None:
    """Twenty jobs, three minutes apart: each window is cut off for its first, and none of the others suffers."""
    make_due_jobs(session, parts, user, *(3 * HOUR + 180 * number for number in range(20)))
    settings = parts.settings.model_copy(update={"max_batch_size": 20, "max_wait_seconds": 60})
    parts = replace(parts, settings=settings)
    opened = 0
    for minute in range(0, 300, 2):
        move_clock(session, ahead=timedelta(minutes=minute))
        beat(session, parts)
        with contextlib.suppress(InsufficientJobs):
            open_window(session, parts)
            opened += 1
        while lease := windows.lease_due_window(session, parts.settings):
            windows.release_lease(lease.window, due_at=clock(session) + timedelta(days=1))
            lease.window.create_offered_at = None  # n8n is slow: the provider never has any of them
            session.commit()
    assert set(statuses(session)) == {"created"}
    assert 1 < opened < 10
    assert session.scalars(select(Job.free_returns)).all() == [0] * 20


def test_jobs_that_are_cancelled_with_their_window_do_not_run_now(session: Session, parts: Parts, user: User) -> None:
    make_due_jobs(session, parts, user, 2 * HOUR, 2 * HOUR, 9 * HOUR)
    window = open_window(session, parts)
    submit(session, parts, window)
    control.cancel_window(session, window.id, cancels_jobs=True, user=user, reason="wrong")
    move_clock(session, ahead=timedelta(seconds=2 * HOUR))
    assert beat(session, parts) == 0
    answer_step(session, parts, take_lease(session, parts, Step.CANCEL), batch_object(window, "cancelling"))
    move_clock(session, ahead=timedelta(seconds=2 * HOUR + 100))
    settle(session, parts, end_batch(session, parts, window, "cancelled"))
    assert statuses(session) == ["cancelled"] * 3
