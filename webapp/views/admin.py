"""The admin's one page, the pages of a queue and a window, and what can be done there."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from flask import Blueprint, flash, g, make_response, request, url_for
from flask.typing import ResponseReturnValue

from webapp.domain import waiting
from webapp.domain.batch_objects import request_counts
from webapp.domain.errors import InvalidInput
from webapp.domain.states import TERMINAL_WINDOWS, ItemOutcome, WindowStatus
from webapp.extensions import db, migrate
from webapp.models import User
from webapp.parts import parts
from webapp.services import audit as audit_log
from webapp.services import batches, benchmark_figures, control, health, jobs, shutdowns, window_reports
from webapp.services.batches import MOST_QUEUED
from webapp.services.clock import clock
from webapp.services.overview import overview
from webapp.services.waiting import shown_in
from webapp.views.access import require_admin
from webapp.views.deeds import do
from webapp.views.htmx import is_htmx, reply

bp = Blueprint("admin", __name__, url_prefix="/admin")
bp.before_request(require_admin)

POLL_SECONDS = 10
JOBS_SHOWN = 20
WINDOWS_SHOWN = 8
WINDOW_TABS = {
    "": "All", **{status.value: status.value.capitalize() for status in WindowStatus},
    window_reports.ATTENTION: "Needs attention",
}  # fmt: skip
OUTCOMES = (*(outcome.value for outcome in ItemOutcome), window_reports.OPEN)


def _moment() -> datetime:
    """Of this request: asked once."""
    if "now" not in g:
        g.now = clock(db.session())
    now: datetime = g.now
    return now


@bp.context_processor
def _sentences() -> dict[str, Any]:
    """What a queue or a window waits for, in the words of the job page, and what the provider says of a window."""
    now = _moment()
    show = shown_in(parts().settings, now)
    return {
        "why_queue_waits": lambda state: waiting.why_queue_waits(state, now, show),
        "why_window_waits": lambda window: waiting.why_window_waits(window, now, show),
        "most_queued": MOST_QUEUED, "provider_counts": lambda window: request_counts(window.provider_batch), "now": now,
    }  # fmt: skip


@bp.get("")
def index() -> ResponseReturnValue:
    session, ours = db.session(), parts()
    now = _moment()
    before = request.args.get("before", type=int)
    found, older = jobs.list_jobs(session, before=before, size=JOBS_SHOWN)
    queues = batches.list_queues(session, ours.settings, ours.profiles, at_most=MOST_QUEUED, now=now)
    going = shutdowns.shutdowns(session, ours.settings, ours.prices, ours.profiles, now)
    return reply(
        "admin/index.html", "admin/_live.html", jobs=found, older=older, before=before, queues=queues,
        overview=overview(session, queues, now), windows=window_reports.list_windows(session, size=WINDOWS_SHOWN)[0],
        checks=health.checks(session, migrate.directory, ours.n8n, ours.storage, queues, going, now),
        shutdowns=going, benchmark=None if is_htmx() else benchmark_figures.latest(session),
        live_seconds=POLL_SECONDS if before is None else None,
    )  # fmt: skip


@bp.get("/queues")
def queues() -> ResponseReturnValue:
    views = batches.list_queues(db.session(), parts().settings, parts().profiles, at_most=MOST_QUEUED)
    return reply(
        "admin/queues.html", "admin/_queues.html", queues=views, poll_seconds=POLL_SECONDS,
        depths={view.queue.id: view.state.queued for view in views},
        all_queues=None if is_htmx() else window_reports.list_all_queues(db.session()),
    )  # fmt: skip


@bp.get("/queues/<int:queue_id>")
def queue(queue_id: int) -> ResponseReturnValue:
    session = db.session()
    found = window_reports.get_queue(session, queue_id)
    live: dict[str, Any] = {
        "queue": found, "poll_seconds": POLL_SECONDS,
        "state": batches.queue_state(session, parts().settings, parts().profiles, found, _moment()),
    }  # fmt: skip
    if is_htmx():
        return reply("", "admin/_queue_status.html", **live)
    return reply(
        "admin/queue.html", "", **live, windows=window_reports.list_windows(session, queue_id=queue_id)[0],
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


@bp.get("/windows")
def windows() -> ResponseReturnValue:
    which, queue_id = _chosen("status", WINDOW_TABS), request.args.get("queue", type=int)
    before = request.args.get("before", type=int)
    found, older = window_reports.list_windows(db.session(), queue_id=queue_id, which=which, before=before)
    return reply(
        "admin/windows.html", "admin/_window_list.html", windows=found, older=older, before=before, tabs=WINDOW_TABS,
        query={name: value for name, value in (("status", which), ("queue", queue_id)) if value is not None},
        poll_seconds=POLL_SECONDS if before is None else None,
    )  # fmt: skip


@bp.get("/windows/<int:window_id>")
def window(window_id: int) -> ResponseReturnValue:
    session = db.session()
    found = window_reports.get_window(session, window_id)
    live: dict[str, Any] = {
        "window": found, "outcomes": window_reports.window_outcomes(session, window_id),
        "is_over": found.status in TERMINAL_WINDOWS, "poll_seconds": POLL_SECONDS,
    }  # fmt: skip
    if is_htmx():
        answer = make_response(reply("", "admin/_window_status.html", **live))
        if live["is_over"]:  # the whole page has changed
            answer.headers["HX-Refresh"] = "true"
        return answer
    outcome, after = _chosen("outcome", OUTCOMES), request.args.get("after", 0, type=int)
    items, more = window_reports.window_items(session, window_id, outcome=outcome, after=after)
    return reply(
        "admin/window.html", "", **live, items=items, more=more, after=after, outcome=outcome,
        events=window_reports.window_events(session, window_id), costs=window_reports.window_costs(session, window_id),
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


def _chosen(name: str, known: Collection[str]) -> str | None:
    """What the address chooses; None for nothing, and for what is not known: that is said on the page."""
    given = request.args.get(name, "")
    if given and given not in known:
        flash(f"There is no {name} “{given[:40]}”: all are shown.", "warning")
        return None
    return given or None
