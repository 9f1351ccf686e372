"""Read-only questions about queues and windows: which there are, what became of their items, what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session, aliased, joinedload

from webapp.domain.errors import NotFound
from webapp.domain.states import TERMINAL_WINDOWS, ExecutionMode, ItemOutcome, WindowStatus
from webapp.models import BatchItem, BatchWindow, Job, LedgerEntry, Queue, WindowEvent

WINDOWS_PAGE = 20
ITEMS_PAGE = 100
OPEN = "open"  # an item without an outcome
ATTENTION = "attention"  # windows that do not add up, whatever their status


def list_windows(
    session: Session, *, queue_id: int | None = None, which: WindowStatus | str | None = None,
    before: int | None = None, size: int = WINDOWS_PAGE,
) -> tuple[list[BatchWindow], int | None]:  # fmt: skip
    """(the newest windows with their queue, the `before` of the next page, if any): of one queue, of one status, or
    (`which` ATTENTION) those that need attention."""
    statement = select(BatchWindow).options(joinedload(BatchWindow.queue)).order_by(BatchWindow.id.desc())
    if queue_id is not None:
        statement = statement.where(BatchWindow.queue_id == queue_id)
    if which is not None:
        statement = statement.where(*_are(which))
    if before is not None:
        statement = statement.where(BatchWindow.id < before)
    found = list(session.scalars(statement.limit(size + 1)))
    return found[:size], found[size - 1].id if len(found) > size else None


def _are(which: WindowStatus | str) -> list[ColumnElement[bool]]:
    """An unfinished window is found among the few that are, not among all of them."""
    if which == ATTENTION:
        return [BatchWindow.needs_attention.is_not(None)]
    status = WindowStatus(which)
    is_over = BatchWindow.finished_at.is_not(None) if status in TERMINAL_WINDOWS else BatchWindow.finished_at.is_(None)
    return [BatchWindow.status == status, is_over]


def window_items(
    session: Session, window_id: int, *, outcome: ItemOutcome | str | None = None, after: int = 0,
    size: int = ITEMS_PAGE,
) -> tuple[list[Any], int | None]:  # fmt: skip
    """(rows of (item, status of its job) in order of the jobs, the `after` of the next page, if any); of one outcome,
    or OPEN."""
    items = (
        select(BatchItem)
        .where(BatchItem.window_id == window_id, BatchItem.job_id > after)
        .order_by(BatchItem.job_id)
        .limit(size + 1)
    )
    if outcome is not None:
        items = items.where(BatchItem.outcome == (None if outcome == OPEN else ItemOutcome(outcome)))
    # First the page, then what its jobs are: joined as a whole, all jobs before the window's might be read.
    page = aliased(BatchItem, items.subquery())
    status = select(Job.status).where(Job.id == page.job_id).scalar_subquery()
    found = list(session.execute(select(page, status).order_by(page.job_id)))
    return found[:size], found[size - 1][0].job_id if len(found) > size else None


def get_window(session: Session, window_id: int) -> BatchWindow:
    """Raises NotFound."""
    window = session.get(BatchWindow, window_id, options=[joinedload(BatchWindow.queue)])
    if window is None:
        raise NotFound
    return window


def get_queue(session: Session, queue_id: int) -> Queue:
    """Raises NotFound."""
    queue = session.get(Queue, queue_id)
    if queue is None:
        raise NotFound
    return queue


def list_all_queues(session: Session) -> list[Queue]:
    """Every queue there ever was (a few for each profile), in which jobs wait or not."""
    return list(session.scalars(select(Queue).order_by(Queue.profile_id, Queue.id)))


@dataclass(frozen=True)
class CostLine:
    reason: str  # answer | discarded | refused | answer_lost
    entries: int
    amount: Decimal | None  # USD known; None when nothing is
    unknown: int


def window_costs(session: Session, window_id: int) -> list[CostLine]:
    """What the answers of this window cost, by what became of them."""
    rows = session.execute(
        select(LedgerEntry.reason, func.count(), func.sum(LedgerEntry.amount),
               func.count().filter(LedgerEntry.amount.is_(None)))
        .join(BatchItem, and_(BatchItem.job_id == LedgerEntry.job_id, BatchItem.attempt == LedgerEntry.attempt))
        .where(BatchItem.window_id == window_id, LedgerEntry.execution_mode == ExecutionMode.BATCH)
        .group_by(LedgerEntry.reason)
        .order_by(LedgerEntry.reason)
    )  # fmt: skip
    return [CostLine(*row) for row in rows]


def window_events(session: Session, window_id: int) -> list[WindowEvent]:
    """Oldest first."""
    statement = select(WindowEvent).where(WindowEvent.window_id == window_id)
    return list(session.scalars(statement.order_by(WindowEvent.at, WindowEvent.id)))


def window_outcomes(session: Session, window_id: int) -> dict[str, int]:
    """{outcome: items}, OPEN for those without one."""
    rows = session.execute(
        select(BatchItem.outcome, func.count()).where(BatchItem.window_id == window_id).group_by(BatchItem.outcome)
    )
    return {outcome.value if outcome else OPEN: count for outcome, count in rows}
