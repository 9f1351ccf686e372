"""Each reason to wait has its sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from webapp.domain.policy import Deadlines, QueueState
from webapp.domain.states import BatchStrategy, JobStatus, WindowStatus
from webapp.domain.waiting import why_queue_waits, why_waiting, why_window_waits

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SOON = NOW + timedelta(minutes=5)


def show(moment: datetime) -> str:
    return moment.strftime("%H:%M")


def job(status: JobStatus, **columns: Any) -> Any:
    known = {"attempt": 1, "need_by": None, "dispatched_at": None, "not_before": None}
    return SimpleNamespace(status=status, **(known | columns))


def queue(**more: Any) -> QueueState:
    given = {
        "strategy": BatchStrategy.COUNT_ONLY, "queued": 7, "size": 20, "max_wait_seconds": 3600,
        "oldest_queued_at": NOW,
    }  # fmt: skip
    return QueueState(**(given | more))


def window(status: WindowStatus, **columns: Any) -> Any:
    known = dict.fromkeys(
        ("lease_step", "create_offered_at", "provider_status", "problem", "cancel_requested_at", "cut_off_at",
         "expires_at")
    )  # fmt: skip
    return SimpleNamespace(id=4, status=status, **(known | {"due_at": SOON} | columns))


def sentence(job: Any, queue: QueueState | None = None, window: Any = None) -> str:
    return why_waiting(job, queue, window, Deadlines(600, 1200), NOW, show)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "It waits for its turn: as many jobs as allowed are running now."),
        ({"dispatched_at": NOW}, "It was handed to n8n, which has not started it yet."),
        ({"not_before": SOON, "attempt": 2}, "The last attempt did not work; attempt 2 starts at 12:05."),
        (
            {"need_by": SOON},
            "Its deadline is near, so it left the batch. It waits for its turn: as many jobs as allowed are running"
            " now.",
        ),
    ],
)
def test_a_job_that_is_not_started(columns: dict[str, Any], words: str) -> None:
    assert sentence(job(JobStatus.CREATED, **columns)) == words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "7 of 20 jobs wait; a window opens when it is full."),
        (
            {"strategy": BatchStrategy.COUNT_OR_WAIT},
            "7 of 20 jobs wait; a window opens when it is full, or at 13:00.",
        ),
        (
            {"strategy": BatchStrategy.DEADLINE},
            "7 of 20 jobs wait; a window opens when it is full, or at 13:00.",
        ),
        ({"has_ridden": True}, "7 of 20 jobs wait; a window opens when it is full, or at 13:00."),
        (
            {"has_ridden": True, "oldest_queued_at": NOW - timedelta(hours=2)},
            "7 of 20 jobs wait; the wait is over, a window is about to open.",
        ),
        ({"queued": 20}, "A full window of 20 jobs is about to open."),
        ({"queued": 20, "is_held": True}, "20 of 20 jobs wait; an administrator holds this queue."),
        ({"queued": 50, "is_held": True}, "50 jobs wait for windows of 20; an administrator holds this queue."),
        ({"not_before": SOON}, "7 of 20 jobs wait; the provider asked for a pause until 12:05."),
        (
            {"has_room": False},
            "7 of 20 jobs wait; the provider has no room for more tokens of this model until another window ends.",
        ),
        ({"queued": 0, "oldest_queued_at": None}, "No job waits."),
    ],
)
def test_a_queue_that_opens_no_window(more: dict[str, Any], words: str) -> None:
    assert why_queue_waits(queue(**more), NOW, show) == words


def test_a_job_in_a_queue_says_what_its_queue_says_and_its_own_deadline() -> None:
    assert sentence(job(JobStatus.QUEUED), queue()) == "7 of 20 jobs wait; a window opens when it is full."
    with_deadline = sentence(job(JobStatus.QUEUED, need_by=NOW + timedelta(hours=2)), queue())
    assert with_deadline.endswith("It is needed by 14:00: if no window took it by 13:20, it runs then.")


OPEN, SUBMITTED = WindowStatus.OPEN, WindowStatus.SUBMITTED


@pytest.mark.parametrize(
    ("status", "columns", "words"),
    [
        (OPEN, {}, "Window 4 is being handed to the provider."),
        (OPEN, {"create_offered_at": NOW, "lease_step": "create"}, "Window 4 is being handed to the provider."),
        (
            OPEN, {"problem": "Busy"},
            "Window 4 could not be handed to the provider yet. Busy. It is tried again at 12:05.",
        ),
        (
            OPEN, {"problem": "Busy.", "due_at": NOW},
            "Window 4 could not be handed to the provider yet. Busy. It is tried again now.",
        ),
        (
            OPEN, {"create_offered_at": NOW},
            "It is not known yet whether the provider has window 4: its answer got lost.",
        ),
        (
            OPEN, {"create_offered_at": NOW, "cancel_requested_at": NOW},
            "Window 4 is being cancelled; first it is made sure that the provider does not have it.",
        ),
        (SUBMITTED, {"provider_status": "in_progress"}, "The provider works on window 4 (it says: in progress)."),
        (
            SUBMITTED, {"provider_status": "in_progress", "cut_off_at": SOON},
            "The provider works on window 4 (it says: in progress). At 12:05 it is cancelled, and what is due runs"
            " now.",
        ),
        (
            SUBMITTED, {"provider_status": "in_progress", "expires_at": NOW - timedelta(minutes=1)},
            "The provider works on window 4 (it says: in progress). Its time is over, but the provider goes on;"
            " cancelling it would keep what is done.",
        ),
        (
            SUBMITTED, {"provider_status": "in_progress", "problem": "The provider answered 500."},
            "The provider works on window 4 (it says: in progress). The provider answered 500. It is tried again at"
            " 12:05.",
        ),
        (
            SUBMITTED, {"provider_status": "cancelling", "cancel_requested_at": NOW},
            "Window 4 is being cancelled at the provider (it says: cancelling); what it finishes counts.",
        ),
        (
            SUBMITTED, {"provider_status": "completed", "problem": "file-1 was cut short"},
            "The provider is done with window 4; its results are being fetched. file-1 was cut short. It is tried"
            " again at 12:05.",
        ),
    ],
)  # fmt: skip
def test_a_window_that_has_not_ended(status: WindowStatus, columns: dict[str, Any], words: str) -> None:
    assert why_window_waits(window(status, **columns), NOW, show) == words


def test_a_job_in_a_window_says_what_its_window_says() -> None:
    assert sentence(job(JobStatus.CLAIMED), window=window(OPEN)) == "Window 4 is being handed to the provider."
    riding = window(SUBMITTED, provider_status="validating")
    assert sentence(job(JobStatus.PROCESSING), window=riding) == (
        "The provider works on window 4 (it says: validating)."
    )


def test_a_sync_job_that_is_running() -> None:
    assert sentence(job(JobStatus.PROCESSING)) == "The provider is working on it."


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED, JobStatus.CANCELLED])
def test_what_has_ended_waits_for_nothing(status: JobStatus) -> None:
    assert sentence(job(status)) == ""
    assert why_window_waits(window(WindowStatus.COMPLETED), NOW, show) == ""
