"""Sync runs: hand a job to n8n, let exactly one execution start it, notice attempts that never came back.

Record, commit, call, never trust the answer: what n8n does shows when it calls `start`. A job that n8n never
started stays `created` and is dispatched again after a back-off.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from webapp.config import Settings
from webapp.domain import traces
from webapp.domain.backoff import back_off_seconds
from webapp.domain.errors import InvalidMove, NotFound, UnavailableService
from webapp.domain.profiles import canonical_run, map_payload
from webapp.domain.states import ExecutionMode, JobStatus
from webapp.gateways.n8n import N8n
from webapp.models import Job, JobRequest, User
from webapp.services import ledger, lifecycle
from webapp.services.clock import NOW, clock
from webapp.services.prepared import prepared
from webapp.services.registry import Profiles

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 16  # to n8n
DISPATCH_LOCK = 7_301  # advisory: counting what is in flight and adding to it is one step


_asked = prepared(select(NOW, JobRequest.endpoint, JobRequest.body).where(JobRequest.job_id == bindparam("job_id")))


def dispatch_due(
    session: Session, settings: Settings, profiles: Profiles, n8n: N8n, *, only: Sequence[int] | None = None
) -> int:
    """Hand the sync jobs that are due to n8n, oldest first (`only`: just these). Returns how many were taken up.

    Commits before it calls n8n. At most MAX_SYNC_IN_FLIGHT jobs are dispatched and unfinished, and not many more are
    taken up here: those that end meanwhile make room for the next.
    """
    is_away = threading.Event()

    def hand_over(call: tuple[str, dict[str, Any]]) -> None:
        webhook_path, payload = call
        if is_away.is_set():
            return  # it would wait for nothing; it is dispatched again, too
        header = traces.traceparent(settings.public_url, "jobs", payload["jobId"])
        with bound_contextvars(job_id=payload["jobId"], trace_id=traces.trace_id(header)):
            try:
                n8n.run(webhook_path, payload, header)
                log.info("dispatched")
            except UnavailableService as error:
                log.warning("job %s was not taken, it will be dispatched again: %s", payload["jobId"], error)
                if error.is_unreachable:
                    is_away.set()

    calls = _take_up(session, settings, profiles, only)
    if len(calls) == 1:
        hand_over(calls[0])
        return 1
    taken: list[Future[None]] = []
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:  # while n8n answers one call it can take the next
        while calls:
            taken += [pool.submit(hand_over, call) for call in calls]
            while len(under_way := [one for one in taken if not one.done()]) > CALLS_AT_ONCE // 2:
                wait(under_way, return_when=FIRST_COMPLETED)
            is_over = is_away.is_set() or len(taken) >= settings.max_sync_in_flight
            calls = [] if is_over else _take_up(session, settings, profiles, only)
    for one in taken:
        one.result()  # what nobody foresaw is raised here
    return len(taken)


def _take_up(
    session: Session, settings: Settings, profiles: Profiles, only: Sequence[int] | None
) -> list[tuple[str, dict[str, Any]]]:
    """The calls of the next few jobs, which are marked as dispatched. Commits."""
    job_ids = _mark_dispatched(session, settings, only)
    rows = session.execute(
        select(Job, User.email).join(User, User.id == Job.user_id).where(Job.id.in_(job_ids)).order_by(Job.id)
    ).all()
    calls = [_call(session, settings, profiles, job, email) for job, email in rows]
    session.commit()
    return calls


def start_attempt(
    session: Session, settings: Settings, *, job_id: int, attempt: int, execution_id: str
) -> tuple[str, str]:
    """An n8n execution takes the attempt: (provider URL, request body as JSON text). Commits.

    Exclusive: the first execution owns the attempt, the same one asking again gets the same answer.
    Raises InvalidMove for any other, NotFound for an unknown job.
    """
    found = _asked(session, job_id=job_id)
    if not found:
        raise NotFound
    [(now, endpoint, body)] = found
    started = lifecycle.move_job(
        session, job_id, JobStatus.PROCESSING, now=now, actor=f"n8n:{execution_id}", reason="started",
        sources=[JobStatus.CREATED], attempt=attempt,
        values={
            "execution_id": execution_id,
            "lease_until": now + timedelta(seconds=settings.attempt_lease_seconds),
        },
    )  # fmt: skip
    session.commit()
    if not started:
        job = session.get_one(Job, job_id)
        if (job.status, job.attempt, job.execution_id) != (JobStatus.PROCESSING, attempt, execution_id):
            raise InvalidMove(f"Job {job_id} is {job.status} in attempt {job.attempt}; this attempt is not to be had.")
    assert body is not None  # retention deletes only those of ended jobs
    return provider_url(settings, endpoint), body


def provider_url(settings: Settings, endpoint: str) -> str:
    """`/v1/responses` below a base URL that already ends in `/v1` (OpenAI) or `/openai/v1` (Azure)."""
    return settings.openai_base_url + endpoint.removeprefix("/v1")


def end_overdue_attempts(session: Session, settings: Settings) -> int:
    """Give up the attempts whose lease has ended without an answer. Commits. Returns how many."""
    now = clock(session)
    overdue = session.scalars(
        select(Job)
        .where(Job.status == JobStatus.PROCESSING, Job.lease_until < now)
        .order_by(Job.id)
        .with_for_update(skip_locked=True)
    ).all()
    for job in overdue:
        ledger.record_lost_answer(session, job, now)
        give_up_attempt(
            session, settings, job, now=now, actor="heartbeat", code="answer_lost",
            message="n8n started this job but never came back with an answer.",
        )  # fmt: skip
    session.commit()
    return len(overdue)


def end_overdue_jobs(session: Session, settings: Settings) -> int:
    """Fail the sync jobs that wait for another attempt past their deadline. Commits. Returns how many.

    The deadline runs from the first start: a job that was never started waits on.
    """
    now = clock(session)
    message = "It could not be finished in time."
    last_start = now - timedelta(seconds=settings.sync_deadline_seconds)
    overdue = session.scalars(
        select(Job.id).where(Job.status == JobStatus.CREATED, Job.first_started_at <= last_start)
    ).all()
    ended = lifecycle.finish_jobs(
        session, overdue, JobStatus.FAILED, now=now, actor="heartbeat", reason=message,
        conditions=[Job.first_started_at <= last_start],
        values={"failure_code": "deadline", "failure_message": message},
    )  # fmt: skip
    session.commit()
    return len(ended)


def give_up_attempt(
    session: Session, settings: Settings, job: Job, *,
    now: datetime, actor: str, code: str, message: str, retry_after_seconds: float | None = None,
) -> JobStatus:  # fmt: skip
    """Repeat the job in a new attempt, or fail it when attempts or its deadline are used up. Does not commit."""
    first_started = job.first_started_at or now
    deadline = first_started + timedelta(seconds=settings.sync_deadline_seconds)
    wait = retry_after_seconds or back_off_seconds(job.attempt, first=2, most=60)
    not_before = now + timedelta(seconds=wait)
    if job.attempt < settings.max_attempts and not_before < deadline:
        lifecycle.move_job(
            session, job.id, JobStatus.CREATED, now=now, actor=actor, reason=message, attempt=job.attempt,
            sources=[JobStatus.PROCESSING], values={"attempt": job.attempt + 1, "not_before": not_before},
            detail={"code": code},
        )  # fmt: skip
        return JobStatus.CREATED
    tries = f" It was tried {job.attempt} times." if job.attempt > 1 else ""
    lifecycle.move_job(
        session, job.id, JobStatus.FAILED, now=now, actor=actor, reason=message, attempt=job.attempt,
        values={"failure_code": code, "failure_message": message + tries}, detail={"code": code},
    )  # fmt: skip
    return JobStatus.FAILED


def _mark_dispatched(session: Session, settings: Settings, only: Sequence[int] | None) -> list[int]:
    session.execute(select(func.pg_advisory_xact_lock(DISPATCH_LOCK)))
    now = clock(session)
    repeat_before = now - timedelta(seconds=settings.dispatch_backoff_seconds)
    in_flight = session.execute(
        select(func.count())
        .select_from(Job)
        .where(
            or_(
                and_(Job.status == JobStatus.PROCESSING, Job.lease_until.is_not(None)),
                and_(Job.status == JobStatus.CREATED, Job.dispatched_at > repeat_before),
            )
        )
    ).scalar_one()
    is_due = [Job.status == JobStatus.CREATED, or_(Job.not_before.is_(None), Job.not_before <= now)]
    if only is not None:
        is_due.append(Job.id.in_(only))
    room = min(max(settings.max_sync_in_flight - in_flight, 0), CALLS_AT_ONCE)
    # New jobs before repeated ones: a workflow that takes nothing must not keep the others from their turn.
    is_due.append(or_(Job.dispatched_at.is_(None), Job.dispatched_at <= repeat_before))
    turn = (Job.dispatched_at.nulls_first(), Job.need_by.nulls_last(), Job.id)
    due = select(Job.id).where(*is_due).order_by(*turn).limit(room).subquery()
    taken = session.execute(
        update(Job)
        .where(Job.id.in_(select(due.c.id)), Job.status == JobStatus.CREATED)
        .values(dispatched_at=now)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).scalars()
    return list(taken)


def _call(session: Session, settings: Settings, profiles: Profiles, job: Job, email: str) -> tuple[str, dict[str, Any]]:
    """(webhook path, payload): what the profile's map asks for, and what every workflow needs."""
    execution = profiles.live(session, job.profile_id).execution
    run = canonical_run(
        job.id, {"id": job.user_id, "email": email}, job.profile_id, ExecutionMode.SYNC, job.batch_strategy,
        job.inputs, job.created_at,
    )  # fmt: skip
    own = f"{settings.internal_url}/api/internal/jobs/{job.id}"
    return execution.webhook_path, {
        **map_payload(run, execution.payload_map),
        "jobId": job.id, "attempt": job.attempt, "callback": {"start": f"{own}/start", "result": f"{own}/result"},
    }  # fmt: skip
