"""What administrators do to queues, windows and jobs, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
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
    make_job,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    output_line,
    take_lease,
)
from tests.fakes import FakeProviderFiles
from tests.statements import heard
from webapp.domain.errors import InsufficientJobs, InvalidInput, InvalidMove, NotFound, StaleLease
from webapp.domain.states import JobStatus, WindowStatus
from webapp.domain.windows import Step
from webapp.models import AuditEvent, BatchWindow, Document, Job, JobEvent, JobRequest, Queue, User, WindowEvent
from webapp.parts import Parts
from webapp.services import batch_files, batch_ingest, batches, control, doctor, lifecycle, windows
from webapp.services.audit import list_audit
from webapp.services.clock import clock

WHY = "the provider has an incident"


@pytest.fixture
def admin(session: Session) -> User:
    return make_user(session, "admin@example.org", role="admin")


def statuses(session: Session) -> list[str]:
    session.expire_all()
    return [status.value for status in session.scalars(select(Job.status).order_by(Job.id))]


def open_window(session: Session, parts: Parts, queue_id: int) -> BatchWindow:
    return batches.open_window(session, parts.settings, parts.profiles, queue_id=queue_id, actor="n8n")


def cancel(session: Session, window: BatchWindow, admin: User, *, cancels_jobs: bool = False) -> None:
    control.cancel_window(session, window.id, cancels_jobs=cancels_jobs, user=admin, reason=WHY)
    session.refresh(window)


def ingest(session: Session, parts: Parts, lease: windows.Lease) -> dict[str, int]:
    return batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=lease.window.id, token=lease.token
    )


# Queues


def test_a_held_queue_opens_nothing_until_it_is_resumed(session: Session, parts: Parts, admin: User) -> None:
    queue_id, _ = make_queued_jobs(session, parts, admin, 3)
    control.hold_queue(session, queue_id, user=admin, reason=WHY)
    with pytest.raises(InsufficientJobs, match="held"):
        open_window(session, parts, queue_id)
    control.resume_queue(session, queue_id, user=admin, reason="it is over")
    assert open_window(session, parts, queue_id).job_count == 3


def test_a_queue_that_is_held_without_jobs_is_still_listed(session: Session, parts: Parts, admin: User) -> None:
    queue_id, _ = make_queued_jobs(session, parts, admin, 3)
    open_window(session, parts, queue_id)
    assert batches.list_queues(session, parts.settings, parts.profiles) == []
    control.hold_queue(session, queue_id, user=admin, reason=WHY)
    [view] = batches.list_queues(session, parts.settings, parts.profiles)
    assert (view.state.queued, view.readiness.reason) == (0, "held")


def test_flush_takes_what_waits_without_the_wait(session: Session, parts: Parts, admin: User) -> None:
    queue_id, _ = make_queued_jobs(session, parts, admin, 2)
    window = control.flush_queue(session, parts.settings, parts.profiles, queue_id, user=admin, reason=WHY)
    assert (window.job_count, window.opened_because) == (2, "flushed")
    assert statuses(session) == ["claimed", "claimed"]


def test_flush_of_an_empty_or_a_held_queue_changes_nothing_and_notes_nothing(
    session: Session, parts: Parts, admin: User
) -> None:
    queue_id, _ = make_queued_jobs(session, parts, admin, 3)
    open_window(session, parts, queue_id)
    with pytest.raises(InsufficientJobs):
        control.flush_queue(session, parts.settings, parts.profiles, queue_id, user=admin, reason=WHY)
    assert session.scalar(select(func.count()).select_from(AuditEvent)) == 0


def test_each_deed_is_kept_with_who_and_why(session: Session, parts: Parts, admin: User) -> None:
    queue_id, _ = make_queued_jobs(session, parts, admin, 3)
    control.hold_queue(session, queue_id, user=admin, reason=f"  {WHY}\n")
    [deed] = list_audit(session, target=f"queue:{queue_id}")
    assert (deed.action, deed.reason, deed.user.email) == ("hold_queue", WHY, "admin@example.org")


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 501])
def test_a_deed_without_a_proper_reason_is_not_done(session: Session, parts: Parts, admin: User, reason: str) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, admin, 3)
    window = make_window_of(session, parts, queue_id)
    deeds: list[Callable[[], Any]] = [
        lambda: control.hold_queue(session, queue_id, user=admin, reason=reason),
        lambda: control.cancel_window(session, window.id, cancels_jobs=True, user=admin, reason=reason),
    ]
    for deed in deeds:
        with pytest.raises(InvalidInput):
            deed()
    assert statuses(session) == ["claimed"] * len(job_ids)
    assert session.scalars(select(Queue.held_at)).one() is None


def make_window_of(session: Session, parts: Parts, queue_id: int) -> BatchWindow:
    return open_window(session, parts, queue_id)


# Cancel a window


@pytest.mark.parametrize("cancels_jobs", [False, True])
def test_a_window_without_a_create_ends_at_once(
    session: Session, parts: Parts, admin: User, *, cancels_jobs: bool
) -> None:
    window = make_window(session, parts, admin)
    cancel(session, window, admin, cancels_jobs=cancels_jobs)
    assert window.status is WindowStatus.CANCELLED
    assert statuses(session) == (["cancelled"] * 3 if cancels_jobs else ["queued"] * 3)
    assert (session.scalars(select(Queue.held_at)).one() is None) == cancels_jobs
    assert doctor.examine(session, parts.settings) == []


def test_an_upload_that_is_under_way_loses_its_lease_and_its_file(
    session: Session, parts: Parts, admin: User, files: FakeProviderFiles
) -> None:
    window = make_window(session, parts, admin)
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    token = lease.token
    files.before_upload_ends = lambda: cancel(session, window, admin)
    with pytest.raises(StaleLease):
        batch_files.upload_input(session, parts.files, window_id=window.id, token=token)
    assert files.deleted == ["file-1"]


def uploaded(session: Session, parts: Parts, window: BatchWindow) -> windows.Lease:
    """Its input file is there; returns the lease of create."""
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)
    return take_lease(session, parts, Step.CREATE)


def test_a_window_whose_create_is_out_waits_for_its_outcome(session: Session, parts: Parts, admin: User) -> None:
    window = make_window(session, parts, admin)
    lease = uploaded(session, parts, window)
    cancel(session, window, admin)
    assert window.status is WindowStatus.OPEN
    answer_step(session, parts, lease, {"error": {"message": "no"}}, 429)
    session.refresh(window)
    assert (window.status, statuses(session)) == (WindowStatus.CANCELLED, ["queued"] * 3)


def test_a_create_that_worked_is_cancelled_at_the_provider(session: Session, parts: Parts, admin: User) -> None:
    window = make_window(session, parts, admin)
    lease = uploaded(session, parts, window)
    cancel(session, window, admin)
    answer_step(session, parts, lease, batch_object(window, "validating"))
    lease = take_lease(session, parts, Step.CANCEL)
    assert (lease.request or {})["url"].endswith(f"/batches/batch_{window.id}/cancel")


@pytest.mark.parametrize("cancels_jobs", [False, True])
def test_what_the_provider_finished_before_the_cancel_counts(
    session: Session, parts: Parts, admin: User, *, cancels_jobs: bool
) -> None:
    window = make_submitted_window(session, parts, admin)
    cancel(session, window, admin, cancels_jobs=cancels_jobs)
    answer_step(session, parts, take_lease(session, parts, Step.CANCEL), batch_object(window, "cancelling"))
    window.due_at = clock(session)
    session.commit()
    first, *_ = items_of(session, window)
    counts = ingest(session, parts, end_batch(session, parts, window, "cancelled", output=[output_line(first)]))
    assert counts == {"completed": 1, "released": 2}
    rest = "cancelled" if cancels_jobs else "queued"
    assert statuses(session) == ["completed", rest, rest]
    assert doctor.examine(session, parts.settings) == []


def test_a_batch_that_ended_before_the_cancel_is_polled_at_once(session: Session, parts: Parts, admin: User) -> None:
    window = make_submitted_window(session, parts, admin)
    cancel(session, window, admin)
    lease = take_lease(session, parts, Step.CANCEL)
    answer_step(session, parts, lease, {"error": {"message": "Cannot cancel a batch with status 'completed'."}}, 409)
    assert take_lease(session, parts, Step.POLL).window.id == window.id


def test_an_ended_window_cannot_be_cancelled(session: Session, parts: Parts, admin: User) -> None:
    window = make_window(session, parts, admin)
    cancel(session, window, admin)
    with pytest.raises(InvalidMove, match="has ended"):
        cancel(session, window, admin)
    with pytest.raises(NotFound):
        control.cancel_window(session, 999, cancels_jobs=True, user=admin, reason=WHY)


def test_the_wish_can_be_sharpened_while_it_is_not_fulfilled(session: Session, parts: Parts, admin: User) -> None:
    window = make_submitted_window(session, parts, admin)
    cancel(session, window, admin)
    first_wish = window.cancel_requested_at
    cancel(session, window, admin, cancels_jobs=True)
    assert (window.cancel_requested_at, window.cancels_jobs) == (first_wish, True)
    events = session.scalars(select(WindowEvent.event).where(WindowEvent.event == "cancel_requested")).all()
    assert len(events) == 2


# Repeat


def fail(session: Session, job_id: int) -> None:
    lifecycle.move_job(
        session, job_id, JobStatus.FAILED, now=clock(session), actor="test", reason="no",
        values={"failure_code": "x", "failure_message": "No."},
    )  # fmt: skip
    session.commit()


def test_a_failed_job_is_repeated_as_a_new_one_with_the_same_request(
    session: Session, parts: Parts, admin: User
) -> None:
    job = make_job(session, parts, make_user(session), bullets=4)
    fail(session, job.id)
    repeated = session.get_one(Job, control.retry_job(session, job.id, user=admin, reason=WHY))
    assert (repeated.retry_of, repeated.user_id, repeated.status) == (job.id, job.user_id, JobStatus.CREATED)
    assert (repeated.attempt, repeated.inputs, repeated.profile_version_id) == (1, job.inputs, job.profile_version_id)
    bodies = session.scalars(select(JobRequest.body).order_by(JobRequest.job_id)).all()
    assert bodies[0] == bodies[1]
    assert [d.id for d in repeated.documents] == [d.id for d in job.documents]


def test_a_job_is_not_repeated_while_it_runs_or_is_being_repeated(session: Session, parts: Parts, admin: User) -> None:
    job = make_job(session, parts, admin)
    with pytest.raises(InvalidMove, match="only a job that ended without an answer"):
        control.retry_job(session, job.id, user=admin, reason=WHY)
    fail(session, job.id)
    control.retry_job(session, job.id, user=admin, reason=WHY)
    with pytest.raises(InvalidMove, match="Job 2 repeats it already"):
        control.retry_job(session, job.id, user=admin, reason=WHY)
    fail(session, 2)
    assert control.retry_job(session, job.id, user=admin, reason=WHY) == 3


def test_a_job_whose_request_is_gone_cannot_be_repeated(session: Session, parts: Parts, admin: User) -> None:
    job = make_job(session, parts, admin)
    fail(session, job.id)
    session.get_one(JobRequest, job.id).body = None
    session.commit()
    with pytest.raises(InvalidMove, match="start a new run"):
        control.retry_job(session, job.id, user=admin, reason=WHY)


def test_a_job_that_cannot_be_repeated_does_not_keep_its_window_from_it(
    session: Session, parts: Parts, admin: User
) -> None:
    window = make_submitted_window(session, parts, admin)
    refused = {"error": {"message": "bad", "code": "x"}}
    lines = [output_line(item, refused, 400) for item in items_of(session, window)]
    ingest(session, parts, end_batch(session, parts, window, "completed", error_lines=lines))
    first = items_of(session, window)[0].job_id
    session.get_one(JobRequest, first).body = None
    session.commit()
    repeated = control.retry_window(session, window.id, user=admin, reason=WHY)
    assert (len(repeated.new_ids), list(repeated.left_out)) == (2, [first])
    [deed] = list_audit(session, target=f"window:{window.id}")
    assert deed.detail == {"repeated": 2, "leftOut": [first]}
    with pytest.raises(InvalidMove, match="start a new run"):
        control.retry_window(session, window.id, user=admin, reason=WHY)


@pytest.mark.parametrize("status", [400, 404, 409])
def test_a_cancel_that_the_provider_refuses_is_followed_by_a_poll(
    session: Session, parts: Parts, admin: User, status: int
) -> None:
    window = make_submitted_window(session, parts, admin)
    cancel(session, window, admin)
    answer_step(session, parts, take_lease(session, parts, Step.CANCEL), {"error": {"message": "no"}}, status)
    assert take_lease(session, parts, Step.POLL).window.id == window.id


def test_what_failed_in_a_window_is_repeated_once(session: Session, parts: Parts, admin: User) -> None:
    window = make_submitted_window(session, parts, admin)
    first, second, third = items_of(session, window)
    refused = {"error": {"message": "bad", "code": "x"}}
    ingest(
        session, parts,
        end_batch(
            session, parts, window, "completed", output=[output_line(first)],
            error_lines=[output_line(second, refused, 400), output_line(third, refused, 400)],
        ),
    )  # fmt: skip
    new_ids = control.retry_window(session, window.id, user=admin, reason=WHY).new_ids
    assert [session.get_one(Job, new_id).retry_of for new_id in new_ids] == [second.job_id, third.job_id]
    assert statuses(session)[3:] == ["queued", "queued"]
    with pytest.raises(InvalidMove):
        control.retry_window(session, window.id, user=admin, reason=WHY)


def refuse_all(session: Session, parts: Parts, window: BatchWindow) -> list[int]:
    """The provider refuses every line; returns the failed jobs."""
    items = items_of(session, window)
    lines = [output_line(item, {"error": {"message": "bad", "code": "x"}}, 400) for item in items]
    ingest(session, parts, end_batch(session, parts, window, "completed", error_lines=lines))
    return [item.job_id for item in items]


def test_a_repeat_has_every_column_of_the_request_and_an_event(session: Session, parts: Parts, admin: User) -> None:
    window = make_submitted_window(session, parts, admin)
    failed = refuse_all(session, parts, window)
    told = {"file_pages": 3, "max_output_tokens": 700, "estimated_input_tokens": 11, "estimated_output_tokens": 12,
            "estimated_amount": Decimal("0.5"), "ceiling": Decimal("0.75")}  # fmt: skip
    session.execute(update(JobRequest).values(**told))
    session.commit()
    new_ids = control.retry_window(session, window.id, user=admin, reason=WHY).new_ids
    columns = [column for column in JobRequest.__table__.columns if column.name != "job_id"]
    for job_id, new_id in zip(failed, new_ids, strict=True):
        old, new = (session.execute(select(*columns).where(JobRequest.job_id == i)).one() for i in (job_id, new_id))
        assert old == new
        event = session.scalars(select(JobEvent).where(JobEvent.job_id == new_id)).one()
        assert (event.from_status, event.to_status, event.actor) == (None, "queued", f"user:{admin.id}")
        assert event.reason == f"job {job_id} is repeated"
        assert session.get_one(Job, new_id).queued_at == event.at
    assert doctor.examine(session, parts.settings) == []


def test_many_jobs_are_repeated_in_as_many_statements_as_few(session: Session, parts: Parts, admin: User) -> None:
    counts = []
    for count in (2, 9):
        sized = replace(parts, settings=parts.settings.model_copy(update={"max_batch_size": count}))
        window = make_submitted_window(session, sized, admin, count)
        refuse_all(session, sized, window)
        with heard() as said:
            assert len(control.retry_window(session, window.id, user=admin, reason=WHY).new_ids) == count
        counts.append(len(said))
    assert counts[0] == counts[1]


def test_a_job_whose_file_was_deleted_cannot_be_repeated(session: Session, parts: Parts, admin: User) -> None:
    job = make_job(session, parts, admin)
    fail(session, job.id)
    session.execute(update(Document).values(provider_file_id="file-9", deleted_at=clock(session)))
    session.commit()
    with pytest.raises(InvalidMove, match=r"needs report\.pdf, which was deleted"):
        control.retry_job(session, job.id, user=admin, reason=WHY)


def let_its_time_pass(session: Session, job_id: int) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(need_by=clock(session)))
    session.commit()


def make_due_window(session: Session, parts: Parts, admin: User) -> BatchWindow:
    tomorrow = clock(session) + timedelta(days=1)
    return make_submitted_window(session, parts, admin, batchStrategy="deadline", needBy=tomorrow)


def test_what_was_needed_by_a_time_that_has_passed_is_not_repeated(session: Session, parts: Parts, admin: User) -> None:
    """It would run at once, at the full price, although it was asked for in a batch."""
    first, second, _ = refuse_all(session, parts, make_due_window(session, parts, admin))
    let_its_time_pass(session, first)
    with pytest.raises(InvalidMove, match=f"time by which job {first} was needed has passed: start a new run"):
        control.retry_job(session, first, user=admin, reason=WHY)
    assert session.get_one(Job, control.retry_job(session, second, user=admin, reason=WHY)).status == "queued"


def test_a_job_that_left_its_batch_is_repeated_as_it_ran(session: Session, parts: Parts, admin: User) -> None:
    """Its page says that it runs now, so nobody is surprised; its deadline does not matter any more."""
    window = make_due_window(session, parts, admin)
    left = items_of(session, window)[0].job_id
    lifecycle.move_jobs_to_sync(session, [left], now=clock(session), actor="test", reason="due")
    fail(session, left)
    let_its_time_pass(session, left)
    assert session.get_one(Job, control.retry_job(session, left, user=admin, reason=WHY)).status == "created"


def test_of_a_window_what_is_too_late_is_left_out_and_counted(session: Session, parts: Parts, admin: User) -> None:
    window = make_due_window(session, parts, admin)
    first, second, third = refuse_all(session, parts, window)
    let_its_time_pass(session, second)
    repeated = control.retry_window(session, window.id, user=admin, reason=WHY)
    assert [session.get_one(Job, new_id).retry_of for new_id in repeated.new_ids] == [first, third]
    assert repeated.left_out == {
        second: f"The time by which job {second} was needed has passed: start a new run instead."
    }
    with pytest.raises(InvalidMove, match="start a new run"):
        control.retry_window(session, window.id, user=admin, reason=WHY)


# At the same time


def lock(session: Session, model: type[Job | User], row_id: int) -> None:
    session.execute(select(model.id).where(model.id == row_id).with_for_update())


def hold(session: Session, queue_id: int) -> None:
    control.hold_queue(session, queue_id, user=an_admin(session), reason=WHY)


def press_job(session: Session, job_id: int) -> int:
    return control.retry_job(session, job_id, user=an_admin(session), reason=WHY)


def press_window(session: Session, window_id: int) -> list[int]:
    return control.retry_window(session, window_id, user=an_admin(session), reason=WHY).new_ids


def an_admin(session: Session) -> User:
    """Each thread has its own: a session is for one thread."""
    return session.scalars(select(User)).one()


def end_of(deed: Future[Any]) -> Any:
    return deed.exception() or deed.result()


def test_an_opener_that_was_first_finishes_and_after_the_hold_nothing_opens(
    session: Session, parts: Parts, admin: User
) -> None:
    queue_id, _ = make_queued_jobs(session, parts, admin, 6)
    parts = replace(parts, settings=parts.settings.model_copy(update={"max_enqueued_tokens": 10**9}))
    model = session.scalars(select(Queue.model)).one()
    session.execute(select(func.pg_advisory_xact_lock(batches.MODEL_LOCK, func.hashtext(model))))
    with crowd(session) as others:
        opener = others.start(lambda own: open_window(own, parts, queue_id).job_count)
        others.wait_until_blocked(1)  # it has the queue's lock and waits for the model's
        holder = others.start(lambda own: hold(own, queue_id))
        others.wait_until_blocked(2)
        session.commit()
    assert (end_of(opener), end_of(holder)) == (3, None)
    with pytest.raises(InsufficientJobs, match="held"):
        open_window(session, parts, queue_id)


def test_an_opener_that_comes_during_a_hold_opens_nothing(session: Session, parts: Parts, admin: User) -> None:
    queue_id, _ = make_queued_jobs(session, parts, admin, 3)
    lock(session, User, admin.id)  # the audit names the administrator
    with crowd(session) as others:
        holder = others.start(lambda own: hold(own, queue_id))
        others.wait_until_blocked(1)
        opener = others.start(lambda own: open_window(own, parts, queue_id))
        others.wait_until_blocked(2)
        session.commit()
    assert end_of(holder) is None
    assert isinstance(end_of(opener), InsufficientJobs)
    assert "held" in str(end_of(opener))
    assert session.scalar(select(func.count()).select_from(BatchWindow)) == 0


def test_two_administrators_who_repeat_the_same_job_make_one_new_job(
    session: Session, parts: Parts, admin: User
) -> None:
    job = make_job(session, parts, admin)
    fail(session, job.id)
    job_id = job.id
    lock(session, Job, job_id)
    with crowd(session) as others:
        presses = [others.start(lambda own: press_job(own, job_id)) for _ in range(2)]
        others.wait_until_blocked(2)
        session.commit()
    [new_id] = session.scalars(select(Job.id).where(Job.retry_of == job_id))
    ends = [end_of(press) for press in presses]
    assert ends.count(new_id) == 1
    assert f"Job {new_id} repeats it already." in [str(end) for end in ends]


def test_a_job_and_its_window_repeated_at_once_repeat_each_job_once(
    session: Session, parts: Parts, admin: User
) -> None:
    window = make_submitted_window(session, parts, admin)
    window_id, failed = window.id, refuse_all(session, parts, window)
    lock(session, Job, failed[1])
    with crowd(session) as others:
        others.start(lambda own: press_job(own, failed[1]))
        others.start(lambda own: press_window(own, window_id))
        others.start(lambda own: press_window(own, window_id))
        others.wait_until_blocked(3)
        session.commit()
    repeats = session.scalars(select(Job.retry_of).where(Job.retry_of.is_not(None)).order_by(Job.retry_of)).all()
    assert repeats == failed
    assert doctor.examine(session, parts.settings) == []


def test_a_file_that_retention_is_deleting_is_not_used_again(session: Session, parts: Parts, admin: User) -> None:
    job = make_job(session, parts, admin)
    fail(session, job.id)
    job_id = job.id
    session.execute(update(Document).values(provider_file_id="file-9"))
    session.commit()
    session.execute(select(Document.id).with_for_update())
    session.execute(update(Document).values(deleted_at=clock(session)))
    with crowd(session) as others:
        press = others.start(lambda own: press_job(own, job_id))
        others.wait_until_blocked(1)
        session.commit()
    assert "which was deleted: start a new run" in str(end_of(press))
