"""The simulator against the system itself: the same jobs really made, the clock moved minute by minute, the real
openers and the real heartbeat's deeds at work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.factories import (
    TEXT,
    empty_tables,
    make_document,
    make_jobs,
    make_user,
)
from webapp.domain.errors import InsufficientJobs
from webapp.domain.simulation import Policy, Simulation, Turnaround, simulate
from webapp.domain.states import BatchStrategy, ItemOutcome, JobStatus, WindowStatus
from webapp.models import BatchItem, BatchWindow, Job, JobEvent, JobRequest
from webapp.parts import Parts
from webapp.services import batches, deadlines, lifecycle, simulation, windows
from webapp.services.clock import clock, move_clock
from webapp.services.registry import Profiles

START = datetime(2027, 3, 1, tzinfo=UTC)  # the arrivals come after this; looks are at full minutes
MINUTES = 60
# Seconds that keep everything that is due away from the full minutes: real looks take some milliseconds.
TURNAROUND = Turnaround(15 * 60 - 20, 10)


@dataclass(frozen=True)
class Scenario:
    strategy: BatchStrategy
    size: int
    wait_minutes: int
    arrivals: list[tuple[int, int, int, int]]  # (minute, second in it, needed in so many minutes, times the text)
    window_bytes: int | None = None
    enqueued_jobs: int | None = None  # the provider's allowance of tokens, in jobs

    def parts(self, parts: Parts, tokens_of_a_job: int) -> Parts:
        found = parts.profiles.get("pdf_summary")
        limited = found.batch.model_copy(
            update={"max_batch_size": self.size, "max_wait_seconds": self.wait_minutes * 60}
        )
        settings = parts.settings.model_copy(
            update={
                "cancel_allowance_seconds": 120, "sync_allowance_seconds": 300,
                "max_window_bytes": self.window_bytes or parts.settings.max_window_bytes,
                "max_enqueued_tokens": self.enqueued_jobs and self.enqueued_jobs * tokens_of_a_job,
            }
        )  # fmt: skip
        return replace(
            parts, settings=settings, profiles=Profiles({found.id: found.model_copy(update={"batch": limited})})
        )


class RealRun:
    """The jobs of a scenario, really made, and everything that the system does about them in the meantime."""

    def __init__(self, session: Session, parts: Parts, scenario: Scenario) -> None:
        self.session, self.scenario = session, scenario
        empty_tables(session, parts)
        self.user = make_user(session)
        make_jobs(session, parts, self.user, 1)  # a sync job, which is none of the simulation's business
        self.parts = scenario.parts(parts, session.scalars(select(JobRequest.most_input_tokens)).one())

    def run(self) -> None:
        coming = sorted(self.scenario.arrivals)
        for minute in range(MINUTES + 1):
            while coming and coming[0][0] < minute:
                self.make_job(*coming.pop(0))
            self.set_clock(START + timedelta(minutes=minute))
            self.look()

    def set_clock(self, at: datetime) -> None:
        real = self.session.execute(select(func.clock_timestamp())).scalar_one()
        move_clock(self.session, ahead=at - real)

    def make_job(self, minute: int, second: int, needed_in: int, times: int) -> None:
        at = START + timedelta(minutes=minute, seconds=second)
        self.set_clock(at)
        values: dict[str, Any] = {"executionMode": "batch", "batchStrategy": self.scenario.strategy}
        if self.scenario.strategy is BatchStrategy.DEADLINE:
            values["needBy"] = at + timedelta(minutes=needed_in)
        document = make_document(self.session, self.user, TEXT * times)
        make_jobs(self.session, self.parts, self.user, 1, document=document.id, **values)

    def look(self) -> None:
        """A beat of the heartbeat, then n8n's round: open what is ready until nothing is."""
        self.answer_windows()
        deadlines.cut_off_windows(self.session)
        windows.end_cancelled_unsent(self.session)
        deadlines.run_due_jobs_now(self.session, self.parts.settings)
        while self.open_ready():
            pass

    def open_ready(self) -> int:
        session, settings, profiles = self.session, self.parts.settings, self.parts.profiles
        ready = [v.queue.id for v in batches.list_queues(session, settings, profiles) if v.readiness.ready]
        assert bool(ready) == batches.has_ready_queue(session, settings, profiles)
        opened = 0
        for queue_id in ready:
            with suppress(InsufficientJobs):
                batches.open_window(session, settings, profiles, queue_id=queue_id, actor="test")
                opened += 1
        return opened

    def answer_windows(self) -> None:
        """The provider is as quick as the simulation believes."""
        now = clock(self.session)
        over = BatchWindow.opened_at <= now - timedelta(seconds=TURNAROUND.batch_seconds)
        for window in self.session.scalars(select(BatchWindow).where(over, BatchWindow.finished_at.is_(None))):
            given: dict[str, Any] = {"now": now, "actor": "test", "event": "test"}
            sent = {"provider_batch_id": f"b{window.id}"}
            lifecycle.move_window(self.session, window.id, WindowStatus.SUBMITTED, values=sent, **given)
            lifecycle.submit_window_jobs(self.session, window.id, now=now)
            ids = self.session.scalars(select(BatchItem.job_id).where(BatchItem.window_id == window.id)).all()
            lifecycle.finish_jobs(self.session, ids, JobStatus.COMPLETED, now=now, actor="test", reason="answered")
            lifecycle.close_open_items(self.session, window.id, ItemOutcome.COMPLETED)
            lifecycle.move_window(self.session, window.id, WindowStatus.COMPLETED, **given)
        self.session.commit()

    # What happened, in the words of `simulated`

    def windows(self) -> list[tuple[int, str, list[int], bool]]:
        """(minute of its opening, reason, job ids, was it cut off)"""
        self.session.expire_all()
        return [
            (minute_of(window.opened_at), window.opened_because, self.jobs_of(window),
             window.status is WindowStatus.CANCELLED)
            for window in self.session.scalars(select(BatchWindow).order_by(BatchWindow.id))
        ]  # fmt: skip

    def jobs_of(self, window: BatchWindow) -> list[int]:
        statement = select(BatchItem.job_id).where(BatchItem.window_id == window.id).order_by(BatchItem.job_id)
        return list(self.session.scalars(statement))

    def waits(self) -> dict[int, tuple[float | None, bool]]:
        """{job id: (seconds until its first window opened or it ran now, whether it ran now)}"""
        opened = dict(
            self.session.execute(
                select(BatchItem.job_id, func.min(BatchWindow.opened_at))
                .select_from(BatchItem)
                .join(BatchWindow, BatchWindow.id == BatchItem.window_id)
                .group_by(BatchItem.job_id)
            ).all()  # type: ignore[arg-type]
        )
        moved = select(JobEvent.job_id, JobEvent.at).where(
            JobEvent.actor == "heartbeat", JobEvent.to_status == "created"
        )
        left = dict(self.session.execute(moved).all())  # type: ignore[arg-type]
        all_jobs = self.session.scalars(select(Job).where(Job.batch_strategy.is_not(None)))
        return {
            job.id: (since(job.created_at, opened.get(job.id) or left.get(job.id)), job.id in left) for job in all_jobs
        }


def simulated(session: Session, run: RealRun) -> Simulation:
    """The simulator's view of the jobs that are recorded now."""
    settings, wish = run.parts.settings, simulation.Wish(profile="pdf_summary")
    end = START + timedelta(minutes=MINUTES)
    arrivals, _ = simulation.recorded_arrivals(session, settings, run.parts.prices, wish, now=end)
    scenario = run.scenario
    policy = Policy(scenario.strategy, scenario.size, scenario.wait_minutes * 60)
    return simulate(
        arrivals, policy, settings.deadlines, TURNAROUND, end, limits=simulation.limits_of(settings), tick_seconds=60,
        start=START,
    )  # fmt: skip


def minute_of(moment: datetime) -> int:
    return int((moment - START).total_seconds() // 60)


def since(begin: datetime, end: datetime | None) -> float | None:
    return (end - begin).total_seconds() if end else None


@pytest.fixture(autouse=True)
def _real_time_again(session: Session) -> Iterator[None]:
    yield
    session.rollback()
    move_clock(session, ahead=timedelta())


# The second in which a job comes keeps its own wait and deadline away from the full minutes, too.
ARRIVALS = st.lists(
    st.tuples(st.integers(0, 24), st.integers(6, 54), st.integers(8, 36), st.integers(1, 9)), min_size=1, max_size=16
)
LIMITS = {
    "window_bytes": st.sampled_from([None, None, 3000]),
    "enqueued_jobs": st.sampled_from([None, None, 3]),
}  # fmt: skip


def scenarios(strategy: BatchStrategy) -> st.SearchStrategy[Scenario]:
    return st.builds(
        Scenario, strategy=st.just(strategy), size=st.integers(1, 5), wait_minutes=st.integers(2, 15),
        arrivals=ARRIVALS, **LIMITS,
    )  # fmt: skip


def together(*arrivals: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    return [(minute, second, 36, 1) for minute, second in arrivals]


def assert_same(session: Session, parts: Parts, scenario: Scenario) -> RealRun:
    real = RealRun(session, parts, scenario)
    real.run()
    found = simulated(session, real)
    assert [
        (minute_of(window.opened_at), window.reason, sorted(window.jobs), window.cut_off_at is not None)
        for window in found.windows
    ] == real.windows()
    waits = {c.arrival.key: (since(c.arrival.at, c.set_off_at), c.runs_now) for c in found.courses}
    expected = real.waits()
    assert {job: runs_now for job, (_, runs_now) in waits.items()} == {job: now for job, (_, now) in expected.items()}
    assert {job: wait for job, (wait, _) in waits.items()} == pytest.approx(
        {job: wait for job, (wait, _) in expected.items()}, abs=2
    )
    return real


often = profile(
    deadline=None, max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate],
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@often
@given(scenario=scenarios(BatchStrategy.COUNT_OR_WAIT))
@example(scenario=Scenario(BatchStrategy.COUNT_OR_WAIT, 3, 10, together((0, 7), (1, 7), (2, 7), (2, 8), (30, 9))))
@example(scenario=Scenario(BatchStrategy.COUNT_OR_WAIT, 5, 4, together(*[(1, s) for s in range(7, 17)]), 3000))
@example(scenario=Scenario(BatchStrategy.COUNT_OR_WAIT, 2, 4, together(*[(1, s) for s in range(7, 17)]), None, 3))
def test_count_or_wait_is_simulated_as_it_happens(session: Session, parts: Parts, scenario: Scenario) -> None:
    assert_same(session, parts, scenario)


@often
@given(scenario=scenarios(BatchStrategy.COUNT_ONLY))
@example(scenario=Scenario(BatchStrategy.COUNT_ONLY, 3, 2, together((0, 7), (1, 7), (2, 7), (2, 8))))
def test_count_only_is_simulated_as_it_happens(session: Session, parts: Parts, scenario: Scenario) -> None:
    assert_same(session, parts, scenario)


@often
@given(scenario=scenarios(BatchStrategy.DEADLINE))
@example(scenario=Scenario(BatchStrategy.DEADLINE, 3, 20, [(0, 7, 50, 1), (1, 7, 20, 1), (2, 7, 55, 1), (3, 7, 40, 1)]))
@example(scenario=Scenario(BatchStrategy.DEADLINE, 4, 2, [(0, 7, 21, 1), (0, 8, 22, 1), (0, 9, 23, 1), (0, 10, 52, 1)]))
@example(scenario=Scenario(BatchStrategy.DEADLINE, 3, 5, [(0, 7, 48, 1), (0, 8, 40, 9), (0, 9, 30, 1)], 9000, 2))
def test_deadline_is_simulated_as_it_happens(session: Session, parts: Parts, scenario: Scenario) -> None:
    assert_same(session, parts, scenario)


def test_a_cut_off_window_and_its_second_ride_are_simulated_as_they_happen(session: Session, parts: Parts) -> None:
    """What the property above holds for all, shown once: jobs cut off, one that runs now, one that rides again."""
    arrivals = [(0, 7, 20, 1), (0, 8, 52, 1)]
    real = assert_same(session, parts, Scenario(BatchStrategy.DEADLINE, 2, 10, arrivals))
    assert real.windows() == [(1, "full", [2, 3], True), (14, "waited", [3], False)]
    assert {job: runs_now for job, (_, runs_now) in real.waits().items()} == {2: True, 3: False}
