"""When may a window open, and when does it have to be over? `services/batches.py` asks under the queue's lock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from webapp.domain.states import BatchStrategy

WAITING_OPENS = frozenset({BatchStrategy.COUNT_OR_WAIT, BatchStrategy.DEADLINE})


@dataclass(frozen=True)
class QueueState:
    """What a policy needs to know of one queue. `queued` may stop counting at `size` (more does not matter)."""

    strategy: BatchStrategy
    queued: int
    size: int  # jobs in a full window
    max_wait_seconds: int
    oldest_queued_at: datetime | None = None
    has_ridden: bool = False  # the oldest job has been in a window before: it counts as overdue
    is_held: bool = False
    not_before: datetime | None = None
    has_room: bool = True  # the provider's allowance of enqueued tokens takes at least one more job

    @property
    def opens_at(self) -> datetime | None:
        """When the wait of the oldest job opens a window; None if only a full one does."""
        if self.oldest_queued_at is None or not (self.strategy in WAITING_OPENS or self.has_ridden):
            return None
        return self.oldest_queued_at + timedelta(seconds=self.max_wait_seconds)


@dataclass(frozen=True)
class Readiness:
    ready: bool
    take: int  # how many jobs the window takes when it is ready
    reason: str  # full | waited | flushed | held | not_before | no_room | short | empty


def readiness(queue: QueueState, now: datetime, *, flush: bool = False) -> Readiness:
    """Judge one queue at `now` (aware). `flush`: an operator wants what there is, without the wait."""
    if queue.is_held:
        return Readiness(False, 0, "held")
    if queue.queued == 0:
        return Readiness(False, 0, "empty")
    if flush:
        return Readiness(True, min(queue.queued, queue.size), "flushed")
    if queue.not_before and now < queue.not_before:
        return Readiness(False, 0, "not_before")
    if not queue.has_room:
        return Readiness(False, 0, "no_room")
    if queue.queued >= queue.size:
        return Readiness(True, queue.size, "full")
    if queue.opens_at and now >= queue.opens_at:
        return Readiness(True, queue.queued, "waited")
    return Readiness(False, 0, "short")


@dataclass(frozen=True)
class Deadlines:
    """Strategy `deadline`: how long before its `needBy` a job has to leave the batch. Both in seconds."""

    cancel_allowance: int  # what the provider may take to cancel
    sync_allowance: int  # what the job takes when it runs now

    def cut_off(self, need_by: datetime) -> datetime:
        """The last moment to ask the provider to cancel."""
        return self.last_call(need_by) - timedelta(seconds=self.cancel_allowance)

    def last_call(self, need_by: datetime) -> datetime:
        """From here on the job runs now, whatever its window does."""
        return need_by - timedelta(seconds=self.sync_allowance)

    def last_ride(self, need_by: datetime) -> datetime:
        """The last moment to join a window: one that is cut off sooner than it can be cancelled is worth nothing."""
        return self.cut_off(need_by) - timedelta(seconds=self.cancel_allowance)

    def past_last_ride(self, now: datetime) -> datetime:
        """Jobs needed by this moment, or earlier, join no window any more."""
        return now + timedelta(seconds=2 * self.cancel_allowance + self.sync_allowance)

    def past_last_call(self, now: datetime) -> datetime:
        """Jobs needed by this moment, or earlier, are past their last call."""
        return now + timedelta(seconds=self.sync_allowance)
