"""A restored backup: what the provider did since is looked for before anything is bought again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tests.factories import (
    answer_step,
    batch_object,
    make_job,
    make_jobs,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    take_lease,
)
from webapp.domain.batch_objects import BatchObject
from webapp.domain.errors import InsufficientJobs
from webapp.domain.states import JobStatus, WindowStatus
from webapp.domain.windows import Step
from webapp.models import BatchWindow, Job, Queue
from webapp.parts import Parts
from webapp.services import batch_files, batches, deadlines, doctor, windows
from webapp.services.clock import clock
from webapp.services.restored import IDS_APART, settle_restored


def make_uploaded_window(session: Session, parts: Parts) -> BatchWindow:
    """A window whose next step is create."""
    window = make_window(session, parts, make_user(session))
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)
    return window


def test_a_batch_that_was_made_after_the_backup_is_adopted_not_bought_again(session: Session, parts: Parts) -> None:
    window = make_uploaded_window(session, parts)
    assert settle_restored(session, parts.settings).searched == [window.id]
    lease = take_lease(session, parts, Step.FIND)
    answer_step(session, parts, lease, {"data": [batch_object(window, "in_progress")], "has_more": False})
    session.refresh(window)
    assert (window.status, window.provider_batch_id) == (WindowStatus.SUBMITTED, f"batch_{window.id}")


def test_without_that_the_same_window_would_make_a_second_batch(session: Session, parts: Parts) -> None:
    window = make_uploaded_window(session, parts)
    lease = windows.lease_due_window(session, parts.settings)
    assert lease is not None
    assert (lease.window.id, lease.step) == (window.id, Step.CREATE)


def test_a_window_that_may_have_been_bought_with_a_file_that_no_row_knows_gives_its_jobs_back(
    session: Session, parts: Parts
) -> None:
    window = make_window(session, parts, make_user(session))
    done = settle_restored(session, parts.settings)
    assert (done.ended, done.searched, done.held) == ([window.id], [], 1)
    assert windows.lease_due_window(session, parts.settings) is None  # no upload, no create
    session.expire_all()
    assert window.status is WindowStatus.CANCELLED
    assert {(job.status, job.free_returns) for job in session.scalars(select(Job))} == {(JobStatus.QUEUED, 0)}
    assert settle_restored(session, parts.settings).ended == []


def test_a_window_that_the_provider_is_known_to_have_goes_on(session: Session, parts: Parts) -> None:
    make_submitted_window(session, parts, make_user(session))
    done = settle_restored(session, parts.settings)
    assert (done.searched, done.ended) == ([], [])
    take_lease(session, parts, Step.POLL)


def test_a_hold_stops_no_deadline_and_their_jobs_are_counted(session: Session, parts: Parts) -> None:
    now = clock(session)
    user = make_user(session)
    make_window(session, parts, user, 2, batchStrategy="deadline", needBy=now + timedelta(days=2))
    make_jobs(session, parts, user, 1, executionMode="batch")
    assert settle_restored(session, parts.settings).due == 0
    session.execute(update(Job).where(Job.need_by.is_not(None)).values(need_by=now))
    session.commit()
    assert settle_restored(session, parts.settings).due == 2
    assert deadlines.run_due_jobs_now(session, parts.settings) == 2


def test_no_window_opens_before_somebody_has_looked(session: Session, parts: Parts) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, make_user(session), 3)
    assert settle_restored(session, parts.settings).held == 1
    with pytest.raises(InsufficientJobs, match="held"):
        batches.open_window(session, parts.settings, parts.profiles, queue_id=queue_id, job_ids=job_ids, actor="test")
    held_at = session.get_one(Queue, queue_id).held_at
    assert settle_restored(session, parts.settings).held == 0
    session.expire_all()
    assert session.get_one(Queue, queue_id).held_at == held_at


def test_new_ids_start_far_after_those_of_the_backup(session: Session, parts: Parts) -> None:
    user = make_user(session)
    last = make_job(session, parts, user).id
    assert settle_restored(session, parts.settings).unfinished == 1
    assert make_job(session, parts, user).id == last + IDS_APART + 1


def test_what_was_made_in_our_name_since_the_backup_is_stray(session: Session, parts: Parts) -> None:
    backup = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def made(batch_id: str, after: timedelta, **more: object) -> dict[str, object]:
        return {
            "id": batch_id, "input_file_id": f"file-{batch_id}", "status": "completed",
            "created_at": (backup + after).timestamp(), "metadata": mark, **more,
        }  # fmt: skip

    mark, minute = {"sluice": parts.settings.public_url, "sluice_window": "77"}, timedelta(minutes=1)
    provider = Provider(
        made("batch_since", minute), made("batch_before", -minute),
        made("batch_foreign", minute, metadata={"job": "nightly"}), made("batch_bare", minute, metadata=None),
        made("batch_of_production", minute, metadata=mark | {"sluice": "https://sluice.example"}),
        made("batch_unmarked", minute, metadata={"sluice_window": "78"}),
    )  # fmt: skip
    assert doctor.find_strays(session, parts.settings, provider) == []  # type: ignore[arg-type]
    strays = doctor.find_strays(session, parts.settings, provider, backup)  # type: ignore[arg-type]
    assert [(stray.provider_batch_id, stray.window_id, stray.is_ours) for stray in strays] == [
        ("batch_since", 77, True), ("batch_unmarked", 78, False),
    ]  # fmt: skip
    assert not any(stray.is_settled for stray in strays)


class Provider:
    """Its list of batches, newest first; nothing is listed without a moment."""

    def __init__(self, *batches: dict[str, object]) -> None:
        self._batches = batches

    def list_since(self, moment: datetime | None) -> list[BatchObject]:
        found = [batch for one in self._batches if (batch := BatchObject.read(one))]
        return found if moment else []
