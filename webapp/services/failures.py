"""n8n's error workflow reports an execution that failed or crashed."""

from __future__ import annotations

import logging

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.states import JobStatus
from webapp.models import ExecutionFailure, Job
from webapp.services import ledger
from webapp.services.clock import clock
from webapp.services.dispatch import give_up_attempt

log = logging.getLogger(__name__)

MAX_TEXT = 500


def record_failed_execution(
    session: Session, settings: Settings, *,
    execution_id: str | None, workflow: str | None, last_node: str | None, message: str | None,
) -> None:  # fmt: skip
    """Keep the report (once: n8n reports a crash twice) and give up the attempt that the execution owned. Commits.

    This only hurries: without it the attempt's lease would end by itself. The execution is over, so nobody else
    will answer for the attempt; whether the provider was paid is unknown.
    """
    if execution_id is None:
        log.error("workflow %s failed before it began: %s", workflow, (message or "")[:MAX_TEXT])
        return
    now = clock(session)
    is_new = session.execute(
        insert(ExecutionFailure)
        .values(
            execution_id=execution_id, workflow=(workflow or "")[:MAX_TEXT], last_node=(last_node or "")[:MAX_TEXT],
            message=(message or "").replace("\x00", "")[:MAX_TEXT], reported_at=now,
        )
        .on_conflict_do_nothing()
        .returning(ExecutionFailure.execution_id)
    ).scalar_one_or_none()  # fmt: skip
    job = session.scalars(
        select(Job)
        .where(Job.execution_id == execution_id, Job.status == JobStatus.PROCESSING, Job.lease_until.is_not(None))
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if is_new and job:
        ledger.record_lost_answer(session, job, now)
        give_up_attempt(
            session, settings, job, now=now, actor=f"n8n:{execution_id}", code="execution_failed",
            message="The n8n execution of this job failed before it came back with an answer.",
        )  # fmt: skip
    session.commit()
