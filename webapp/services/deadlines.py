"""Strategy `deadline`: a window is cancelled in time, and what is not back by its last call runs now.

Three moments for each `needBy` (domain/policy.py): after the *last ride* a queued job joins no window but runs now; at
the *cut-off* the provider is asked to cancel, so that finished
lines come back and the due jobs that it never ran run now; at the *last call* they run now, whatever the provider
does. What it still answers after that is used if it is first, else it is in the ledger as `discarded`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.rendering import to_json
from webapp.domain.states import ExecutionMode, JobStatus
from webapp.models import BatchItem, BatchWindow, Job, JobRequest
from webapp.services import lifecycle
from webapp.services.clock import clock

MOST_AT_ONCE = 1000  # jobs in one commit


def cut_off_windows(session: Session) -> int:
    """Ask for the cancelling of every window whose cut-off has come. Commits. Returns how many."""
    now = clock(session)
    cut = session.execute(
        update(BatchWindow)
        .where(
            BatchWindow.finished_at.is_(None), BatchWindow.cut_off_at <= now, BatchWindow.cancel_requested_at.is_(None)
        )
        .values(cancel_requested_at=now, due_at=now)
        .returning(BatchWindow.id)
    ).scalars().all()  # fmt: skip
    for window_id in cut:
        lifecycle.write_window_event(
            session, window_id, "cancel_requested", now=now, actor="heartbeat", detail={"because": "cut_off"}
        )
    session.commit()
    return len(cut)


def run_due_jobs_now(session: Session, settings: Settings) -> int:
    """Take the jobs whose time is running out out of the batch. Commits. Returns how many."""
    now = clock(session)
    moved = 0
    while due := session.scalars(
        select(Job.id).where(*are_due(settings, now)).order_by(Job.need_by, Job.id).limit(MOST_AT_ONCE)
    ).all():
        left = lifecycle.move_jobs_to_sync(
            session, due, now=now, actor="heartbeat", reason="its deadline is near: it left the batch and runs now"
        )
        _ask_sync_model(session, settings, left)
        session.commit()
        moved += len(left)
        if not left:
            break  # somebody else has them
    return moved


def are_due(settings: Settings, now: datetime) -> tuple[ColumnElement[bool], ...]:
    """The jobs whose time is running out: those that wait, even in a held queue, and those that ride."""
    deadlines = settings.deadlines
    is_cancelled_too = exists().where(
        BatchItem.job_id == Job.id, BatchItem.outcome.is_(None), BatchWindow.id == BatchItem.window_id,
        BatchWindow.cancels_jobs,
    )  # fmt: skip
    return (
        Job.execution_mode == ExecutionMode.BATCH, Job.need_by.is_not(None), Job.finished_at.is_(None),
        or_(
            and_(Job.status == JobStatus.QUEUED, Job.need_by <= deadlines.past_last_ride(now)),
            and_(
                Job.status.in_([JobStatus.CLAIMED, JobStatus.PROCESSING]),
                Job.need_by <= deadlines.past_last_call(now), ~is_cancelled_too,
            ),
        ),
    )  # fmt: skip


def _ask_sync_model(session: Session, settings: Settings, job_ids: Sequence[int]) -> None:
    """The same request, but for `model`: the one thing in which the two modes differ (Azure)."""
    if settings.sync_model == settings.batch_model or not job_ids:
        return
    requests = session.scalars(
        select(JobRequest).where(JobRequest.job_id.in_(job_ids), JobRequest.model == settings.batch_model)
    )
    for request in requests:
        body = json.loads(request.body or "{}") | {"model": settings.sync_model}
        request.body, request.model = to_json(body), settings.sync_model
        request.body_bytes = len(request.body.encode())
