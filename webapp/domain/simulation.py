"""What if? Replays arrivals of batch jobs under a window policy: which windows open when, how long jobs wait, what it
costs.

The rules are `domain/policy.py`'s. Here is only what surrounds them in the running system: who rides in a window
(as the claim in `services/batches.py`) and what comes first when several things are due (as in the heartbeat: windows
end or are cut off, jobs leave for their deadline, windows open). Tests hold it against the running system.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from heapq import heappop, heappush
from math import ceil
from typing import NamedTuple

from webapp.domain.policy import Deadlines, QueueState, readiness
from webapp.domain.states import BatchStrategy

QUIET = 0.1  # outside office hours: this share of the jobs


class Arrival(NamedTuple):
    """A batch job that came at `at` (aware). Costs in USD, None = unknown. They sort by time, then by key."""

    at: datetime
    key: int  # the job's id; no two have the same
    need_by: datetime | None = None
    body_bytes: int = 0  # of its request
    most_input_tokens: int = 0  # that count against the provider's allowance
    sync_cost: Decimal | None = None
    batch_cost: Decimal | None = None


@dataclass(frozen=True)
class Policy:
    strategy: BatchStrategy
    size: int  # jobs in a full window
    max_wait_seconds: int  # means nothing for count_only


@dataclass(frozen=True)
class Turnaround:
    """How long answers take, in seconds: from the opening of a window, and from the start of a job that runs now."""

    batch_seconds: float
    sync_seconds: float


@dataclass(frozen=True)
class Limits:
    """Where a window ends early; None: nowhere."""

    window_bytes: int | None = None
    line_overhead_bytes: int = 0  # around each request
    enqueued_tokens: int | None = None  # the provider's allowance, for all windows that have not ended


class Window(NamedTuple):
    opened_at: datetime
    reason: str  # full | waited
    jobs: tuple[int, ...]  # keys, in the order of the claim
    cut_off_at: datetime | None  # set when it was cancelled for its deadlines: it brought no answer


class Course(NamedTuple):
    """What became of one arrival."""

    arrival: Arrival
    set_off_at: datetime | None  # its (first) window opened, or it ran now; None: it still waits
    answered_at: datetime | None
    runs_now: bool  # it left the batch for its deadline, and pays the sync price


@dataclass(frozen=True)
class Simulation:
    policy: Policy | None  # None: every job runs now
    until: datetime
    windows: list[Window]
    courses: list[Course]  # in the order of arrival


def simulate(
    arrivals: Iterable[Arrival], policy: Policy, deadlines: Deadlines, turnaround: Turnaround, until: datetime, *,
    limits: Limits = Limits(), tick_seconds: float = 0, start: datetime | None = None,
) -> Simulation:  # fmt: skip
    """Run one queue under this policy until `until`; what waits then has waited in vain.

    Windows open the moment they may; with `tick_seconds`, when the next look at the queue is due (counted from
    `start`, default the first arrival). The provider answers nothing before `turnaround` is over, and cancels at once.
    Raises ValueError for strategy deadline and an arrival without `need_by`.
    """
    queue = _Queue(sorted(arrivals), policy, deadlines, turnaround, limits)
    if policy.strategy is BatchStrategy.DEADLINE and not all(arrival.need_by for arrival in queue.arrivals):
        raise ValueError("strategy deadline: each arrival needs a need_by")
    start = start or (queue.arrivals[0].at if queue.arrivals else until)
    tick = timedelta(seconds=tick_seconds)
    while (moment := queue.next_moment()) is not None:
        if tick:
            moment = start - (start - moment) // tick * tick  # rounded up
        if moment > until:
            break
        queue.look(moment)
    queue.bring_answers()
    return Simulation(policy, until, queue.windows, queue.courses())


def run_all_now(arrivals: Iterable[Arrival], turnaround: Turnaround, until: datetime) -> Simulation:
    """The same jobs without any batch."""
    takes = timedelta(seconds=turnaround.sync_seconds)
    ordered = sorted(arrivals)
    return Simulation(None, until, [], [Course(a, a.at, a.at + takes, True) for a in ordered])


class _Queue:
    """One queue on its way through time. Jobs are numbered in the order of arrival, which is their age."""

    def __init__(
        self, arrivals: list[Arrival], policy: Policy, deadlines: Deadlines, turnaround: Turnaround, limits: Limits
    ) -> None:
        self.arrivals, self.policy, self.deadlines, self.limits = arrivals, policy, deadlines, limits
        self.batch_takes = timedelta(seconds=turnaround.batch_seconds)
        self.sync_takes = timedelta(seconds=turnaround.sync_seconds)
        self.is_by_deadline = policy.strategy is BatchStrategy.DEADLINE
        self.moments = [arrival.at for arrival in arrivals]
        urgent = arrivals if self.is_by_deadline else []
        self.last_rides = [max(a.at, deadlines.last_ride(a.need_by)) for a in urgent if a.need_by]
        self.now: datetime | None = None  # of the last look
        self.arrived = 0
        self.waiting: list[tuple[datetime, int]] = []  # a heap in the order of the claim
        self.by_age: list[int] = []  # a heap; those that no longer wait are dropped when they come to the top
        self.waits = bytearray(len(arrivals))
        self.runs_now = bytearray(len(arrivals))
        self.set_off_at: list[datetime | None] = [None] * len(arrivals)
        self.answered_at: list[datetime | None] = [None] * len(arrivals)
        self.windows: list[Window] = []
        self.out: list[tuple[datetime, int, list[int]]] = []  # windows under way: (their end, number, jobs), a heap
        self.enqueued_tokens = 0
        self.opens_at: datetime | None = None

    def next_moment(self) -> datetime | None:
        """When something may change next; None: never."""
        moments = [self.opens_at] if self.opens_at else []
        # Arrivals that cannot fill a window need no look of their own, once the oldest is there.
        joins = self.policy.size - len(self.waiting) if self.waiting else 1
        ahead = slice(self.arrived, self.arrived + max(1, joins))
        moments += self.moments[ahead][joins - 1 :]
        if self.is_by_deadline:
            moments += self.last_rides[ahead]
            moments += [self.deadlines.last_ride(self.waiting[0][0])] if self.waiting else []
        if self.out and (self.is_by_deadline or self.limits.enqueued_tokens):
            moments.append(self.out[0][0])
        return min((moment for moment in moments if self.now is None or moment > self.now), default=None)

    def look(self, now: datetime) -> None:
        """Do everything that is due, in the order of the running system."""
        self.now = now
        arrived = bisect_right(self.moments, now, self.arrived)
        for job in range(self.arrived, arrived):
            self.join(job)
        self.arrived = arrived
        while self.out and self.out[0][0] <= now:
            self.end_window(now)
        if self.is_by_deadline:
            self.let_due_jobs_leave(now)
        while self.open_window(now):
            pass

    def join(self, job: int) -> None:
        arrival = self.arrivals[job]
        # Without a deadline the oldest is first; those with the same key go by their number.
        key = arrival.need_by if self.is_by_deadline and arrival.need_by else arrival.at
        heappush(self.waiting, (key, job))
        heappush(self.by_age, job)
        self.waits[job] = True

    def let_due_jobs_leave(self, now: datetime) -> None:
        last = self.deadlines.past_last_ride(now)
        while self.waiting and self.waiting[0][0] <= last:
            _, job = heappop(self.waiting)
            self.waits[job] = False
            self.runs_now[job] = True
            self.set_off_at[job] = self.set_off_at[job] or now
            self.answered_at[job] = now + self.sync_takes

    def open_window(self, now: datetime) -> bool:
        """Open a window, if the policy says so; True when one was.

        Only strategy deadline brings jobs back here, and its queue opens for their age anyway, ridden or not.
        """
        while self.by_age and not self.waits[self.by_age[0]]:
            heappop(self.by_age)
        oldest = self.by_age[0] if self.by_age else None
        first = self.waiting[0][1] if self.waiting else None
        state = QueueState(
            self.policy.strategy, len(self.waiting), self.policy.size, self.policy.max_wait_seconds,
            oldest_queued_at=None if oldest is None else self.moments[oldest],
            has_room=first is None or self.has_room(self.arrivals[first].most_input_tokens),
        )  # fmt: skip
        self.opens_at = state.opens_at
        judged = readiness(state, now)
        return judged.ready and self.claim(now, judged.take, judged.reason)

    def has_room(self, tokens: int) -> bool:
        most = self.limits.enqueued_tokens
        return not most or not self.enqueued_tokens or self.enqueued_tokens + tokens <= most

    def claim(self, now: datetime, take: int, reason: str) -> bool:
        """Take the first `take` jobs, as far as they fit; False when not even the first does."""
        first = [heappop(self.waiting) for _ in range(take)]
        fitting = self.count_fitting([job for _, job in first])
        for left in first[fitting:]:
            heappush(self.waiting, left)
        jobs = [job for _, job in first[:fitting]]
        if not jobs:
            return False
        for job in jobs:
            self.waits[job] = False
            self.set_off_at[job] = self.set_off_at[job] or now
        self.enqueued_tokens += sum(self.arrivals[job].most_input_tokens for job in jobs)
        ends_at = now + self.batch_takes
        if self.is_by_deadline:
            ends_at = min(ends_at, self.deadlines.cut_off(first[0][0]))
        heappush(self.out, (ends_at, len(self.windows), jobs))
        self.windows.append(Window(now, reason, tuple(self.arrivals[job].key for job in jobs), None))
        return True

    def count_fitting(self, jobs: Sequence[int]) -> int:
        most_bytes, most_tokens = self.limits.window_bytes, self.limits.enqueued_tokens
        if most_bytes is None and most_tokens is None:
            return len(jobs)
        filled, tokens = 0, self.enqueued_tokens
        for place, job in enumerate(jobs):
            arrival = self.arrivals[job]
            filled += arrival.body_bytes + self.limits.line_overhead_bytes
            tokens += arrival.most_input_tokens
            rides_alone = place == 0 and not self.enqueued_tokens  # the provider may judge it
            if most_bytes and filled > most_bytes:
                return place
            if most_tokens and tokens > most_tokens and not rides_alone:
                return place
        return len(jobs)

    def end_window(self, now: datetime) -> None:
        """The first window under way has its answers, or is cut off and gives its jobs back."""
        ends_at, number, jobs = heappop(self.out)
        window = self.windows[number]
        answered_at = window.opened_at + self.batch_takes
        self.enqueued_tokens -= sum(self.arrivals[job].most_input_tokens for job in jobs)
        if answered_at <= now:
            for job in jobs:
                self.answered_at[job] = answered_at
            return
        self.windows[number] = window._replace(cut_off_at=ends_at)
        for job in jobs:
            self.join(job)

    def bring_answers(self) -> None:
        """What is under way when the simulation ends is answered later, unless a cut-off comes first."""
        for ends_at, number, jobs in self.out:
            answered_at = self.windows[number].opened_at + self.batch_takes
            for job in jobs if ends_at >= answered_at else ():
                self.answered_at[job] = answered_at

    def courses(self) -> list[Course]:
        rows = zip(self.arrivals, self.set_off_at, self.answered_at, map(bool, self.runs_now), strict=True)
        return [Course(*row) for row in rows]


@dataclass(frozen=True)
class Outcome:
    """One policy in figures. Seconds; USD. A job that still waits counts with the time that it has waited so far."""

    policy: Policy | None  # None: every job runs now
    jobs: int
    windows: int
    cut_off: int  # windows that were cancelled for their deadlines
    jobs_per_window: float | None
    mean_wait: float  # until the (first) window opened, or the job ran now
    p95_wait: float
    longest_wait: float
    mean_answer: float | None  # of the jobs that have one
    p95_answer: float | None
    still_waiting: int  # no window opened for them
    ran_now: int  # for their deadline
    late: int  # answered after their needBy, or not at all by then
    cost: Decimal | None  # of the priced jobs; those that still wait at the price of a batch. None: none is priced
    saved: Decimal | None  # against running all of them now
    unpriced: int  # jobs whose cost is unknown: not in `cost`, not in `saved`
    is_best: bool = False  # no other costs less and waits less


def judge(simulation: Simulation) -> Outcome:
    """The figures of one simulation of at least one arrival."""
    courses, until = simulation.courses, simulation.until
    waits = sorted(((c.set_off_at or max(until, c.arrival.at)) - c.arrival.at).total_seconds() for c in courses)
    answers = sorted((c.answered_at - c.arrival.at).total_seconds() for c in courses if c.answered_at)
    priced = [c for c in courses if c.arrival.sync_cost is not None and c.arrival.batch_cost is not None]
    all_now = sum((c.arrival.sync_cost or Decimal() for c in priced), Decimal())
    cost = sum(((c.arrival.sync_cost if c.runs_now else c.arrival.batch_cost) or Decimal() for c in priced), Decimal())
    windows = simulation.windows
    return Outcome(
        policy=simulation.policy, jobs=len(courses), windows=len(windows),
        cut_off=sum(window.cut_off_at is not None for window in windows),
        jobs_per_window=sum(len(window.jobs) for window in windows) / len(windows) if windows else None,
        mean_wait=sum(waits) / len(waits), p95_wait=_p95(waits), longest_wait=waits[-1],
        mean_answer=sum(answers) / len(answers) if answers else None, p95_answer=_p95(answers) if answers else None,
        still_waiting=sum(c.set_off_at is None for c in courses),
        ran_now=sum(c.runs_now for c in courses) if simulation.policy else 0,
        late=sum(_is_late(c, until) for c in courses),
        cost=cost if priced else None, saved=all_now - cost if priced else None, unpriced=len(courses) - len(priced),
    )  # fmt: skip


def _p95(ordered: Sequence[float]) -> float:
    return ordered[ceil(0.95 * len(ordered)) - 1]


def _is_late(course: Course, until: datetime) -> bool:
    return course.arrival.need_by is not None and (course.answered_at or until) > course.arrival.need_by


def compare(
    arrivals: Sequence[Arrival], policies: Iterable[Policy], deadlines: Deadlines, turnaround: Turnaround, *,
    limits: Limits = Limits(), tick_seconds: float = 0,
) -> list[Outcome]:  # fmt: skip
    """Each policy on the same arrivals (at least one): all-now first, then by cost and mean wait.

    What never fills a window waits until a window of the most patient policy would have brought its answer: no
    policy looks quick because the arrivals end.
    """
    policies = list(policies)
    patience = max((policy.max_wait_seconds for policy in policies), default=0)
    last = max(arrival.at for arrival in arrivals)
    until = last + timedelta(seconds=patience + turnaround.batch_seconds + tick_seconds)
    latest = max(until, max((arrival.need_by for arrival in arrivals if arrival.need_by), default=until))
    outcomes = [
        judge(simulate(
            arrivals, policy, deadlines, turnaround, latest if policy.strategy is BatchStrategy.DEADLINE else until,
            limits=limits, tick_seconds=tick_seconds,
        ))
        for policy in policies
    ]  # fmt: skip
    outcomes.sort(key=lambda o: (o.cost is None, o.cost or Decimal(), o.mean_wait))
    rows = [judge(run_all_now(arrivals, turnaround, until)), *outcomes]
    return [replace(row, is_best=_is_unbeaten(row, rows)) for row in rows]


def _is_unbeaten(row: Outcome, rows: Iterable[Outcome]) -> bool:
    if row.cost is None:
        return False
    own = (row.cost, row.mean_wait)
    others = ((other.cost, other.mean_wait) for other in rows if other.cost is not None)
    return not any(cost <= own[0] and wait <= own[1] and (cost, wait) != own for cost, wait in others)


def generate(
    rate: float, hours: float, seed: int, start: datetime, *, share: Callable[[datetime], float]
) -> Iterator[datetime]:
    """Moments of arrival from `start` on: at random, on average `rate` an hour times `share` of the moment (0 to 1).

    The same seed gives the same moments.
    """
    dice, at = random.Random(seed), 0.0  # noqa: S311  (no secret)
    while (at := at + dice.expovariate(rate / 3600)) < hours * 3600:
        moment = start + timedelta(seconds=at)
        if dice.random() < share(moment):
            yield moment


def office_share(moment: datetime) -> float:
    """The share of the jobs that come at this moment, of local time: all from Monday to Friday, 8 to 18, else few."""
    return 1.0 if moment.weekday() < 5 and 8 <= moment.hour < 18 else QUIET
