"""What administrators do to queues, windows and jobs. Each deed leaves a row in the audit: who, what, and why.

A hold and a cancelling are wishes on the row; what follows from them is the windows' own business.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import InvalidMove, NotFound
from webapp.domain.states import TERMINAL_WINDOWS, JobStatus
from webapp.models import BatchItem, BatchWindow, Job, User
from webapp.services import jobs, lifecycle, retries
from webapp.services.audit import audit
from webapp.services.batches import lock_queue, open_window
from webapp.services.clock import clock
from webapp.services.registry import Profiles
from webapp.services.windows import end_cancelled_unsent


def hold_queue(session: Session, queue_id: int, *, user: User, reason: str) -> None:
    """Open no window from this queue until it is resumed. Commits. Raises NotFound, InvalidInput, InvalidMove."""
    queue = lock_queue(session, queue_id)
    if queue.held_at:
        raise _moved_on(session, "This queue is held already.")
    queue.held_at = clock(session)
    audit(session, user, "hold_queue", f"queue:{queue_id}", reason)
    session.commit()


def resume_queue(session: Session, queue_id: int, *, user: User, reason: str) -> None:
    """Let a held queue open windows again, at once if it is due. Commits. Raises as `hold_queue`."""
    queue = lock_queue(session, queue_id)
    if queue.held_at is None:
        raise _moved_on(session, "This queue is not held.")
    queue.held_at = None
    audit(session, user, "resume_queue", f"queue:{queue_id}", reason)
    session.commit()


def flush_queue(
    session: Session, settings: Settings, profiles: Profiles, queue_id: int, *, user: User, reason: str
) -> BatchWindow:
    """Open a window now with the jobs that wait, full or not. Commits.

    Raises NotFound, InvalidInput, or InsufficientJobs when none waits or the queue is held.
    """
    audit(session, user, "flush_queue", f"queue:{queue_id}", reason)
    return open_window(session, settings, profiles, queue_id=queue_id, flush=True, actor=f"user:{user.id}")


def cancel_window(session: Session, window_id: int, *, cancels_jobs: bool, user: User, reason: str) -> None:
    """Wish the end of a window. What the provider finished counts; the other jobs go back to their queue, which is
    held, or (`cancels_jobs`) are cancelled, too. Commits.

    Raises NotFound, InvalidInput, or InvalidMove when the window has ended.
    """
    window = session.scalars(
        select(BatchWindow).where(BatchWindow.id == window_id).with_for_update(of=BatchWindow)
        .execution_options(populate_existing=True)
    ).one_or_none()  # fmt: skip
    if window is None:
        raise NotFound(f"There is no window {window_id}.")
    if window.status in TERMINAL_WINDOWS:
        raise _moved_on(session, f"Window {window_id} has ended ({window.status}).")
    now = clock(session)
    window.cancel_requested_at = window.cancel_requested_at or now
    window.cancels_jobs = cancels_jobs
    window.due_at = min(window.due_at, now)
    detail = {"jobs": "cancelled" if cancels_jobs else "back to the queue, which is held"}
    if not cancels_jobs:
        queue = lock_queue(session, window.queue_id)
        queue.held_at = queue.held_at or now
    lifecycle.write_window_event(
        session, window_id, "cancel_requested", now=now, actor=f"user:{user.id}", detail=detail
    )
    audit(session, user, "cancel_window", f"window:{window_id}", reason, detail)
    session.commit()
    end_cancelled_unsent(session)


def cancel_job(session: Session, job_id: int, *, user: User, reason: str) -> None:
    """Withdraw somebody's job that nobody has started. Commits.

    Raises NotFound, InvalidInput, or InvalidMove once it is under way or has ended.
    """
    actor = f"user:{user.id}"
    now = clock(session)
    if not lifecycle.move_job(session, job_id, JobStatus.CANCELLED, now=now, actor=actor, reason="cancelled"):
        status = session.scalars(select(Job.status).where(Job.id == job_id)).one_or_none()
        if status is None:
            raise NotFound
        raise _moved_on(session, f"This job is {status} and cannot be cancelled any more.")
    audit(session, user, "cancel_job", f"job:{job_id}", reason)
    session.commit()


def retry_job(session: Session, job_id: int, *, user: User, reason: str) -> int:
    """Repeat a job that ended without an answer, as a new job of its user. Commits. Returns the new id.

    Raises NotFound, InvalidInput or InvalidMove.
    """
    locked = session.execute(select(Job.id).where(Job.id == job_id).with_for_update()).scalar_one_or_none()
    if locked is None:
        raise NotFound
    under_way = select(Job.id).where(Job.retry_of == job_id, Job.finished_at.is_(None)).limit(1)
    if (other := session.execute(under_way).scalar_one_or_none()) is not None:
        raise _moved_on(session, f"Job {other} repeats it already.")
    repeated = jobs.retry_jobs(session, [job_id], actor=f"user:{user.id}")
    if repeated.left_out:
        raise _moved_on(session, repeated.left_out[job_id])
    [new_id] = repeated.new_ids
    audit(session, user, "retry_job", f"job:{job_id}", reason, {"newJob": new_id})
    session.commit()
    return new_id


def retry_window(session: Session, window_id: int, *, user: User, reason: str) -> jobs.Repeated:
    """Repeat every job that failed or expired in this window and was not repeated yet. Commits.

    A job that cannot be repeated is left out. Raises NotFound, InvalidInput, or InvalidMove when there is none that
    can.
    """
    if session.get(BatchWindow, window_id) is None:
        raise NotFound(f"There is no window {window_id}.")
    ended = session.scalars(
        select(Job.id)
        .join(BatchItem, BatchItem.job_id == Job.id)
        .where(
            BatchItem.window_id == window_id, BatchItem.attempt == Job.attempt,
            Job.status.in_([JobStatus.FAILED, JobStatus.EXPIRED]),
        )
    ).all()  # fmt: skip
    failed = retries.lock_unrepeated(session, ended)
    if not failed:
        raise _moved_on(session, "No job of this window failed that was not repeated already.")
    repeated = jobs.retry_jobs(session, failed, actor=f"user:{user.id}")
    if not repeated.new_ids:
        raise _moved_on(session, repeated.left_out[failed[0]])
    detail = {"repeated": len(repeated.new_ids), "leftOut": list(repeated.left_out)}
    audit(session, user, "retry_window", f"window:{window_id}", reason, detail)
    session.commit()
    return repeated


def _moved_on(session: Session, message: str) -> InvalidMove:
    session.rollback()
    return InvalidMove(message)
