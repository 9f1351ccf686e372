"""The steps of a window: leases, exactly one provider batch, and the end of the sum."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tests.crowd import crowd
from tests.factories import (
    answer_step,
    batch_object,
    end_batch,
    items_of,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    output_line,
    response,
    take_lease,
)  # fmt: skip
from tests.fakes import FakeProviderFiles
from webapp.domain.answers import read_answer, transport_error
from webapp.domain.errors import StaleLease, UnavailableService
from webapp.domain.states import ItemOutcome, JobStatus, WindowStatus
from webapp.domain.windows import MOST_CREATE_REFUSALS, MOST_DENIALS, Step
from webapp.models import BatchWindow, Job, JobResult, LedgerEntry, Queue, StrayBatch, WindowEvent
from webapp.parts import Parts
from webapp.services import batch_files, batch_ingest, batches, deadlines, doctor, windows
from webapp.services.clock import clock


@pytest.fixture
def window(session: Session, parts: Parts) -> BatchWindow:
    return make_window(session, parts, make_user(session))


@pytest.fixture
def submitted(session: Session, parts: Parts) -> BatchWindow:
    return make_submitted_window(session, parts, make_user(session))


def upload(session: Session, parts: Parts, window: BatchWindow) -> None:
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)


def let_time_pass(session: Session, window: BatchWindow, seconds: int) -> None:
    moved = {
        name: getattr(BatchWindow, name) - timedelta(seconds=seconds)
        for name in ("due_at", "lease_until", "create_lease_until", "create_offered_at")
    }
    session.execute(update(BatchWindow).where(BatchWindow.id == window.id).values(**moved))
    session.commit()


def ingest(session: Session, parts: Parts, lease: windows.Lease) -> dict[str, int]:
    return batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=lease.window.id, token=lease.token
    )


def statuses(session: Session) -> list[str]:
    session.expire_all()
    return [status.value for status in session.scalars(select(Job.status).order_by(Job.id))]


def test_a_leased_window_is_not_leased_again(session: Session, parts: Parts, window: BatchWindow) -> None:
    take_lease(session, parts, Step.UPLOAD_INPUT)
    assert windows.lease_due_window(session, parts.settings) is None


def test_a_lease_that_ended_is_given_again_and_the_old_token_is_stale(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    old = take_lease(session, parts, Step.UPLOAD_INPUT)
    old_token = old.token
    let_time_pass(session, window, 200)
    take_lease(session, parts, Step.UPLOAD_INPUT)
    with pytest.raises(StaleLease):
        batch_files.upload_input(session, parts.files, window_id=window.id, token=old_token)


def test_the_input_file_has_one_line_for_each_job_in_order(
    session: Session, parts: Parts, window: BatchWindow, files: FakeProviderFiles
) -> None:
    upload(session, parts, window)
    lines = [json.loads(line) for line in files.contents["file-1"].splitlines()]
    assert [line["custom_id"] for line in lines] == [item.custom_id for item in items_of(session, window)]
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/responses")}
    assert lines[0]["body"]["input"][0]["content"].startswith("Sluices let water through.")


def test_a_losing_upload_is_deleted_at_the_provider(
    session: Session, parts: Parts, window: BatchWindow, files: FakeProviderFiles
) -> None:
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    files.before_upload_ends = lambda: let_time_pass(session, window, 200)
    with pytest.raises(StaleLease):
        batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)
    assert files.deleted == ["file-1"]


def test_create_is_asked_for_once_and_its_answer_submits_the_window(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    upload(session, parts, window)
    lease = take_lease(session, parts, Step.CREATE)
    assert lease.request == {
        "method": "POST", "url": "https://api.openai.com/v1/batches",
        "body": {"input_file_id": "file-1", "endpoint": "/v1/responses", "completion_window": "24h",
                 "metadata": {"sluice": "http://127.0.0.1:8000", "sluice_window": str(window.id)}},
    }  # fmt: skip
    answer_step(session, parts, lease, batch_object(window, "validating"))
    session.refresh(window)
    assert (window.status, window.provider_batch_id) == (WindowStatus.SUBMITTED, f"batch_{window.id}")
    assert statuses(session) == ["processing"] * 3


@pytest.mark.parametrize("status", [400, 401, 429])
def test_a_definite_refusal_offers_create_again_after_a_back_off(
    session: Session, parts: Parts, window: BatchWindow, status: int
) -> None:
    upload(session, parts, window)
    lease = take_lease(session, parts, Step.CREATE)
    answer_step(session, parts, lease, {"error": {"message": "no"}}, status)
    assert windows.lease_due_window(session, parts.settings) is None
    let_time_pass(session, window, 60)
    take_lease(session, parts, Step.CREATE)


@pytest.mark.parametrize("status", [408, 500, 502])
def test_an_unknown_outcome_is_looked_for_and_never_created_again(
    session: Session, parts: Parts, window: BatchWindow, status: int
) -> None:
    upload(session, parts, window)
    answer_step(session, parts, take_lease(session, parts, Step.CREATE), {"error": {"message": "?"}}, status)
    lease = take_lease(session, parts, Step.FIND)
    ours = batch_object(window, "in_progress")
    answer_step(session, parts, lease, {"object": "list", "data": [ours], "has_more": False})
    session.refresh(window)
    assert window.provider_batch_id == ours["id"]


def test_a_dead_execution_after_create_comes_back_as_find(session: Session, parts: Parts, window: BatchWindow) -> None:
    upload(session, parts, window)
    take_lease(session, parts, Step.CREATE)
    let_time_pass(session, window, 130)
    lease = take_lease(session, parts, Step.FIND)
    assert lease.request == {"method": "GET", "url": "https://api.openai.com/v1/batches?limit=100"}


def test_find_reads_the_next_page(session: Session, parts: Parts, window: BatchWindow) -> None:
    upload(session, parts, window)
    lease = take_lease(session, parts, Step.CREATE)
    windows.apply_answer(
        session, parts.settings, parts.files, window_id=window.id, token=lease.token, step=Step.CREATE,
        answer=transport_error("socket hang up", "ECONNRESET"), body=None,
    )  # fmt: skip
    lease = take_lease(session, parts, Step.FIND)
    foreign = {"id": "batch_x", "status": "completed", "input_file_id": "file-x"}
    told = answer_step(session, parts, lease, {"object": "list", "data": [foreign], "has_more": True})
    assert told == {"again": {"after": "batch_x"}}
    lease = take_lease(session, parts, Step.FIND)
    assert (lease.request or {})["url"].endswith("/batches?limit=100&after=batch_x")


def test_a_create_that_was_lost_is_fenced_and_its_jobs_return(
    session: Session, parts: Parts, window: BatchWindow, files: FakeProviderFiles
) -> None:
    upload(session, parts, window)
    answer_step(session, parts, take_lease(session, parts, Step.CREATE), {}, 500)
    nothing: dict[str, Any] = {"object": "list", "data": [], "has_more": False}
    answer_step(session, parts, take_lease(session, parts, Step.FIND), nothing)
    let_time_pass(session, window, 130 + parts.settings.create_grace_seconds)
    answer_step(session, parts, take_lease(session, parts, Step.FIND), nothing)
    assert files.deleted == ["file-1"]
    assert statuses(session) == ["claimed"] * 3
    answer_step(session, parts, take_lease(session, parts, Step.FIND), nothing)
    session.refresh(window)
    assert (window.status, statuses(session)) == (WindowStatus.FAILED, ["queued"] * 3)
    assert session.scalars(select(Job.attempt)).all() == [1, 1, 1]


def test_a_stale_create_answer_is_kept_for_the_doctor(session: Session, parts: Parts, window: BatchWindow) -> None:
    upload(session, parts, window)
    lease = take_lease(session, parts, Step.CREATE)
    token = lease.token
    let_time_pass(session, window, 130)
    with pytest.raises(StaleLease):
        windows.apply_answer(
            session, parts.settings, parts.files, window_id=window.id, token=token, step=Step.CREATE,
            answer=transport_error("late"), body=batch_object(window, "validating"),
        )  # fmt: skip
    assert session.scalars(select(StrayBatch.provider_batch_id)).one() == f"batch_{window.id}"


def test_a_completed_batch_gives_each_job_its_own_result(
    session: Session, parts: Parts, submitted: BatchWindow
) -> None:
    lines = [output_line(item) for item in items_of(session, submitted)]
    lease = end_batch(session, parts, submitted, "completed", output=lines[::-1])
    assert ingest(session, parts, lease) == {"completed": 3}
    texts = {result.job_id: result.text for result in session.scalars(select(JobResult))}
    assert texts == {job_id: f"- Summary of job {job_id}." for job_id in texts}
    assert (statuses(session), len(texts)) == (["completed"] * 3, 3)
    assert session.scalar(select(func.sum(LedgerEntry.amount))) == Decimal("0.0003")


def test_ingest_reads_both_files_and_sends_back_what_may_be_tried_again(
    session: Session, parts: Parts, submitted: BatchWindow
) -> None:
    first, second, third = items_of(session, submitted)
    lease = end_batch(
        session, parts, submitted, "completed", output=[output_line(first)],
        error_lines=[output_line(second, {"error": {"message": "bad", "code": "x"}}, 400),
                     output_line(third, {"error": {"message": "busy"}}, 503)],
    )  # fmt: skip
    assert ingest(session, parts, lease) == {"completed": 1, "failed": 2}
    assert statuses(session) == ["completed", "failed", "queued"]
    assert session.get_one(Job, third.job_id).attempt == 2


def test_an_expired_batch_keeps_what_is_finished(session: Session, parts: Parts, submitted: BatchWindow) -> None:
    first, second, _ = items_of(session, submitted)
    expired = {"custom_id": second.custom_id, "response": None, "error": {"code": "batch_expired", "message": "late"}}
    lease = end_batch(session, parts, submitted, "expired", output=[output_line(first)], error_lines=[expired])
    assert ingest(session, parts, lease) == {"completed": 1, "expired": 2}
    assert statuses(session) == ["completed", "queued", "queued"]


def test_a_failed_validation_fails_the_named_line_and_frees_the_rest(
    session: Session, parts: Parts, submitted: BatchWindow
) -> None:
    error = {"code": "invalid", "message": "Line 2 is bad.", "param": None, "line": 2}
    lease = end_batch(session, parts, submitted, "failed", errors={"data": [error]})
    assert ingest(session, parts, lease) == {"failed": 1, "released": 2}
    assert statuses(session) == ["queued", "failed", "queued"]
    assert session.scalars(select(Job.attempt)).all() == [1, 1, 1]


def test_a_full_token_quota_pauses_the_queue(session: Session, parts: Parts, submitted: BatchWindow) -> None:
    error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}
    ingest(session, parts, end_batch(session, parts, submitted, "failed", errors={"data": [error]}))
    assert session.scalars(select(Queue.not_before)).one() is not None


def test_lines_that_are_not_ours_raise_attention(session: Session, parts: Parts, submitted: BatchWindow) -> None:
    lines = [output_line(item) for item in items_of(session, submitted)]
    stranger = lines[0] | {"custom_id": "somebody-else"}
    second_answer = output_line(items_of(session, submitted)[0], {"object": "response", "id": "resp_2"})
    ingest(session, parts, end_batch(session, parts, submitted, "completed", output=[*lines, stranger, second_answer]))
    session.refresh(submitted)
    assert "somebody-else is not ours" in (submitted.needs_attention or "")
    assert "two different answers" in (submitted.needs_attention or "")


def test_a_good_line_counts_more_than_an_error_before_it(
    session: Session, parts: Parts, submitted: BatchWindow
) -> None:
    first, *rest = items_of(session, submitted)
    error = output_line(first, {"error": {"message": "busy"}}, 503)
    lease = end_batch(
        session, parts, submitted, "completed", output=[output_line(item) for item in (first, *rest)],
        error_lines=[error],
    )  # fmt: skip
    assert ingest(session, parts, lease) == {"completed": 3}
    assert session.scalars(select(LedgerEntry.reason)).all() == ["answer"] * 3


def test_strange_characters_and_numbers_do_not_stop_a_window(
    session: Session, parts: Parts, submitted: BatchWindow
) -> None:
    first, second, third = items_of(session, submitted)
    lines = [
        {"custom_id": "a\x00b", "response": None, "error": {}},
        {"custom_id": first.custom_id, "response": None, "error": {"code": "x\x00", "message": "\ud800"}},
        output_line(second, status=2**40),
        output_line(third) | {"response": {"status_code": 200, "request_id": "r\x00", "body": response("ok\x00")}},
    ]
    odd = {"metadata": {"a": "\x00"}, "in_progress_at": 0, "completed_at": 2**60}
    lease = end_batch(session, parts, submitted, "completed", output=lines, **odd)
    assert ingest(session, parts, lease) == {"completed": 1, "failed": 2}


def test_find_begins_again_when_a_page_is_refused(session: Session, parts: Parts, window: BatchWindow) -> None:
    upload(session, parts, window)
    answer_step(session, parts, take_lease(session, parts, Step.CREATE), {}, 500)
    foreign = {"id": "batch_gone", "status": "completed", "input_file_id": "file-x"}
    page = {"object": "list", "data": [foreign], "has_more": True}
    answer_step(session, parts, take_lease(session, parts, Step.FIND), page)
    answer_step(session, parts, take_lease(session, parts, Step.FIND), {"error": {"message": "no such batch"}}, 404)
    session.refresh(window)
    assert window.find_after is None


def test_a_create_that_is_lost_ten_times_ends_its_jobs(session: Session, parts: Parts, window: BatchWindow) -> None:
    session.execute(update(Job).values(free_returns=9))
    session.commit()
    upload(session, parts, window)
    answer_step(session, parts, take_lease(session, parts, Step.CREATE), {}, 500)
    let_time_pass(session, window, 130 + parts.settings.create_grace_seconds)
    nothing: dict[str, Any] = {"object": "list", "data": [], "has_more": False}
    for _ in range(2):
        answer_step(session, parts, take_lease(session, parts, Step.FIND), nothing)
    assert statuses(session) == ["failed"] * 3


def test_ingesting_twice_changes_nothing(session: Session, parts: Parts, submitted: BatchWindow) -> None:
    """The step dies before the settling commit and is taken again."""
    lines = [output_line(item) for item in items_of(session, submitted)[:2]]
    lease = end_batch(session, parts, submitted, "completed", output=lines)
    run = batch_ingest.Ingest(
        session, parts.settings, parts.prices, submitted.id, lease.token, None, submitted.opened_at
    )
    batch_ingest._apply_chunk(run, [line for raw in lines if (line := batch_ingest.read_line(raw))])
    assert ingest(session, parts, lease) == {"completed": 2, "missing": 1}
    for table in (LedgerEntry, JobResult):
        assert session.scalar(select(func.count()).select_from(table)) == 2
    assert items_of(session, submitted)[2].outcome is ItemOutcome.MISSING
    assert statuses(session) == ["completed", "completed", JobStatus.QUEUED]


def test_a_create_that_is_refused_for_good_ends_the_window_with_the_providers_words(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    upload(session, parts, window)
    refused = {"error": {"message": "Invalid value: 'later' is no deployment.", "code": "invalid_value"}}
    for _ in range(MOST_CREATE_REFUSALS):
        let_time_pass(session, window, 400)
        answer_step(session, parts, take_lease(session, parts, Step.CREATE), refused, 400)
    session.refresh(window)
    assert (window.status, statuses(session)) == (WindowStatus.FAILED, ["queued"] * 3)
    assert "is no deployment" in (window.failure_message or "")


@pytest.mark.parametrize(
    ("status", "message"), [(401, "Incorrect API key"), (429, "Slow down"), (400, "token_limit_exceeded: 90K")]
)
def test_a_create_that_time_or_a_key_can_mend_waits_as_long_as_it_takes(
    session: Session, parts: Parts, window: BatchWindow, status: int, message: str
) -> None:
    upload(session, parts, window)
    for _ in range(MOST_CREATE_REFUSALS + 2):
        let_time_pass(session, window, 400)
        answer_step(session, parts, take_lease(session, parts, Step.CREATE), {"error": {"message": message}}, status)
    session.refresh(window)
    assert (window.status, window.problem) == (WindowStatus.OPEN, message)


def test_a_retry_after_is_kept(session: Session, parts: Parts, window: BatchWindow) -> None:
    upload(session, parts, window)
    lease = take_lease(session, parts, Step.CREATE)
    windows.apply_answer(
        session, parts.settings, parts.files, window_id=window.id, token=lease.token, step=Step.CREATE,
        answer=read_answer(429, {"error": {"message": "no"}}, {"retry-after": "900"}), body={},
    )  # fmt: skip
    let_time_pass(session, window, 890)
    assert windows.lease_due_window(session, parts.settings) is None
    let_time_pass(session, window, 20)
    take_lease(session, parts, Step.CREATE)


def test_an_upload_that_fails_comes_back_after_a_growing_wait(
    session: Session, parts: Parts, window: BatchWindow, files: FakeProviderFiles
) -> None:
    def fail() -> None:
        raise UnavailableService("The provider did not take the input file: 503")

    files.before_upload_ends = fail
    waits = []
    for _ in range(3):
        with pytest.raises(UnavailableService):
            upload(session, parts, window)
        session.refresh(window)
        waits.append((window.due_at - clock(session)).total_seconds())
        let_time_pass(session, window, 400)
    assert waits[0] < waits[1] < waits[2]
    assert (window.problems, window.problem) == (3, "The provider did not take the input file: 503")
    files.before_upload_ends = lambda: None
    upload(session, parts, window)
    session.refresh(window)
    assert (window.problems, window.problem) == (0, None)


def test_of_two_batches_for_one_file_the_oldest_is_ours_and_the_doctor_hears_of_the_other(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    upload(session, parts, window)
    answer_step(session, parts, take_lease(session, parts, Step.CREATE), {}, 500)
    session.refresh(window)
    ours = batch_object(window, "in_progress")
    page = {"object": "list", "data": [ours | {"id": "batch_twin"}, ours], "has_more": False}
    answer_step(session, parts, take_lease(session, parts, Step.FIND), page)
    session.refresh(window)
    assert window.provider_batch_id == ours["id"]
    assert session.scalars(select(StrayBatch.provider_batch_id)).all() == ["batch_twin"]


def test_a_fence_that_the_provider_refuses_is_put_up_later(
    session: Session, parts: Parts, window: BatchWindow, files: FakeProviderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise UnavailableService("The provider did not delete file-1: 503")

    upload(session, parts, window)
    answer_step(session, parts, take_lease(session, parts, Step.CREATE), {}, 500)
    let_time_pass(session, window, 130 + parts.settings.create_grace_seconds)
    nothing: dict[str, Any] = {"object": "list", "data": [], "has_more": False}
    monkeypatch.setattr(files, "delete", refuse)
    answer_step(session, parts, take_lease(session, parts, Step.FIND), nothing)
    session.refresh(window)
    assert (window.status, window.input_deleted_at) == (WindowStatus.OPEN, None)
    monkeypatch.undo()
    let_time_pass(session, window, 30)
    for _ in range(2):
        answer_step(session, parts, take_lease(session, parts, Step.FIND), nothing)
    session.refresh(window)
    assert (window.status, files.deleted) == (WindowStatus.FAILED, ["file-1"])


def test_a_batch_that_the_provider_denies_for_long_is_given_up(
    session: Session, parts: Parts, submitted: BatchWindow
) -> None:
    denial = {"error": {"message": "No batch found."}}
    for number in range(MOST_DENIALS):
        session.refresh(submitted)
        assert (submitted.provider_status, submitted.problems) == ("validating", number)
        let_time_pass(session, submitted, 4000)
        answer_step(session, parts, take_lease(session, parts, Step.POLL), denial, 404)
    assert ingest(session, parts, take_lease(session, parts, Step.INGEST)) == {"missing": 3}
    session.refresh(submitted)
    assert submitted.status is WindowStatus.FAILED
    assert f"no longer knows batch_{submitted.id}" in (submitted.needs_attention or "")
    assert session.scalars(select(LedgerEntry.reason)).all() == ["answer_lost"] * 3
    assert (statuses(session), doctor.examine(session, parts.settings)) == (["queued"] * 3, [])


def test_a_denial_that_passes_costs_nothing(session: Session, parts: Parts, submitted: BatchWindow) -> None:
    for _ in range(MOST_DENIALS - 1):
        let_time_pass(session, submitted, 4000)
        answer_step(session, parts, take_lease(session, parts, Step.POLL), {"error": {}}, 404)
    let_time_pass(session, submitted, 4000)
    session.refresh(submitted)
    answer_step(session, parts, take_lease(session, parts, Step.POLL), batch_object(submitted, "in_progress"))
    session.refresh(submitted)
    assert (submitted.problems, submitted.provider_status) == (0, "in_progress")


def test_jobs_of_several_windows_are_not_locked_against_the_order_of_others(session: Session, parts: Parts) -> None:
    """One process ends two cancelled windows, whose jobs lie between each other; another takes due jobs out."""
    tomorrow = clock(session) + timedelta(days=1)
    queue_id, (first, second, third, fourth) = make_queued_jobs(
        session, parts, make_user(session), 4, batchStrategy="deadline", needBy=tomorrow
    )
    for job_ids in ([first, fourth], [second, third]):
        batches.open_window(
            session, parts.settings, parts.profiles, queue_id=queue_id, job_ids=job_ids, actor="test"
        )  # fmt: skip
    session.execute(update(BatchWindow).values(cancel_requested_at=clock(session)))
    due = Job.id.in_([second, third, fourth])
    session.execute(update(Job).where(due).values(need_by=clock(session) + timedelta(minutes=1)))
    session.commit()
    session.execute(select(Job.id).where(Job.id == third).with_for_update())
    with crowd(session) as others:
        leaving = others.start(lambda own: deadlines.run_due_jobs_now(own, parts.settings))
        others.wait_until_blocked(1)  # it has the second job and waits for the third
        ending = others.start(windows.end_cancelled_unsent)
        others.wait_until_blocked(2)  # it has had the fourth job and waits for the second
        session.commit()
    assert (leaving.result(), ending.result()) == (3, 2)
    assert statuses(session) == ["queued", "created", "created", "created"]
    assert doctor.examine(session, parts.settings) == []


def test_two_who_end_cancelled_windows_at_once_end_each_once(session: Session, parts: Parts) -> None:
    for email in ("a@example.org", "b@example.org"):
        make_window(session, parts, make_user(session, email))
    session.execute(update(BatchWindow).values(cancel_requested_at=clock(session)))
    session.commit()
    first = session.scalars(select(Job.id).order_by(Job.id).limit(1).with_for_update()).one()
    with crowd(session) as others:
        held_up = others.start(windows.end_cancelled_unsent)
        others.wait_until_blocked(1)
        other = others.start(windows.end_cancelled_unsent)
        assert other.result() == 1  # the window that nobody is busy with
        session.commit()
    assert held_up.result() == 1
    assert first
    assert statuses(session) == ["queued"] * 6
    ends = select(func.count()).where(WindowEvent.event == "settled")
    assert session.scalar(ends) == 2
