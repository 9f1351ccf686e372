"""The history: jobs by filter, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import flash, make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from webapp.domain.states import TERMINAL_JOBS, ExecutionMode, JobStatus
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import history, job_exports
from webapp.services.clock import clock
from webapp.views.downloads import stream
from webapp.views.htmx import go_to, reply
from webapp.views.job_filters import Filter, read_filter, read_id
from webapp.views.jobs import bp

POLL_SECONDS = {ExecutionMode.SYNC: 2, ExecutionMode.BATCH: 15}
OLD_SECONDS, OLD_POLL_SECONDS = 600, 30  # what has taken that long is looked at less often


@bp.get("")
def index() -> ResponseReturnValue:
    """The page; for htmx its table, which is also its poll."""
    if "" in request.args.values():  # a form sends its empty fields, too: the address is to say what is asked
        return _shortened()
    asked = read_filter(request.args, current_user)
    found = history.list_page(db.session(), asked.wanted, before=_place("before"), after=_place("after"))
    return reply(
        "jobs/index.html", "jobs/_history.html", found=found, asked=asked, words=asked.words,
        tally=history.tally(db.session(), asked.wanted), show_user=asked.wanted.user_id != current_user.id,
        poll_seconds=_poll_seconds(found.jobs), here=request.full_path.rstrip("?"), **_choices(asked),
    )  # fmt: skip


@bp.get("/export.<any(csv,jsonl):kind>")
def export(kind: str) -> ResponseReturnValue:
    """All that the filter matches."""
    asked = read_filter(request.args, current_user)
    if asked.ignored:  # else there would be more in the file than was asked for
        flash(" ".join([*asked.ignored, "Nothing was exported."]), "error")
        return go_to(url_for("jobs.index", **asked.words))  # type: ignore[arg-type]
    return stream(f"jobs.{kind}", job_exports.KINDS[kind], job_exports.export_jobs(db.session(), asked.wanted, kind))


def _shortened() -> ResponseReturnValue:
    given = {name: word for name, word in request.args.items() if word}
    address = url_for("jobs.index", **given)  # type: ignore[arg-type]
    response = make_response(redirect(address))
    response.headers["Vary"] = "HX-Request"
    return response


def _place(name: str) -> int | None:
    try:
        return read_id(request.args[name])
    except (KeyError, ValueError):
        return None


def _poll_seconds(jobs: Sequence[Any]) -> int | None:
    """How soon to look again; None when nothing on the page can change."""
    now = clock(db.session())
    waits = [
        OLD_POLL_SECONDS if (now - job.created_at).total_seconds() > OLD_SECONDS else POLL_SECONDS[job.execution_mode]
        for job in jobs
        if job.status not in TERMINAL_JOBS
    ]
    return min(waits, default=None)


def _choices(asked: Filter) -> dict[str, Any]:
    profiles = {profile.id: profile.name for profile in parts().profiles}
    if (chosen := asked.words.get("profile")) and chosen not in profiles:
        profiles[chosen] = chosen
    return {"profiles": profiles, "states": [(one.value, one.value.capitalize()) for one in JobStatus]}
