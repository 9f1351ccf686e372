"""What a database needs that was restored from a backup, before the system works on it again.

Since the backup was taken the provider has gone on, and so may have this system: there may be batches that no row
knows. docs/backup.md tells the whole procedure.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.states import ExecutionMode, WindowStatus
from webapp.models import BatchWindow, Job, Queue
from webapp.services import deadlines, lifecycle, windows
from webapp.services.clock import clock

MAYBE_BOUGHT = "A backup was restored; this window may have been bought since. Its jobs wait in a held queue."
# More than anybody makes between a backup and the day it is needed.
IDS_APART = 1_000_000
MOVE_IDS_ON = text(
    "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, coalesce(last_value, 0) + :apart)"
    " FROM pg_sequences WHERE schemaname = current_schema()"
)


@dataclass(frozen=True)
class Restored:
    held: int  # queues that are held now and were not before
    searched: list[int]  # windows whose batch may have been made since: it is looked for first
    ended: list[int]  # windows that may have been bought since with a file that no row knows: their jobs wait again
    unfinished: int  # sync jobs that will run, whatever became of them since
    due: int  # batch jobs that run now as well: a hold does not stop a deadline


def settle_restored(session: Session, settings: Settings) -> Restored:
    """Make a restored database safe to work on. Commits. Safe to do twice; nothing may run meanwhile.

    - Every queue is held: what is queued here may have been bought since, in a window that no row knows.
    - A window whose next step is create looks for its batch first, as after a create without an answer.
    - A window without an input file ends: a batch is found by that file, and this one's is in no row.
    - New ids start far after those of the backup: a job, window or custom_id never means two things.
    """
    now = clock(session)
    held = session.execute(update(Queue).where(Queue.held_at.is_(None)).values(held_at=now).returning(Queue.id)).all()
    is_not_created = (BatchWindow.status == WindowStatus.OPEN, BatchWindow.create_offered_at.is_(None))
    searched, ended = [], []
    for window in session.scalars(select(BatchWindow).where(*is_not_created).order_by(BatchWindow.id)).all():
        if window.input_file_id:
            searched.append(window.id)
            window.create_offered_at = window.create_lease_until = now
            windows.release_lease(window, due_at=now)
            lifecycle.write_window_event(session, window.id, "restored", now=now, actor="app")
        else:
            ended.append(window.id)
            window.cancel_requested_at = window.cancel_requested_at or now
            windows.end_unsent(session, window, WindowStatus.CANCELLED, MAYBE_BOUGHT, now=now)
    session.execute(MOVE_IDS_ON, {"apart": IDS_APART})
    is_sync = (Job.execution_mode == ExecutionMode.SYNC, Job.finished_at.is_(None))
    unfinished = session.scalar(select(func.count()).select_from(Job).where(*is_sync)) or 0
    due = session.scalar(select(func.count()).select_from(Job).where(*deadlines.are_due(settings, now))) or 0
    session.commit()
    return Restored(len(held), searched, ended, unfinished, due)
