"""The admin's one page, the pages of a queue and a window, and what can be done there."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from webapp.domain import waiting
from webapp.domain.batch_objects import request_counts
from webapp.domain.errors import InvalidInput
from webapp.domain.states import TERMINAL_WINDOWS
from webapp.extensions import db
from webapp.models import User
from webapp.parts import parts
from webapp.services import audit as audit_log
from webapp.services import batches, benchmark_figures, control, jobs, reporting, shutdowns
from webapp.services.clock import clock
from webapp.services.waiting import shown_in
from webapp.views.access import require_admin
from webapp.views.deeds import do

bp = Blueprint("admin", __name__, url_prefix="/admin")
bp.before_request(require_admin)


@bp.context_processor
def _sentences() -> dict[str, Callable[..., str]]:
    """What a queue or a window waits for, in the words of the job page."""
    now = clock(db.session())
    show = shown_in(parts().settings, now)
    return {
        "why_queue_waits": lambda state: waiting.why_queue_waits(state, now, show),
        "why_window_waits": lambda window: waiting.why_window_waits(window, now, show),
    }


@bp.get("")
def index() -> ResponseReturnValue:
    session = db.session()
    found, older = jobs.list_jobs(session, user_id=None, before=request.args.get("before", type=int))
    return render_template(
        "admin/index.html", jobs=found, older=older, show_user=True, overview=reporting.overview(session),
        queues=batches.list_queues(session, parts().settings, parts().profiles),
        windows=reporting.list_windows(session),
        shutdowns=shutdowns.shutdowns(session, parts().settings, parts().prices, parts().profiles),
        benchmark=benchmark_figures.latest(session),
    )  # fmt: skip


@bp.get("/queues/<int:queue_id>")
def queue(queue_id: int) -> ResponseReturnValue:
    session = db.session()
    found = reporting.get_queue(session, queue_id)
    return render_template(
        "admin/queue.html", queue=found, state=batches.queue_state(session, parts().settings, parts().profiles, found),
        windows=reporting.list_windows(session, queue_id=queue_id),
        audit=audit_log.list_audit(session, target=f"queue:{queue_id}"),
    )  # fmt: skip


@bp.post("/queues/<int:queue_id>/hold")
def hold_queue(queue_id: int) -> ResponseReturnValue:
    def deed(user: User, reason: str) -> str:
        control.hold_queue(db.session(), queue_id, user=user, reason=reason)
        return "The queue is held: it opens no window."

    return do(deed, url_for("admin.queue", queue_id=queue_id))


@bp.post("/queues/<int:queue_id>/resume")
def resume_queue(queue_id: int) -> ResponseReturnValue:
    def deed(user: User, reason: str) -> str:
        control.resume_queue(db.session(), queue_id, user=user, reason=reason)
        return "The queue goes on."

    return do(deed, url_for("admin.queue", queue_id=queue_id))


@bp.post("/queues/<int:queue_id>/flush")
def flush_queue(queue_id: int) -> ResponseReturnValue:
    def deed(user: User, reason: str) -> str:
        window = control.flush_queue(
            db.session(), parts().settings, parts().profiles, queue_id, user=user, reason=reason
        )
        return f"Window {window.id} was opened with {window.job_count} jobs."

    return do(deed, url_for("admin.queue", queue_id=queue_id))


@bp.get("/windows/<int:window_id>")
def window(window_id: int) -> ResponseReturnValue:
    session = db.session()
    found = reporting.get_window(session, window_id)
    items = reporting.window_items(session, window_id, after=request.args.get("after", ""))
    return render_template(
        "admin/window.html", window=found, items=items, counts=request_counts(found.provider_batch),
        events=reporting.window_events(session, window_id), outcomes=reporting.window_outcomes(session, window_id),
        costs=reporting.window_costs(session, window_id), is_over=found.status in TERMINAL_WINDOWS,
        audit=audit_log.list_audit(session, target=f"window:{window_id}"),
    )  # fmt: skip


@bp.post("/windows/<int:window_id>/cancel")
def cancel_window(window_id: int) -> ResponseReturnValue:
    cancels_jobs = {"back": False, "cancel": True}.get(request.form.get("jobs", ""))

    def deed(user: User, reason: str) -> str:
        if cancels_jobs is None:
            raise InvalidInput({"jobs": "Say what becomes of its jobs: back to the queue, or cancelled, too."})
        control.cancel_window(db.session(), window_id, cancels_jobs=cancels_jobs, user=user, reason=reason)
        end = "its jobs are cancelled with it" if cancels_jobs else "its jobs go back to the queue, which is held"
        return f"Window {window_id} is being cancelled; {end}. What the provider has finished counts."

    return do(deed, url_for("admin.window", window_id=window_id))


@bp.post("/windows/<int:window_id>/retry")
def retry_window(window_id: int) -> ResponseReturnValue:
    def deed(user: User, reason: str) -> str:
        repeated = control.retry_window(db.session(), window_id, user=user, reason=reason)
        count, left_out = len(repeated.new_ids), list(repeated.left_out.values())
        said = f"{count} new {'job repeats' if count == 1 else 'jobs repeat'} what failed."
        return f"{said} {len(left_out)} could not be repeated: {left_out[0]}" if left_out else said

    return do(deed, url_for("admin.window", window_id=window_id))


@bp.post("/jobs/<int:job_id>/retry")
def retry_job(job_id: int) -> ResponseReturnValue:
    def deed(user: User, reason: str) -> str:
        return f"Job {control.retry_job(db.session(), job_id, user=user, reason=reason)} repeats this one."

    return do(deed, url_for("jobs.detail", job_id=job_id))


@bp.get("/audit")
def audit() -> ResponseReturnValue:
    before = request.args.get("before", type=int)
    return render_template("admin/audit.html", audit=audit_log.list_audit(db.session(), before=before), before=before)
