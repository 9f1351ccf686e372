"""A restored backup: what the provider did since is looked for before anything is bought again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from tests.factories import (
    answer_step,
    batch_object,
    make_job,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    take_lease,
)
from webapp.domain.batch_objects import BatchObject
from webapp.domain.errors import InsufficientJobs
from webapp.domain.states import WindowStatus
from webapp.domain.windows import Step
from webapp.models import BatchWindow, Queue
from webapp.parts import Parts
from webapp.services import batch_files, batches, doctor
from webapp.services.restored import IDS_APART, settle_restored


def make_uploaded_window(session: Session, parts: Parts) -> BatchWindow:
    """A window whose next step is create."""
    window = make_window(session, parts, make_user(session))
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)
    return window


def test_a_batch_that_was_made_after_the_backup_is_adopted_not_bought_again(session: Session, parts: Parts) -> None:
    window = make_uploaded_window(session, parts)
    assert settle_restored(session).searched == [window.id]
    lease = take_lease(session, parts, Step.FIND)
    answer_step(session, parts, lease, {"data": [batch_object(window, "in_progress")], "has_more": False})
    session.refresh(window)
    assert (window.status, window.provider_batch_id) == (WindowStatus.SUBMITTED, f"batch_{window.id}")


def test_without_that_the_same_window_would_make_a_second_batch(session: Session, parts: Parts) -> None:
    make_uploaded_window(session, parts)
    take_lease(session, parts, Step.CREATE)


def test_windows_that_the_provider_cannot_have_or_is_known_to_have_go_on(session: Session, parts: Parts) -> None:
    make_submitted_window(session, parts, user := make_user(session))
    make_window(session, parts, user)
    assert settle_restored(session).searched == []


def test_no_window_opens_before_somebody_has_looked(session: Session, parts: Parts) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, make_user(session), 3)
    assert settle_restored(session).held == 1
    with pytest.raises(InsufficientJobs, match="held"):
        batches.open_window(session, parts.settings, parts.profiles, queue_id=queue_id, job_ids=job_ids, actor="test")
    held_at = session.get_one(Queue, queue_id).held_at
    assert settle_restored(session).held == 0
    session.expire_all()
    assert session.get_one(Queue, queue_id).held_at == held_at


def test_new_ids_start_far_after_those_of_the_backup(session: Session, parts: Parts) -> None:
    user = make_user(session)
    last = make_job(session, parts, user).id
    assert settle_restored(session).unfinished == 1
    assert make_job(session, parts, user).id == last + IDS_APART + 1


def test_what_was_made_in_our_name_since_the_backup_is_stray(session: Session, parts: Parts) -> None:
    backup = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def made(batch_id: str, after: timedelta, **more: object) -> dict[str, object]:
        return {
            "id": batch_id, "input_file_id": f"file-{batch_id}", "status": "completed",
            "created_at": (backup + after).timestamp(), "metadata": {"sluice_window": "77"}, **more,
        }  # fmt: skip

    minute = timedelta(minutes=1)
    provider = Provider(
        made("batch_since", minute), made("batch_before", -minute),
        made("batch_foreign", minute, metadata={"job": "nightly"}), made("batch_bare", minute, metadata=None),
    )  # fmt: skip
    assert doctor.find_strays(session, provider) == []  # type: ignore[arg-type]
    [stray] = doctor.find_strays(session, provider, backup)  # type: ignore[arg-type]
    assert (stray.provider_batch_id, stray.window_id, stray.is_settled) == ("batch_since", 77, False)


class Provider:
    """Its list of batches, newest first; nothing is listed without a moment."""

    def __init__(self, *batches: dict[str, object]) -> None:
        self._batches = batches

    def list_since(self, moment: datetime | None) -> list[BatchObject]:
        found = [batch for one in self._batches if (batch := BatchObject.read(one))]
        return found if moment else []
