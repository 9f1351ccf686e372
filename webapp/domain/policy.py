"""When may a window open? One pure function; `services/batches.py` asks it under the queue's lock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from webapp.domain.states import BatchStrategy


@dataclass(frozen=True)
class QueueState:
    """What a policy needs to know of one queue. `queued` may stop counting at `size` (more does not matter)."""

    strategy: BatchStrategy
    queued: int
    size: int  # jobs in a full window
    max_wait_seconds: int
    oldest_age_seconds: float | None = None
    has_ridden: bool = False  # a job in the queue has been in a window before: it counts as overdue
    is_held: bool = False
    not_before: datetime | None = None


@dataclass(frozen=True)
class Readiness:
    ready: bool
    take: int  # how many jobs the window takes when it is ready
    reason: str  # full | waited | held | not_before | short | empty


def readiness(queue: QueueState, now: datetime) -> Readiness:
    """Judge one queue at `now` (aware)."""
    if queue.is_held:
        return Readiness(False, 0, "held")
    if queue.not_before and now < queue.not_before:
        return Readiness(False, 0, "not_before")
    if queue.queued == 0:
        return Readiness(False, 0, "empty")
    if queue.queued >= queue.size:
        return Readiness(True, queue.size, "full")
    may_wait_end = queue.strategy is BatchStrategy.COUNT_OR_WAIT or queue.has_ridden
    if may_wait_end and (queue.oldest_age_seconds or 0) >= queue.max_wait_seconds:
        return Readiness(True, queue.queued, "waited")
    return Readiness(False, 0, "short")
