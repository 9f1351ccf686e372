"""Why is it waiting? From what the rows say to one sentence: for the job page, the API and the admin page.

Pure: no clock and no database. `show` writes a moment as people read it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from webapp.domain.policy import Deadlines, QueueState
from webapp.domain.states import TERMINAL_AT_PROVIDER, JobStatus, WindowStatus

Show = Callable[[datetime], str]


class JobRow(Protocol):
    """The columns that decide (models/job.py says what each means)."""

    status: JobStatus
    attempt: int
    need_by: datetime | None
    dispatched_at: datetime | None
    not_before: datetime | None


class WindowRow(Protocol):
    """The columns that decide (models/batch.py says what each means)."""

    id: int
    status: WindowStatus
    due_at: datetime
    lease_step: str | None
    create_offered_at: datetime | None
    provider_status: str | None
    problem: str | None
    cancel_requested_at: datetime | None
    cut_off_at: datetime | None
    expires_at: datetime | None


def why_waiting(
    job: JobRow, queue: QueueState | None, window: WindowRow | None, deadlines: Deadlines, now: datetime, show: Show
) -> str:
    """For the person who looks at a job; "" when it has ended."""
    match job.status:
        case JobStatus.CREATED:
            return _why_not_started(job, now, show)
        case JobStatus.QUEUED if queue:
            sentence = why_queue_waits(queue, now, show)
            if job.need_by:
                last_ride = show(deadlines.last_ride(job.need_by))
                sentence += f" It is needed by {show(job.need_by)}: if no window took it by {last_ride}, it runs then."
            return sentence
        case JobStatus.CLAIMED | JobStatus.PROCESSING if window:
            return why_window_waits(window, now, show)
        case JobStatus.PROCESSING:
            return "The provider is working on it."
    return ""


def _why_not_started(job: JobRow, now: datetime, show: Show) -> str:
    near = "Its deadline is near, so it left the batch. " if job.need_by else ""
    if job.not_before and job.not_before > now:
        return f"{near}The last attempt did not work; attempt {job.attempt} starts at {show(job.not_before)}."
    if job.dispatched_at:
        return f"{near}It was handed to n8n, which has not started it yet."
    return f"{near}It waits for its turn: as many jobs as allowed are running now."


def why_queue_waits(queue: QueueState, now: datetime, show: Show) -> str:
    """Why a queue opens no window, or when it will."""
    wait = f"{queue.queued} of {queue.size} jobs wait"
    if queue.queued > queue.size:
        wait = f"{queue.queued} jobs wait for windows of {queue.size}"
    if queue.is_held:
        return f"{wait}; an administrator holds this queue."
    if queue.queued == 0:
        return "No job waits."
    if queue.not_before and queue.not_before > now:
        return f"{wait}; the provider asked for a pause until {show(queue.not_before)}."
    if not queue.has_room:
        return f"{wait}; the provider has no room for more tokens of this model until another window ends."
    if queue.queued >= queue.size:
        return f"A full window of {queue.size} jobs is about to open."
    if queue.opens_at and queue.opens_at > now:
        return f"{wait}; a window opens when it is full, or at {show(queue.opens_at)}."
    if queue.opens_at:
        return f"{wait}; the wait is over, a window is about to open."
    return f"{wait}; a window opens when it is full."


def why_window_waits(window: WindowRow, now: datetime, show: Show) -> str:
    """What a window that has not ended is waiting for; "" when it has."""
    name = f"Window {window.id}"
    again = f" It is tried again at {show(window.due_at)}." if window.due_at > now else " It is tried again now."
    trouble = f" {_sentence(window.problem)}{again}" if window.problem else ""
    said = (window.provider_status or "nothing yet").replace("_", " ")
    match window.status:
        case WindowStatus.OPEN if window.cancel_requested_at:
            return f"{name} is being cancelled; first it is made sure that the provider does not have it.{trouble}"
        case WindowStatus.OPEN if window.create_offered_at and window.lease_step != "create":
            return f"It is not known yet whether the provider has window {window.id}: its answer got lost.{trouble}"
        case WindowStatus.OPEN if trouble:
            return f"{name} could not be handed to the provider yet.{trouble}"
        case WindowStatus.OPEN:
            return f"{name} is being handed to the provider."
        case WindowStatus.SUBMITTED if window.provider_status in TERMINAL_AT_PROVIDER:
            return f"The provider is done with window {window.id}; its results are being fetched.{trouble}"
        case WindowStatus.SUBMITTED if window.cancel_requested_at:
            return f"{name} is being cancelled at the provider (it says: {said}); what it finishes counts.{trouble}"
        case WindowStatus.SUBMITTED:
            more = ""
            if window.cut_off_at:
                more = f" At {show(window.cut_off_at)} it is cancelled, and what is due runs now."
            elif window.expires_at and window.expires_at < now:
                more = " Its time is over, but the provider goes on; cancelling it would keep what is done."
            return f"The provider works on window {window.id} (it says: {said}).{more}{trouble}"
    return ""


def _sentence(words: str) -> str:
    return words if words.endswith((".", "!", "?")) else f"{words}."
