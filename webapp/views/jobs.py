"""The page of one job."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy.orm import defer

from webapp.domain.fields import title_of
from webapp.domain.states import TERMINAL_JOBS, ExecutionMode
from webapp.extensions import db
from webapp.models import Job, JobRequest
from webapp.parts import parts
from webapp.services import control, jobs, reporting, timeline, waiting
from webapp.services.clock import clock
from webapp.views import access
from webapp.views.deeds import actor
from webapp.views.htmx import go_to

bp = Blueprint("jobs", __name__, url_prefix="/jobs")
bp.before_request(access.require_sign_in)
POLL_SECONDS = {ExecutionMode.SYNC: 1, ExecutionMode.BATCH: 5}


@bp.get("/<int:job_id>")
def detail(job_id: int) -> ResponseReturnValue:
    return render_template("jobs/detail.html", **_job_context(job_id))


@bp.get("/<int:job_id>/status")
def status_fragment(job_id: int) -> ResponseReturnValue:
    return render_template("jobs/_status.html", **_job_context(job_id))


@bp.get("/<int:job_id>/result")
def download(job_id: int) -> ResponseReturnValue:
    """The answer's text as a file."""
    job = access.job_or_404(job_id, current_user)
    if job.result is None:
        return go_to(url_for("jobs.detail", job_id=job_id))
    is_json = _output_type(job) == "json"
    name = f"job-{job.id}.{'json' if is_json else 'md'}"
    return Response(
        job.result.text, content_type="application/json" if is_json else "text/markdown; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"},
    )  # fmt: skip


@bp.post("/<int:job_id>/cancel")
def cancel(job_id: int) -> ResponseReturnValue:
    job = access.job_or_404(job_id, current_user)
    if job.user_id == current_user.id:
        jobs.cancel_job(db.session(), job, actor=f"user:{current_user.id}")
    else:  # an administrator's deed, which is audited
        reason = request.form.get("reason", "").strip() or "no reason was given"
        control.cancel_job(db.session(), job_id, user=actor(), reason=reason)
    flash("The job was cancelled.", "success")
    return go_to(url_for("jobs.detail", job_id=job_id))


def _output_type(job: Job) -> str:
    return str(job.profile_version.document.get("output", {}).get("type", "markdown"))


def _shown_inputs(job: Job) -> list[tuple[str, str]]:
    """(label, value) of the job's inputs in the words of its profile; documents are shown elsewhere."""
    shown = []
    for field in job.profile_version.document["fields"]:
        value = job.inputs.get(field["key"])
        if field["type"] == "document" or value is None:
            continue
        labels = {option["value"]: option["label"] for option in field.get("options", ())}
        values = value if isinstance(value, list) else [value]
        title = field["label"] or title_of(field["key"])
        shown.append((title, ", ".join(labels.get(str(one), str(one)) for one in values)))
    return shown


def _job_context(job_id: int) -> dict[str, Any]:
    job = access.job_or_404(job_id, current_user)
    session = db.session()
    return {
        "job": job, "is_terminal": job.status in TERMINAL_JOBS, "poll_seconds": POLL_SECONDS[job.execution_mode],
        "timeline": timeline.timeline_of(session, job.id), "cost": reporting.job_cost(session, job.id),
        "job_estimate": session.get_one(JobRequest, job.id, options=[defer(JobRequest.body)]),
        "output_type": _output_type(job), "profile_name": job.profile_version.document["name"],
        "shown_inputs": _shown_inputs(job),
        "now": clock(session), "waiting": waiting.why_waiting(session, parts().settings, parts().profiles, job),
    }  # fmt: skip
