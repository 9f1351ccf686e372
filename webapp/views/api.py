"""The API for programs: bearer tokens only (`docs/api.md`)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, g, jsonify, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field

from webapp.extensions import db
from webapp.models import Job
from webapp.parts import parts
from webapp.services import dispatch, jobs, reporting, waiting
from webapp.views.access import job_or_404, require_bearer_token

bp = Blueprint("api", __name__, url_prefix="/api/v1")
bp.before_request(require_bearer_token)


class JobRequest(BaseModel):
    """What `POST /jobs` takes."""

    model_config = ConfigDict(extra="forbid")
    profile: str
    inputs: dict[str, Any] = Field(description="the profile's fields, executionMode and batchStrategy among them")


@bp.post("/jobs")
def create_job() -> ResponseReturnValue:
    data = request.get_json()
    wanted = JobRequest(**data) if isinstance(data, dict) else JobRequest.model_validate(data)
    [job_id] = jobs.create_jobs(
        db.session(), parts().settings, parts().profiles, parts().prices, user=g.user, profile_id=wanted.profile,
        runs=[wanted.inputs],
    )  # fmt: skip
    dispatch.dispatch_due(db.session(), parts().settings, parts().profiles, parts().n8n, only=[job_id])
    address = url_for("api.get_job", job_id=job_id)
    return jsonify(_shown(job_or_404(job_id, g.user))), 202, {"Location": address}


@bp.get("/jobs/<int:job_id>")
def get_job(job_id: int) -> ResponseReturnValue:
    return jsonify(_shown(job_or_404(job_id, g.user)))


def _shown(job: Job) -> dict[str, Any]:
    cost = reporting.job_cost(db.session(), job.id)
    waits = waiting.why_waiting(db.session(), parts().settings, parts().profiles, job)
    result = job.result
    return {
        "id": job.id, "profile": job.profile_id, "status": job.status, "executionMode": job.execution_mode,
        "batchStrategy": job.batch_strategy, "inputs": job.inputs, "attempt": job.attempt,
        "createdAt": job.created_at.isoformat(), "finishedAt": job.finished_at and job.finished_at.isoformat(),
        "waiting": waits.sentence if waits else None,
        "error": {"code": job.failure_code, "message": job.failure_message} if job.failure_message else None,
        "result": result and {
            "text": result.text, "model": result.model, "isCut": result.is_cut,
            "usage": {"inputTokens": result.input_tokens, "cachedInputTokens": result.cached_input_tokens,
                      "outputTokens": result.output_tokens, "reasoningTokens": result.reasoning_tokens},
            "latency": {"providerMs": result.provider_ms, "queueMs": result.queue_ms, "totalMs": result.total_ms},
        },
        "costUsd": None if cost.amount is None else format(cost.amount.normalize(), "f"),
    }  # fmt: skip
