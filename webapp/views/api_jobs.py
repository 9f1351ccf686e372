"""`/api/v1/jobs`."""

from __future__ import annotations

import re
from threading import BoundedSemaphore
from typing import Any

from flask import Response, current_app, g, request, url_for
from flask.typing import ResponseReturnValue

from webapp.domain.errors import NoResult
from webapp.domain.outputs import FILE_KINDS
from webapp.domain.states import TERMINAL_JOBS, ExecutionMode, JobStatus
from webapp.extensions import db
from webapp.models import Job, JobResult
from webapp.parts import parts
from webapp.services import awaiting, dispatch, job_lists, jobs, reporting, retries, waiting
from webapp.views import api_models as models
from webapp.views.api import bp, id_of, idempotency_key, once, read_body, read_query, replay_header, show

MOST_WAIT_SECONDS = 30


@bp.post("/jobs")
def create_job() -> ResponseReturnValue:
    wanted, made = read_body(models.NewJob), list[Any]()

    def make(remember: Any) -> str:
        made.append(jobs.create_job(
            db.session(), parts().settings, parts().profiles, parts().prices, user=g.user, profile_id=wanted.profile,
            values=wanted.inputs, then=(lambda job_id: remember(f"job:{job_id}")) if idempotency_key() else None,
            now=g.now,
        ))  # fmt: skip
        return f"job:{made[0].id}"

    return _made(*once(request.get_json(), make), *made)


@bp.get("/jobs")
def list_jobs() -> ResponseReturnValue:
    query = read_query(models.JobQuery)
    wanted = job_lists.Wanted(
        user_id=g.user.id, status=query.status, profile_id=query.profile, execution_mode=query.mode,
        submission_id=query.submission, created_after=query.created_after, created_before=query.created_before,
    )  # fmt: skip
    found, after = job_lists.find_jobs(db.session(), wanted, after=query.after, size=query.limit)
    return show(models.JobList(jobs=[models.JobLine(**_line(job)) for job in found], next=after))


@bp.get("/jobs/<int:job_id>")
def get_job(job_id: int) -> ResponseReturnValue:
    return show(_shown(_own(job_id)))


@bp.get("/jobs/<int:job_id>/result")
def get_result(job_id: int) -> ResponseReturnValue:
    job = _own(job_id)
    if job.result is None:
        said = job.failure_message or f"This job is {job.status}: it has no result" + (
            "." if job.status in TERMINAL_JOBS else " yet."
        )
        raise NoResult(said)
    output = job.profile_version.document.get("output", {}).get("type", "markdown")
    return Response(job.result.text, content_type=FILE_KINDS[output][1])


@bp.post("/jobs/<int:job_id>/cancel")
def cancel_job(job_id: int) -> ResponseReturnValue:
    jobs.cancel_job(db.session(), _own(job_id), actor=f"user:{g.user.id}")
    return show(_shown(_own(job_id)))


@bp.post("/jobs/<int:job_id>/retry")
def retry_job(job_id: int) -> ResponseReturnValue:
    wanted, job, session = read_body(models.Retry, needed=False), _own(job_id), db.session()

    def make(remember: Any) -> str:
        def then(new_id: int) -> None:
            remember(f"job:{new_id}")

        if wanted.inputs is None:
            return f"job:{retries.repeat_job(session, job_id, actor=f'user:{g.user.id}', then=then)}"
        new_id = retries.change_job(
            session, parts().settings, parts().profiles, parts().prices, user=g.user, job=job, changes=wanted.inputs,
            then=then,
        )  # fmt: skip
        return f"job:{new_id}"

    return _made(*once(wanted.model_dump(mode="json"), make))


def _made(target: str, is_replay: bool, job: Any = None) -> Response:
    """The job that was made: 202, or 200 when it has ended while the program waited."""
    job_id, session = id_of(target), db.session()
    job = job or _own(job_id)
    if not is_replay and job.execution_mode is ExecutionMode.SYNC:
        dispatch.dispatch_due(session, parts().settings, parts().profiles, parts().n8n, only=[job_id])
        job = _own(job_id)
    headers = {"Location": url_for("api.get_job", job_id=job_id), **replay_header(is_replay)}
    seconds = _wished_seconds()
    if seconds and job.execution_mode is ExecutionMode.SYNC and _wait(job_id, seconds):
        headers["Preference-Applied"] = f"wait={seconds}"
        job = _own(job_id)
    if seconds and job.status in TERMINAL_JOBS:
        return show(_shown(job), 200, headers)
    is_new = job.status in (JobStatus.CREATED, JobStatus.QUEUED) and job.attempt == 1
    return show(_just_made(job) if is_new else _shown(job), 202, headers)


def _wished_seconds() -> int:
    """Of `Prefer: wait=30`; 0 without it."""
    found = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", request.headers.get("Prefer", ""), re.IGNORECASE)
    return min(int(found[1]), MOST_WAIT_SECONDS) if found else 0


def _wait(job_id: int, seconds: int) -> bool:
    """Whether there was a seat: at most a quarter of the threads wait, so that the others serve everybody else."""
    threads = parts().settings.database_pool_size  # a connection for each
    seats = current_app.extensions.setdefault("sluice_seats", BoundedSemaphore(max(1, threads // 4)))
    if not seats.acquire(blocking=False):
        return False
    try:
        awaiting.await_end(db.session(), job_id, seconds)
    finally:
        seats.release()
    return True


def _own(job_id: int) -> Job:
    """A token reaches its user's own jobs, an admin's token, too. Raises NotFound."""
    return jobs.get_job(db.session(), job_id, user_id=g.user.id)


def fault_of(job: Any) -> models.Fault | None:
    return models.Fault(code=job.failure_code, message=job.failure_message) if job.failure_message else None


def _line(job: Any) -> dict[str, Any]:
    return {
        "id": job.id, "profile": job.profile_id, "status": job.status, "execution_mode": job.execution_mode,
        "batch_strategy": job.batch_strategy, "need_by": job.need_by, "submission": job.submission_id,
        "retry_of": job.retry_of, "attempt": job.attempt, "created_at": job.created_at,
        "finished_at": job.finished_at, "error": fault_of(job),
    }  # fmt: skip


def _shown(job: Job) -> models.Job:
    cost = reporting.job_cost(db.session(), job.id)
    waits = waiting.why_waiting(db.session(), parts().settings, parts().profiles, job)
    return models.Job(
        **_line(job), inputs=job.inputs, waiting=waits.sentence if waits else None,
        cost_usd=None if cost.amount is None else format(cost.amount.normalize(), "f"),
        result=_result(job.result) if job.result else None,
    )  # fmt: skip


def _just_made(job: Any) -> models.Job:
    """Without what only a look at other rows can tell: programs that make thousands do not pay for that."""
    return models.Job(**_line(job), inputs=job.inputs, waiting=None, cost_usd=None, result=None)


def _result(result: JobResult) -> models.Result:
    return models.Result(
        text=result.text, model=result.model, is_cut=result.is_cut,
        usage=models.Usage(
            input_tokens=result.input_tokens, cached_input_tokens=result.cached_input_tokens,
            output_tokens=result.output_tokens, reasoning_tokens=result.reasoning_tokens,
        ),
        latency=models.Latency(provider_ms=result.provider_ms, queue_ms=result.queue_ms, total_ms=result.total_ms),
    )  # fmt: skip
