"""Gather what `domain.waiting` needs to say why a job is waiting."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.states import TERMINAL_JOBS, BatchStrategy, JobStatus
from webapp.domain.waiting import Waiting
from webapp.models import BatchItem, BatchWindow, Job, Queue
from webapp.services.batches import queue_depth
from webapp.services.clock import clock
from webapp.services.registry import Profiles


def why_waiting(session: Session, settings: Settings, profiles: Profiles, job: Job) -> Waiting | None:
    """Why it waits (`.sentence`), None for a job that has ended."""
    if job.status in TERMINAL_JOBS:
        return None
    known: dict[str, Any] = {
        "status": job.status, "now": clock(session), "dispatched_at": job.dispatched_at, "not_before": job.not_before,
        "attempt": job.attempt,
    }  # fmt: skip
    moment = job.not_before
    if job.status is JobStatus.QUEUED and job.queue_id:
        queue = session.get_one(Queue, job.queue_id)
        depth = queue_depth(session, settings, profiles, queue)
        may_wait_end = queue.strategy is BatchStrategy.COUNT_OR_WAIT or depth.has_ridden
        opens_at = depth.oldest_queued_at + timedelta(seconds=depth.max_wait_seconds) if may_wait_end else None
        is_paused = queue.not_before is not None and queue.not_before > known["now"]
        moment = queue.not_before if is_paused else opens_at
        known |= {
            "queued": depth.queued, "size": depth.size, "opens_at": opens_at, "is_held": queue.held_at is not None,
            "not_before": queue.not_before,
        }  # fmt: skip
    elif job.queue_id:
        window = session.execute(
            select(BatchWindow.id, BatchWindow.provider_status)
            .join(BatchItem, BatchItem.window_id == BatchWindow.id)
            .where(BatchItem.job_id == job.id, BatchItem.outcome.is_(None))
        ).one_or_none()
        if window:
            known |= {"window_id": window.id, "provider_status": window.provider_status}
    time_of = moment.astimezone(settings.zone).strftime("%H:%M:%S") if moment else ""
    return Waiting(**known, time_of=time_of)
