"""The simulator by itself; tests/services/test_simulation_windows.py holds it against the running system."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from webapp.domain.policy import Deadlines
from webapp.domain.simulation import (
    Arrival,
    Limits,
    Outcome,
    Policy,
    Simulation,
    Turnaround,
    compare,
    generate,
    office_share,
    simulate,
)
from webapp.domain.states import BatchStrategy

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
DEADLINES = Deadlines(600, 1200)
TURNAROUND = Turnaround(3600, 10)
COUNT_ONLY, COUNT_OR_WAIT, DEADLINE = BatchStrategy.COUNT_ONLY, BatchStrategy.COUNT_OR_WAIT, BatchStrategy.DEADLINE


def at(minutes: float) -> datetime:
    return MONDAY + timedelta(minutes=minutes)


def jobs(*minutes: float, **more: Any) -> list[Arrival]:
    """Jobs 1, 2, … that come at these minutes; now they cost 2 USD, in a batch 1."""
    costs = {"sync_cost": Decimal(2), "batch_cost": Decimal(1)}
    return [Arrival(at(minute), key, **(costs | more)) for key, minute in enumerate(minutes, 1)]


def run(arrivals: Sequence[Arrival], policy: Policy, **more: Any) -> Simulation:
    return simulate(arrivals, policy, DEADLINES, TURNAROUND, at(24 * 60), **more)


def windows(simulation: Simulation) -> list[tuple[float, str, tuple[int, ...]]]:
    """(minute, reason, jobs)"""
    return [((w.opened_at - MONDAY).total_seconds() / 60, w.reason, w.jobs) for w in simulation.windows]


def test_a_window_opens_with_the_job_that_fills_it_or_when_the_oldest_has_waited() -> None:
    found = run(jobs(0, 1, 2, 30, 31), Policy(COUNT_OR_WAIT, 3, 600))
    assert windows(found) == [(2, "full", (1, 2, 3)), (40, "waited", (4, 5))]
    assert found.courses[0].answered_at == at(62)


def test_count_only_leaves_the_tail_waiting() -> None:
    found = run(jobs(0, 1, 2, 30), Policy(COUNT_ONLY, 3, 600))
    assert windows(found) == [(2, "full", (1, 2, 3))]
    assert (found.courses[3].set_off_at, found.courses[3].answered_at) == (None, None)


def test_jobs_that_come_together_fill_several_windows_at_once() -> None:
    found = run(jobs(*[5] * 7), Policy(COUNT_OR_WAIT, 3, 600))
    assert windows(found) == [(5, "full", (1, 2, 3)), (5, "full", (4, 5, 6)), (15, "waited", (7,))]


def test_the_most_urgent_ride_first_and_the_late_run_now() -> None:
    due = [10 * 60, 5 * 60, 8 * 60, 20]
    arrivals = [a._replace(need_by=at(m)) for a, m in zip(jobs(0, 1, 2, 3), due, strict=True)]
    found = run(arrivals, Policy(DEADLINE, 2, 600))
    assert windows(found) == [(1, "full", (2, 1)), (12, "waited", (3,))]
    assert (found.courses[3].runs_now, found.courses[3].answered_at) == (True, at(3) + timedelta(seconds=10))


def test_a_window_that_would_be_late_is_cut_off_and_the_rest_rides_again() -> None:
    arrivals = [a._replace(need_by=at(m)) for a, m in zip(jobs(0, 0), [80, 300], strict=True)]
    found = run(arrivals, Policy(DEADLINE, 2, 600))
    assert windows(found) == [(0, "full", (1, 2)), (50, "waited", (2,))]
    assert [window.cut_off_at for window in found.windows] == [at(50), None]
    assert [course.runs_now for course in found.courses] == [True, False]
    assert [course.set_off_at for course in found.courses] == [at(0), at(0)]
    assert found.courses[1].answered_at == at(110)


def test_an_urgent_job_between_two_that_fill_no_window_is_not_overlooked() -> None:
    arrivals = [a._replace(need_by=at(m)) for a, m in zip(jobs(0, 5, 50), [600, 70, 600], strict=True)]
    found = run(arrivals, Policy(DEADLINE, 3, 10_000))
    assert found.courses[1].set_off_at == at(70 - 40)  # twice the cancel allowance and the sync allowance


def test_strategy_deadline_asks_for_deadlines() -> None:
    with pytest.raises(ValueError, match="need_by"):
        run(jobs(0), Policy(DEADLINE, 2, 600))


def test_a_window_ends_at_the_limits() -> None:
    arrivals = jobs(*[0] * 4, body_bytes=60, most_input_tokens=10)
    found = run(arrivals, Policy(COUNT_OR_WAIT, 4, 600), limits=Limits(window_bytes=220, line_overhead_bytes=50))
    assert windows(found) == [(0, "full", (1, 2)), (10, "waited", (3, 4))]
    found = run(arrivals, Policy(COUNT_OR_WAIT, 4, 600), limits=Limits(enqueued_tokens=30))
    assert windows(found) == [(0, "full", (1, 2, 3)), (60, "waited", (4,))]


def test_room_is_asked_for_the_job_that_rides_first() -> None:
    """The oldest is too large for what is left of the allowance; the most urgent is not."""
    large, *small = jobs(0, 1, 2, 3, most_input_tokens=10)
    due = [a._replace(need_by=a.at + timedelta(hours=9)) for a in small]
    arrivals = [large._replace(need_by=at(24 * 60), most_input_tokens=25), *due]
    found = run(arrivals, Policy(DEADLINE, 2, 10_000), limits=Limits(enqueued_tokens=30))
    assert windows(found)[:2] == [(1, "full", (2,)), (2, "full", (3,))]


def test_with_a_tick_windows_open_when_somebody_looks() -> None:
    found = run(jobs(0.2, 0.4, 0.6), Policy(COUNT_OR_WAIT, 2, 90), tick_seconds=60, start=MONDAY)
    assert windows(found) == [(1, "full", (1, 2)), (3, "waited", (3,))]


def rows(arrivals: Sequence[Arrival], *policies: Policy) -> list[Outcome]:
    return compare(arrivals, policies, DEADLINES, TURNAROUND)


def test_outcomes_are_all_now_and_then_by_cost_and_wait() -> None:
    arrivals = [a._replace(need_by=a.at + timedelta(minutes=30)) for a in jobs(0, 2, 4)]
    found = rows(
        arrivals, *(Policy(strategy, 3, 1200) for strategy in (DEADLINE, COUNT_OR_WAIT)), Policy(COUNT_ONLY, 2, 1)
    )
    assert [(row.policy and row.policy.strategy, row.cost, row.saved, row.is_best) for row in found] == [
        (None, 6, 0, True), (COUNT_OR_WAIT, 3, 3, True), (COUNT_ONLY, 3, 3, False), (DEADLINE, 6, 0, True),
    ]  # fmt: skip
    assert (found[3].ran_now, found[3].windows, found[3].late) == (3, 0, 0)
    [_, cut] = rows([a._replace(need_by=a.at + timedelta(hours=1)) for a in arrivals], Policy(DEADLINE, 2, 1200))
    assert (cut.ran_now, cut.windows, cut.cut_off, cut.jobs_per_window, cut.cost) == (3, 1, 1, 2, 6)
    assert (found[1].mean_wait, found[1].longest_wait, found[1].mean_answer, found[1].late) == (120, 240, 3720, 3)


def test_jobs_that_never_ride_are_counted_and_do_not_look_quick() -> None:
    """Three jobs in two minutes, and the record ends: to wait for a tenth is no better than to wait an hour."""
    _, by_wait, by_count = rows(jobs(0, 1, 2), Policy(COUNT_OR_WAIT, 10, 3600), Policy(COUNT_ONLY, 10, 3600))
    assert (by_wait.still_waiting, by_count.still_waiting, by_count.windows, by_count.cost) == (0, 3, 0, 3)
    assert (by_count.mean_answer, by_count.is_best, by_wait.is_best) == (None, False, True)
    assert by_count.mean_wait > by_wait.mean_wait


def test_a_job_of_unknown_cost_is_in_no_sum() -> None:
    arrivals = [*jobs(0, 1), Arrival(at(2), 3, sync_cost=Decimal(9))]
    assert [(r.cost, r.saved, r.unpriced) for r in rows(arrivals, Policy(COUNT_ONLY, 3, 1))] == [(4, 0, 1), (2, 2, 1)]
    [nothing, _] = rows(arrivals[2:], Policy(COUNT_ONLY, 3, 1))
    assert (nothing.cost, nothing.saved, nothing.is_best) == (None, None, False)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    def some(seed: int) -> list[datetime]:
        return list(generate(60, 100, seed, MONDAY, share=lambda _: 1.0))

    assert some(1) == some(1) != some(2)
    assert len(some(1)) == pytest.approx(6000, rel=0.05)
    assert all(earlier <= later for earlier, later in pairwise(some(1)))


def test_offices_are_quiet_at_night_and_at_weekends() -> None:
    week = list(generate(100, 7 * 24, 1, MONDAY, share=office_share))
    busy = [moment for moment in week if moment.weekday() < 5 and 8 <= moment.hour < 18]
    assert len(busy) == pytest.approx(50 * 100, rel=0.1)
    assert len(week) - len(busy) == pytest.approx(118 * 10, rel=0.2)


def test_twenty_thousand_arrivals_are_nothing_to_wait_for() -> None:
    moments = generate(2000, 10, 1, MONDAY, share=lambda _: 1.0)
    arrivals = [Arrival(moment, key, moment + timedelta(hours=9)) for key, moment in enumerate(moments)]
    begin = time.process_time()
    found = run(arrivals, Policy(DEADLINE, 20, 600))
    assert time.process_time() - begin < 3
    assert sum(len(window.jobs) for window in found.windows) == len(arrivals) > 19_000
