"""Submissions: jobs that were made together, how far they are, and what can be done with all of them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from webapp.domain.errors import InvalidInput, NotFound
from webapp.domain.states import JobStatus
from webapp.extensions import db
from webapp.models import ProfileVersion, User
from webapp.parts import parts
from webapp.services import job_exports, submissions, waiting
from webapp.views.access import require_sign_in
from webapp.views.downloads import stream
from webapp.views.htmx import go_to, reply

bp = Blueprint("submissions", __name__, url_prefix="/submissions")
bp.before_request(require_sign_in)
POLL_SECONDS = 5


@bp.get("")
def index() -> ResponseReturnValue:
    before = request.args.get("before", type=int)
    found, older = submissions.list_progress(db.session(), user_id=current_user.id, before=before)
    return reply(
        "submissions/index.html", "submissions/_table.html", found=found, older=older, before=before,
        poll_seconds=POLL_SECONDS if before is None and any(not one.is_over for one in found) else None,
    )  # fmt: skip


@bp.get("/<int:submission_id>")
def detail(submission_id: int) -> ResponseReturnValue:
    """The page; for htmx the part of it that changes, which is also its poll."""
    return reply("submissions/detail.html", "submissions/_progress.html", **_context(submission_id))


@bp.post("/<int:submission_id>/retry")
def retry(submission_id: int) -> ResponseReturnValue:
    progress = _progress_or_404(submission_id)
    try:
        made, left_out = submissions.retry_failed(
            db.session(), progress.submission, user=_user(), reason=request.form.get("reason", "")
        )
    except InvalidInput as error:
        return _back_with(error, submission_id)
    flash(f"{_jobs(made.job_count)} will be run again, as a submission of their own.", "success")
    if left_out:
        flash(f"{_jobs(len(left_out))} could not be repeated: {next(iter(left_out.values()))}", "warning")
    return go_to(url_for("submissions.detail", submission_id=made.id))


@bp.post("/<int:submission_id>/cancel")
def cancel(submission_id: int) -> ResponseReturnValue:
    _progress_or_404(submission_id)
    try:
        cancelled = submissions.cancel_waiting(
            db.session(), submission_id, user=_user(), reason=request.form.get("reason", "")
        )
    except InvalidInput as error:
        return _back_with(error, submission_id)
    flash(f"{_jobs(cancelled)} cancelled.", "success")
    return go_to(url_for("submissions.detail", submission_id=submission_id))


def _back_with(error: InvalidInput, submission_id: int) -> ResponseReturnValue:
    flash(" ".join(error.errors.values()), "error")
    return go_to(url_for("submissions.detail", submission_id=submission_id))


@bp.get("/<int:submission_id>/results.<any(csv,jsonl):kind>")
def export(submission_id: int, kind: str) -> ResponseReturnValue:
    _progress_or_404(submission_id)
    pieces = job_exports.export_submission(db.session(), submission_id, kind)
    return stream(f"submission-{submission_id}.{kind}", job_exports.KINDS[kind], pieces)


def _context(submission_id: int) -> dict[str, Any]:
    session = db.session()
    progress = _progress_or_404(submission_id)
    status = _status(request.args.get("status"))
    after = request.args.get("after", 0, type=int)
    found, later = submissions.list_jobs(session, submission_id, status=status, after=after)
    amount, unknown = submissions.cost_so_far(session, submission_id)
    first = None if progress.is_over else submissions.first_waiting(session, progress.submission)
    version = session.get(ProfileVersion, found[0].profile_version_id) if found else None
    return {
        "progress": progress, "submission": progress.submission, "jobs": found, "later": later, "after": after,
        "state": status, "amount": amount, "unknown": unknown,
        "first": first,
        "waiting": waiting.why_waiting(session, parts().settings, parts().profiles, first) if first else None,
        "profile_name": version.document["name"] if version else progress.submission.profile_id,
        "poll_seconds": None if progress.is_over else POLL_SECONDS,
        "can_retry": any(progress.counts.get(one) for one in submissions.RETRYABLE),
    }  # fmt: skip


def _progress_or_404(submission_id: int) -> submissions.Progress:
    """The user's own submission; an admin sees every one. Raises NotFound."""
    user = _user()
    return submissions.get_progress(db.session(), submission_id, user_id=None if user.is_admin else user.id)


def _status(word: str | None) -> JobStatus | None:
    """Raises NotFound."""
    try:
        return JobStatus(word) if word else None
    except ValueError:
        raise NotFound("There is no such state.") from None


def _user() -> User:
    user: User = current_user._get_current_object()
    return user


def _jobs(count: int) -> str:
    return f"{count:,} {'job' if count == 1 else 'jobs'}"
