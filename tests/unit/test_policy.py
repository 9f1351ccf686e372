from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from webapp.domain.backoff import back_off_seconds
from webapp.domain.policy import Deadlines, QueueState, readiness
from webapp.domain.states import BatchStrategy, WindowStatus
from webapp.domain.windows import Step, create_is_lost, next_step

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def state(**more: Any) -> QueueState:
    given = {
        "strategy": BatchStrategy.COUNT_ONLY, "queued": 2, "size": 3, "max_wait_seconds": 60,
        "oldest_queued_at": NOW - timedelta(seconds=90),
    }  # fmt: skip
    return QueueState(**(given | more))


def judge(*, flush: bool = False, **more: Any) -> tuple[bool, int, str]:
    found = readiness(state(**more), NOW, flush=flush)
    return found.ready, found.take, found.reason


@pytest.mark.parametrize(
    ("given", "judged"),
    [
        ({}, (False, 0, "short")),
        ({"queued": 3}, (True, 3, "full")),
        ({"queued": 9}, (True, 3, "full")),
        ({"queued": 0, "oldest_queued_at": None}, (False, 0, "empty")),
        ({"strategy": BatchStrategy.COUNT_OR_WAIT}, (True, 2, "waited")),
        ({"strategy": BatchStrategy.DEADLINE}, (True, 2, "waited")),
        (
            {"strategy": BatchStrategy.COUNT_OR_WAIT, "oldest_queued_at": NOW - timedelta(seconds=59)},
            (False, 0, "short"),
        ),
        ({"has_ridden": True}, (True, 2, "waited")),
        ({"queued": 3, "is_held": True}, (False, 0, "held")),
        ({"has_ridden": True, "is_held": True}, (False, 0, "held")),
        ({"queued": 3, "not_before": NOW + timedelta(seconds=1)}, (False, 0, "not_before")),
        ({"queued": 3, "not_before": NOW}, (True, 3, "full")),
        ({"queued": 3, "has_room": False}, (False, 0, "no_room")),
        ({"flush": True}, (True, 2, "flushed")),
        ({"flush": True, "queued": 9}, (True, 3, "flushed")),
        ({"flush": True, "not_before": NOW + timedelta(seconds=1)}, (True, 2, "flushed")),
        ({"flush": True, "is_held": True}, (False, 0, "held")),
        ({"flush": True, "queued": 0}, (False, 0, "empty")),
    ],
)
def test_when_a_window_may_open(given: dict[str, Any], judged: tuple[bool, int, str]) -> None:
    assert judge(**given) == judged


def test_a_deadline_leaves_time_to_cancel_and_to_run_now() -> None:
    deadlines = Deadlines(cancel_allowance=600, sync_allowance=1200)
    need_by = NOW + timedelta(hours=1)
    assert deadlines.cut_off(need_by) == NOW + timedelta(minutes=30)
    assert deadlines.last_call(need_by) == NOW + timedelta(minutes=40)
    assert deadlines.last_ride(need_by) == NOW + timedelta(minutes=20)
    assert deadlines.past_last_ride(NOW + timedelta(minutes=20)) == need_by
    assert deadlines.past_last_call(NOW + timedelta(minutes=40)) == need_by


def test_waits_grow_up_to_the_most_and_never_come_in_step() -> None:
    waits = [back_off_seconds(failures, first=15, most=300) for failures in range(1, 100)]
    assert 15 <= waits[0] < 18.75
    assert 30 <= waits[1] < 37.5
    assert all(300 <= wait <= 375 for wait in waits[5:])
    assert len(set(waits)) > 90


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


def test_a_window_that_is_cancelled_before_a_create_is_out_has_no_step() -> None:
    assert next_step(window(input_file_id="f", cancel_requested_at=NOW)) is None


def test_a_window_that_is_cancelled_while_a_create_is_out_is_looked_for() -> None:
    assert next_step(window(input_file_id="f", create_offered_at=NOW, cancel_requested_at=NOW)) is Step.FIND


@pytest.mark.parametrize(
    ("columns", "step"),
    [
        ({"provider_status": "in_progress"}, Step.POLL),
        ({"provider_status": "in_progress", "cancel_requested_at": NOW}, Step.CANCEL),
        ({"provider_status": "cancelling", "cancel_requested_at": NOW, "cancel_asked_at": NOW}, Step.POLL),
        *[({"provider_status": end}, Step.INGEST) for end in ("completed", "failed", "expired", "cancelled", "gone")],
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
