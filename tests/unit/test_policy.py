from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from webapp.domain.policy import QueueState, readiness
from webapp.domain.states import BatchStrategy, JobStatus, WindowStatus
from webapp.domain.waiting import Waiting
from webapp.domain.windows import Step, create_is_lost, next_step

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def judge(**more: Any) -> tuple[bool, int, str]:
    given = {
        "strategy": BatchStrategy.COUNT_ONLY,
        "queued": 2,
        "size": 3,
        "max_wait_seconds": 60,
        "oldest_age_seconds": 90,
    }
    found = readiness(QueueState(**(given | more)), NOW)
    return found.ready, found.take, found.reason


@pytest.mark.parametrize(
    ("state", "judged"),
    [
        ({}, (False, 0, "short")),
        ({"queued": 3}, (True, 3, "full")),
        ({"queued": 9}, (True, 3, "full")),
        ({"queued": 0, "oldest_age_seconds": None}, (False, 0, "empty")),
        ({"strategy": BatchStrategy.COUNT_OR_WAIT}, (True, 2, "waited")),
        ({"strategy": BatchStrategy.COUNT_OR_WAIT, "oldest_age_seconds": 59}, (False, 0, "short")),
        ({"has_ridden": True}, (True, 2, "waited")),
        ({"queued": 3, "is_held": True}, (False, 0, "held")),
        ({"queued": 3, "not_before": NOW + timedelta(seconds=1)}, (False, 0, "not_before")),
        ({"queued": 3, "not_before": NOW}, (True, 3, "full")),
    ],
)
def test_when_a_window_may_open(state: dict[str, Any], judged: tuple[bool, int, str]) -> None:
    assert judge(**state) == judged


def window(**columns: Any) -> Any:
    names = (
        "input_file_id",
        "create_offered_at",
        "provider_batch_id",
        "provider_status",
        "cancel_requested_at",
        "cancel_asked_at",
    )
    return SimpleNamespace(status=WindowStatus.OPEN, **(dict.fromkeys(names) | columns))


@pytest.mark.parametrize(
    ("columns", "step"),
    [
        ({}, Step.UPLOAD_INPUT),
        ({"input_file_id": "f"}, Step.CREATE),
        ({"input_file_id": "f", "create_offered_at": NOW}, Step.FIND),
    ],
)
def test_the_steps_of_an_open_window(columns: dict[str, Any], step: Step) -> None:
    assert next_step(window(**columns)) is step


@pytest.mark.parametrize(
    ("columns", "step"),
    [
        ({"provider_status": "in_progress"}, Step.POLL),
        ({"provider_status": "in_progress", "cancel_requested_at": NOW}, Step.CANCEL),
        ({"provider_status": "cancelling", "cancel_requested_at": NOW, "cancel_asked_at": NOW}, Step.POLL),
        *[({"provider_status": end}, Step.INGEST) for end in ("completed", "failed", "expired", "cancelled")],
        ({"provider_status": "completed", "cancel_requested_at": NOW}, Step.INGEST),
    ],
)
def test_the_steps_of_a_submitted_window(columns: dict[str, Any], step: Step) -> None:
    row = window(**columns)
    row.status = WindowStatus.SUBMITTED
    assert next_step(row) is step


def test_an_ended_window_has_no_step() -> None:
    row = window()
    row.status = WindowStatus.COMPLETED
    assert next_step(row) is None


def test_a_create_is_lost_after_its_grace_from_the_end_of_the_lease() -> None:
    assert not create_is_lost(NOW, NOW + timedelta(seconds=299), 300)
    assert create_is_lost(NOW, NOW + timedelta(seconds=300), 300)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"status": JobStatus.CREATED}, "as many jobs as allowed"),
        ({"status": JobStatus.CREATED, "dispatched_at": NOW}, "handed to n8n"),
        (
            {"status": JobStatus.CREATED, "not_before": NOW + timedelta(seconds=5), "attempt": 2},
            "attempt 2 starts at 12:00",
        ),
        ({"status": JobStatus.QUEUED, "queued": 2, "size": 3}, "2 of 3 jobs wait; a window opens when it is full."),
        ({"status": JobStatus.QUEUED, "queued": 2, "size": 3, "opens_at": NOW + timedelta(seconds=9)}, "or at 12:00"),
        ({"status": JobStatus.QUEUED, "queued": 2, "size": 3, "opens_at": NOW}, "the wait is over"),
        ({"status": JobStatus.QUEUED, "queued": 3, "size": 3}, "about to open"),
        ({"status": JobStatus.QUEUED, "queued": 3, "size": 3, "is_held": True}, "held by an administrator"),
        ({"status": JobStatus.CLAIMED, "window_id": 4}, "Window 4 is being handed"),
        ({"status": JobStatus.PROCESSING, "window_id": 4, "provider_status": "in_progress"}, "it says: in progress"),
        ({"status": JobStatus.PROCESSING}, "The provider is working on it."),
    ],
)
def test_each_reason_to_wait_has_its_sentence(known: dict[str, Any], words: str) -> None:
    assert words in Waiting(now=NOW, time_of="12:00", **known).sentence
