"""The page of one job."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from zlib import crc32

from flask import Blueprint, Response, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from sqlalchemy.orm import Session, defer

from webapp.domain.errors import NotFound
from webapp.domain.fields import title_of
from webapp.domain.outputs import FILE_KINDS
from webapp.domain.states import TERMINAL_JOBS, ExecutionMode
from webapp.extensions import db
from webapp.models import Job, JobRequest
from webapp.parts import parts
from webapp.services import attempts, control, jobs, reporting, timeline, waiting
from webapp.services.clock import clock
from webapp.views import access, security
from webapp.views.deeds import actor
from webapp.views.htmx import go_to, is_htmx, reply_elsewhere
from webapp.views.results import output_type, shown_result

bp = Blueprint("jobs", __name__, url_prefix="/jobs")
POLL_SECONDS = {ExecutionMode.SYNC: (1, 5), ExecutionMode.BATCH: (5, 15)}  # at first, and later
RAW_PART = 64_000  # characters
BACK_OFF_AFTER = timedelta(minutes=2)
NOTHING_NEW = ("", 204)  # htmx leaves the page alone and asks again
GLANCED_QUEUE_AGE = 1.0  # seconds: a hundred pages that wait for one queue look at it together


@bp.before_request
def _nothing_new() -> ResponseReturnValue | None:
    """What most polls are told, found out in one query before anything else of a page is made; None: look properly."""
    if request.endpoint != f"{bp.name}.{status_fragment.__name__}" or not is_htmx():
        return None
    named = security.named_user()
    if named is None:
        return None
    with db.engine.connect() as connection:
        job = timeline.glance(connection, (request.view_args or {})["job_id"], user_id=named[0], epoch=named[1])
    if job is None or request.args.get("seen") != _seen(job, job.events):
        return None
    session = cast("Session", db.session)  # which is made when somebody asks it: here once for all who wait for a queue
    own = parts()
    waits = waiting.why_waiting(session, own.settings, own.profiles, job, job.now, queue_age=GLANCED_QUEUE_AGE)
    return NOTHING_NEW if request.args.get("said") == _said(waits, _poll_seconds(job, job.now)) else None


bp.before_request(access.require_sign_in)


@bp.get("/<int:job_id>")
def detail(job_id: int) -> ResponseReturnValue:
    context = _status_context(job_id)
    return render_template("jobs/detail.html", **context, **_body_context(context["job"]))


@bp.get("/<int:job_id>/status")
def status_fragment(job_id: int) -> ResponseReturnValue:
    """What a page polls: all of the job when something has happened since `seen`, the small status card when it waits
    for something else than it says, and mostly nothing."""
    context = _status_context(job_id)
    if is_htmx() and request.args.get("seen") != context["seen"]:
        return reply_elsewhere("jobs/_body.html", f"#job-{job_id}", **context, **_body_context(context["job"]))
    if is_htmx() and request.args.get("said") == context["said"]:
        return NOTHING_NEW
    return render_template("jobs/_status.html", **context)


@bp.get("/<int:job_id>/result")
def download(job_id: int) -> ResponseReturnValue:
    """The whole answer as a file."""
    job = access.job_or_404(job_id, current_user)
    if job.result is None:
        return go_to(url_for("jobs.detail", job_id=job_id))
    ending, content_type = FILE_KINDS[output_type(job)]
    headers = {"Content-Disposition": f'attachment; filename="job-{job.id}.{ending}"'}
    return Response(job.result.text, content_type=content_type, headers=headers)


@bp.get("/<int:job_id>/raw")
def raw(job_id: int) -> ResponseReturnValue:
    """The answer as it came, part by part. Raises NotFound for a part that it does not have."""
    job = access.job_or_404(job_id, current_user)
    if job.result is None:
        return go_to(url_for("jobs.detail", job_id=job_id))
    text, part = job.result.text, request.args.get("part", 1, type=int)
    count = -(-len(text) // RAW_PART)
    if not 1 <= part <= count:
        raise NotFound
    shown = text[(part - 1) * RAW_PART : part * RAW_PART]
    return render_template("jobs/raw.html", job=job, text=shown, part=part, parts=count, length=len(text))


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


def _status_context(job_id: int) -> dict[str, Any]:
    """What the status card shows; `seen` and `said` tell by what happened and by what it waits for. Raises NotFound."""
    session, own = db.session(), parts()
    job, events, now = timeline.look(session, job_id, user_id=None if current_user.is_admin else current_user.id)
    waits = waiting.why_waiting(session, own.settings, own.profiles, job, now)
    poll_seconds = _poll_seconds(job, now)
    return {
        "job": job, "is_terminal": job.status in TERMINAL_JOBS, "poll_seconds": poll_seconds, "waiting": waits,
        "seen": _seen(job, events), "said": _said(waits, poll_seconds),
    }  # fmt: skip


def _seen(job: Any, events: int) -> str:
    return f"{job.status}-{job.attempt}-{events}"


def _said(waits: waiting.Waiting | None, poll_seconds: int) -> str:
    return f"{crc32(f'{waits} {poll_seconds}'.encode()):x}"


def _poll_seconds(job: Any, now: datetime) -> int:
    """A job that has been waited for so long can be waited for a little longer."""
    soon, later = POLL_SECONDS[job.execution_mode]
    return soon if now - job.created_at < BACK_OFF_AFTER else later


def _body_context(job: Job) -> dict[str, Any]:
    session = db.session()
    cost = reporting.job_cost(session, job.id)
    return {
        "timeline": timeline.timeline_of(session, job.id), "cost": cost, "price_lines": attempts.price_lines,
        "attempts": attempts.attempts_of(session, job, cost.entries), "who": partial(_who, job),
        "job_estimate": session.get_one(JobRequest, job.id, options=[defer(JobRequest.body)]),
        "profile_name": job.profile_version.document["name"], "shown_inputs": _shown_inputs(job),
        "prices_since": lambda entry: parts().prices.valid_from(entry.model or "", entry.answered_at),
        "repeats": jobs.repeats_of(session, job.id), "is_runnable": job.profile_id in parts().profiles,
        "now": clock(session), "shown": shown_result(job),
    }  # fmt: skip


def _who(job: Job, actor: str) -> str:
    """Who did it, in words for whoever looks; `actor` as in models/job.py."""
    kind, _, name = actor.partition(":")
    if kind == "user":
        return "you" if name == str(current_user.id) else "its user" if name == str(job.user_id) else "an administrator"
    return {"n8n": "n8n", "provider": "the provider", "window": f"window {name}"}.get(kind, "the system")


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
