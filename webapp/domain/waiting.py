"""Why is this job waiting? From what is known of it to one sentence; no clock and no database here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from webapp.domain.states import JobStatus


@dataclass(frozen=True)
class Waiting:
    """What is known of a job that has not ended, and of its queue and window if it has them."""

    status: JobStatus
    now: datetime
    dispatched_at: datetime | None = None
    not_before: datetime | None = None
    attempt: int = 1
    # its queue
    queued: int = 0
    size: int = 0
    opens_at: datetime | None = None  # when the wait of the oldest job ends, if waiting can open a window
    is_held: bool = False
    # its window
    window_id: int | None = None
    provider_status: str | None = None
    # `opens_at`, else `not_before`, as people read it
    time_of: str = ""

    @property
    def sentence(self) -> str:
        return _sentence(self)


def _sentence(w: Waiting) -> str:
    """For the person who looks at the job."""
    match w.status:
        case JobStatus.CREATED if w.not_before and w.not_before > w.now:
            return f"The last attempt did not work; attempt {w.attempt} starts at {w.time_of}."
        case JobStatus.CREATED if w.dispatched_at:
            return "It was handed to n8n, which has not started it yet."
        case JobStatus.CREATED:
            return "It waits for its turn: as many jobs as allowed are running now."
        case JobStatus.QUEUED if w.is_held:
            return f"Its queue is held by an administrator; {w.queued} of {w.size} jobs wait."
        case JobStatus.QUEUED if w.not_before and w.not_before > w.now:
            return f"{w.queued} of {w.size} jobs wait; the provider asked for a pause until {w.time_of}."
        case JobStatus.QUEUED if w.queued >= w.size:
            return f"A full window of {w.size} jobs is about to open."
        case JobStatus.QUEUED if w.opens_at and w.opens_at > w.now:
            return f"{w.queued} of {w.size} jobs wait; a window opens when it is full, or at {w.time_of}."
        case JobStatus.QUEUED if w.opens_at:
            return f"{w.queued} of {w.size} jobs wait; the wait is over, a window is about to open."
        case JobStatus.QUEUED:
            return f"{w.queued} of {w.size} jobs wait; a window opens when it is full."
        case JobStatus.CLAIMED:
            return f"Window {w.window_id} is being handed to the provider."
        case JobStatus.PROCESSING if w.window_id:
            said = (w.provider_status or "nothing yet").replace("_", " ")
            return f"The provider works on window {w.window_id} (it says: {said})."
        case JobStatus.PROCESSING:
            return "The provider is working on it."
    return ""
