"""Gather the rows that `domain.waiting` needs to say why a job is waiting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain import waiting
from webapp.domain.policy import QueueState
from webapp.domain.states import TERMINAL_JOBS, JobStatus
from webapp.models import BatchItem, BatchWindow, Job, Queue
from webapp.services.batches import queue_state
from webapp.services.clock import clock
from webapp.services.registry import Profiles


@dataclass(frozen=True)
class Waiting:
    sentence: str
    queue: QueueState | None  # of a job that is queued


def why_waiting(
    session: Session, settings: Settings, profiles: Profiles, job: Job, now: datetime | None = None, *,
    queue_age: float = 0,
) -> Waiting | None:  # fmt: skip
    """Why it waits; None for a job that has ended. `now` if the moment is known already; what its queue holds may be
    `queue_age` seconds old.
    """
    if job.status in TERMINAL_JOBS:
        return None
    queue = window = None
    now = now or clock(session)
    if job.status is JobStatus.QUEUED:

        def look() -> QueueState:
            return queue_state(session, settings, profiles, session.get_one(Queue, job.queue_id), now)

        queue = profiles.kept(f"queue:{job.queue_id}", queue_age, look) if queue_age else look()
    elif job.queue_id:
        window = session.scalars(
            select(BatchWindow)
            .join(BatchItem, BatchItem.window_id == BatchWindow.id)
            .where(BatchItem.job_id == job.id, BatchItem.outcome.is_(None))
        ).one_or_none()
    show = shown_in(settings, now)
    return Waiting(waiting.why_waiting(job, queue, window, settings.deadlines, now, show), queue)


def shown_in(settings: Settings, now: datetime) -> waiting.Show:
    """How moments are written in sentences: those of another day with their date."""

    def show(moment: datetime) -> str:
        local, today = moment.astimezone(settings.zone), now.astimezone(settings.zone).date()
        return local.strftime("%H:%M:%S" if local.date() == today else "%d %b %H:%M")

    return show
