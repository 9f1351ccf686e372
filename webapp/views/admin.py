"""The admin's one page, and the page of one window."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from webapp.domain.batch_objects import request_counts
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import batches, jobs, reporting
from webapp.views.access import require_admin

bp = Blueprint("admin", __name__, url_prefix="/admin")
bp.before_request(require_admin)


@bp.get("")
def index() -> ResponseReturnValue:
    session = db.session()
    found, older = jobs.list_jobs(session, user_id=None, before=request.args.get("before", type=int))
    return render_template(
        "admin/index.html", jobs=found, older=older, show_user=True, overview=reporting.overview(session),
        queues=batches.list_queues(session, parts().settings, parts().profiles),
        windows=reporting.list_windows(session),
    )  # fmt: skip


@bp.get("/windows/<int:window_id>")
def window(window_id: int) -> ResponseReturnValue:
    session = db.session()
    found = reporting.get_window(session, window_id)
    items = reporting.window_items(session, window_id, after=request.args.get("after", ""))
    return render_template(
        "admin/window.html", window=found, items=items, counts=request_counts(found.provider_batch),
        events=reporting.window_events(session, window_id), outcomes=reporting.window_outcomes(session, window_id),
    )  # fmt: skip
