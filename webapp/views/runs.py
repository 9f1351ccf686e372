"""New run: the form of a profile, what it would cost, and the jobs that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from webapp.domain.errors import InvalidInput, InvalidRows, NotFound, OverBudget, PlannedProfile, UnknownProfile
from webapp.domain.profiles import Profile
from webapp.domain.rows import Row, example_csv, read_rows
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import budgets, dispatch, documents, estimates, jobs, shutdowns, submissions
from webapp.services.clock import clock
from webapp.services.idempotency import Remember
from webapp.services.waiting import shown_in
from webapp.views import uploads
from webapp.views.access import require_sign_in
from webapp.views.forms import ROWS_KEY, RunForm, ids_in_form, kept_key, run_form
from webapp.views.htmx import go_to, reply
from webapp.views.prefill import fill_in
from webapp.views.run_once import form_id, run_once

bp = Blueprint("runs", __name__, url_prefix="/jobs")
bp.before_request(require_sign_in)
MOST_RUNS = 500  # in one form: each is rendered in the request that asks for it
PLACEHOLDER_ID = 1  # stands for a document that is checked before it is stored


@bp.get("/new")
def new() -> ResponseReturnValue:
    """An empty form; with `rows` for a file of rows, with `from` as for a job of the user that was run before."""
    if "from" in request.args:
        return _again(request.args.get("from", 0, type=int))
    profile = _chosen_profile(request.args.get("profile"))
    form = run_form(profile, for_rows="rows" in request.args and not profile.document_fields)
    return reply("jobs/new.html", "jobs/_form.html", **_form_context(profile, form))


@bp.get("/new/rows.csv")
def rows_template() -> ResponseReturnValue:
    """A file of rows to fill in."""
    profile = _chosen_profile(request.args.get("profile"))
    if profile.document_fields:
        raise NotFound("A profile with documents takes no rows: choose several files instead.")
    name = f"attachment; filename={profile.id}-rows.csv"
    return Response(example_csv(profile), content_type="text/csv; charset=utf-8",
                    headers={"Content-Disposition": name})  # fmt: skip


@bp.post("/new")
def create() -> ResponseReturnValue:
    profile, form = _sent_form()
    kept = form.kept(profile)
    try:
        target, is_replay = run_once(
            lambda remember: _submit_rows(profile, form, remember)
            if form.is_for_rows else _submit_runs(profile, form, kept, remember)
        )  # fmt: skip
        return _go_to_made(target, is_replay)
    except InvalidInput as error:
        return _form_again(profile, form, kept, error, 422)
    except (PlannedProfile, OverBudget) as error:
        return _form_again(profile, form, kept, InvalidInput({"": error.message}), 409)


@bp.post("/estimate")
def estimate() -> ResponseReturnValue:
    """What these runs would take and cost; their files are stored, so that submitting does not send them again.

    A file of rows is not: it is read twice, and sent twice.
    """
    profile, form = _sent_form()
    kept = form.kept(profile)
    faults = [one for said in uploads.keep_uploads(profile, form, kept).values() for one in said]
    context = _form_context(profile, form) | _estimate_context(profile, form, kept)
    # What is wrong with the stored files, or with all of it, is not mended by filling in the form.
    faults += [said for key, said in context["unclear"].items() if key in ("", ROWS_KEY) or kept.get(key)]
    return reply("jobs/new.html", "jobs/_estimate.html", **context | {"faults": faults})


@bp.post("/documents")
def add_documents() -> ResponseReturnValue:
    """Store files for a document field of a form that is being filled in; the answer is a row for each, in order."""
    profile, form = _sent_form()
    field = profile.field(request.form.get("field", ""))
    files = [file for file in request.files.getlist("file") if file.filename]
    if field not in profile.document_fields or not 0 < len(files) <= uploads.FILES_AT_ONCE:
        raise NotFound("There is no such document field, or no file, or too many of them.")
    rows = uploads.store_each([uploads.upload_of(profile, form, field.key, file) for file in files])
    status = 201 if any(row.document for row in rows) else 422
    return render_template("jobs/_files.html", rows=rows, kept=kept_key(field)), status


def _sent_form() -> tuple[Profile, RunForm]:
    """Raises UnknownProfile."""
    profile = parts().profiles.get(request.form.get("profile", ""))
    return profile, run_form(profile, for_rows="for-rows" in request.form and not profile.document_fields)


def _again(job_id: int) -> ResponseReturnValue:
    """The form as it was filled in for a job of the user. Raises NotFound, UnknownProfile."""
    job = jobs.get_job(db.session(), job_id, user_id=current_user.id)
    try:
        profile = parts().profiles.get(job.profile_id)
    except UnknownProfile:
        name = job.profile_version.document["name"]
        raise NotFound(f"“{name}”, which made job {job_id}, is not there any more: choose another profile.") from None
    filled = fill_in(profile, job)
    form = run_form(profile, filled.values)
    kept = {field.key: filled.kept.get(field.key, []) for field in profile.document_fields}
    context = _form_context(profile, form) | _estimate_context(profile, form, kept)
    return reply("jobs/new.html", "jobs/_form.html", **context | {"retry_of": job_id, "lost": filled.lost})


def _asked_retry_of() -> int | None:
    """The id that the form names, if it can be one."""
    return next(iter(ids_in_form("retry-of")), None)


def _retry_of(profile: Profile) -> int | None:
    """The job of the user that this form repeats. Raises NotFound."""
    job_id = _asked_retry_of()
    if job_id is None:
        return None
    job = jobs.get_job(db.session(), job_id, user_id=current_user.id)
    return job.id if job.profile_id == profile.id else None


def _go_to_made(target: str, is_replay: bool) -> ResponseReturnValue:
    """To the page of what was made: `job:<id>`, which is dispatched now, or `submission:<id>`."""
    kind, _, id_ = target.partition(":")
    if kind == "submission":  # the heartbeat's to dispatch: nobody waits here for n8n to take them one by one
        return go_to(url_for("submissions.detail", submission_id=int(id_)))
    if not is_replay:
        dispatch.dispatch_due(db.session(), parts().settings, parts().profiles, parts().n8n, only=[int(id_)])
    return go_to(url_for("jobs.detail", job_id=int(id_)))


def _submit_runs(profile: Profile, form: RunForm, kept: dict[str, list[int]], remember: Remember) -> str:
    """Check everything first, then store the documents, then the jobs: one for each file. Returns what they are.

    What is stored is in `kept` from then on, whatever becomes of the jobs.
    """
    settings, user, session = parts().settings, current_user._get_current_object(), db.session()
    values = form.values(profile)
    _check(profile, values, form.uploads(profile), kept)
    retry_of = _retry_of(profile)
    if faults := uploads.keep_uploads(profile, form, kept):
        raise InvalidInput({key: " ".join(said) for key, said in faults.items()})
    runs = _runs(values, kept)
    if len(runs) > 1:
        made = submissions.submit(
            session, settings, parts().profiles, parts().prices, user=user, profile_id=profile.id, runs=runs,
            source="form", name=f"{len(runs)} documents", then=lambda one: remember(f"submission:{one.id}"),
        )  # fmt: skip
        return f"submission:{made.id}"
    [job_id] = jobs.create_jobs(
        session, settings, parts().profiles, parts().prices, user=user, profile_id=profile.id, runs=runs,
        retry_of=retry_of, then=lambda ids: remember(f"job:{ids[0]}"),
    )  # fmt: skip
    return f"job:{job_id}"


def _submit_rows(profile: Profile, form: RunForm, remember: Remember) -> str:
    """Make a job of each row of the file; returns their submission."""
    file = form.rows_file
    made = submissions.submit_rows(
        db.session(), parts().settings, parts().profiles, parts().prices, user=current_user._get_current_object(),
        profile_id=profile.id, rows=_rows(profile, file), common=form.values(profile), source="rows",
        name=documents.shown_name(file.filename), then=lambda one: remember(f"submission:{one.id}"),
    )  # fmt: skip
    return f"submission:{made.id}"


def _rows(profile: Profile, file: Any) -> Iterator[Row]:
    file.stream.seek(0)
    return read_rows(file.stream, file.filename, profile, parts().settings.zone)


def _runs(values: dict[str, Any], stored: dict[str, list[int]]) -> list[dict[str, Any]]:
    """The values of each run: one for each document of the field that has several. Raises InvalidInput."""
    _check_count({key: len(ids) for key, ids in stored.items()})
    many = next((key for key, ids in stored.items() if len(ids) > 1), None)
    single = {key: ids[0] for key, ids in stored.items() if ids}
    return [values | single | {many: id_} for id_ in stored[many]] if many else [values | single]


def _check(
    profile: Profile, values: dict[str, Any], sent: dict[str, list[Any]], kept: dict[str, list[int]]
) -> None:  # fmt: skip
    """Refuse what is wrong with the fields before any file is read. Raises PlannedProfile or InvalidInput."""
    parts().profiles.runnable(profile.id)
    counts = {key: len(files) + len(kept[key]) for key, files in sent.items()}
    several = [key for key, count in counts.items() if count > 1]
    if len(several) > 1:
        raise InvalidInput({several[1]: "Only one of the document fields can take several files at once."})
    _check_count(counts)
    profile.validate_inputs(values | {key: PLACEHOLDER_ID for key, count in counts.items() if count})


def _check_count(counts: dict[str, int]) -> None:
    """Raises InvalidInput."""
    if too_many := {key: f"At most {MOST_RUNS} files at once." for key, count in counts.items() if count > MOST_RUNS}:
        raise InvalidInput(too_many)


def _chosen_profile(profile_id: str | None) -> Profile:
    """The profile that was asked for, else the first that can be run. Raises UnknownProfile."""
    if profile_id:
        return parts().profiles.get(profile_id)
    every = list(parts().profiles)
    return next((profile for profile in every if profile.is_active), every[0])


def _form_context(profile: Profile, form: RunForm, messages: list[str] | None = None) -> dict[str, Any]:
    session = db.session()
    return {
        "profile": profile, "profiles": list(parts().profiles), "form": form, "messages": messages or [],
        "max_upload_mb": parts().settings.max_upload_mb, "max_rows": parts().settings.max_rows,
        "most_runs": MOST_RUNS, "faults": [], "kept": {}, "forecast": None, "unclear": {}, "wrong_rows": None,
        "retry_of": _asked_retry_of(), "lost": [], "form_id": form_id(),
        "calibration": estimates.calibrate(session, profile.id),
        "budgets": budgets.budgets_of(session, user_id=current_user.id, profile_id=profile.id),
        "shutdowns": shutdowns.shutdowns(session, parts().settings, parts().prices, [profile], clock(session)),
    }  # fmt: skip


def _estimate_context(profile: Profile, form: RunForm, kept: dict[str, list[int]]) -> dict[str, Any]:
    """The forecast, or what has to be filled in before there is one, and the stored documents by field key."""
    session, user = db.session(), current_user._get_current_object()
    context: dict[str, Any] = {"forecast": None, "unclear": {}}
    try:
        context["forecast"] = _forecast(profile, form, kept)
    except InvalidInput as error:
        context |= _said(profile, form, error)
    every = [id_ for ids in kept.values() for id_ in ids]
    found = documents.documents_of(session, user.id, every)
    for document in found.values():
        session.expunge(document)  # it is shown after the transaction: not one more query for each
    shown = {key: [found[id_] for id_ in ids if id_ in found] for key, ids in kept.items()}
    show = shown_in(parts().settings, clock(session))
    session.rollback()  # nobody's retention waits for a person who thinks
    return context | {"kept": shown, "show": show}


def _forecast(profile: Profile, form: RunForm, kept: dict[str, list[int]]) -> estimates.Forecast | None:
    """None for a file of rows that was not chosen yet. Raises InvalidInput."""
    session, user = db.session(), current_user._get_current_object()
    if not form.is_for_rows:
        return estimates.forecast(
            session, parts().settings, parts().prices, parts().profiles, user=user, profile=profile,
            runs=_runs(form.values(profile), kept),
        )  # fmt: skip
    if not getattr(form[ROWS_KEY].data, "filename", ""):
        return None
    return submissions.forecast_rows(
        session, parts().settings, parts().profiles, parts().prices, user=user, profile=profile,
        rows=_rows(profile, form.rows_file), common=form.values(profile),
    )  # fmt: skip


def _said(profile: Profile, form: RunForm, error: InvalidInput) -> dict[str, Any]:
    """What the page says of it: `unclear` by field key, or the rows that are wrong."""
    if form.is_for_rows and isinstance(error, InvalidRows):
        return {"wrong_rows": list(_wrong_rows(profile, error))}
    errors = error.errors or {"": error.message}
    return {"unclear": {ROWS_KEY if key == "rows" and form.is_for_rows else key: said for key, said in errors.items()}}


def _wrong_rows(profile: Profile, error: InvalidRows) -> Iterator[tuple[int, str, str]]:
    """(line, the field's label or "", what is wrong)"""
    for line, fault in sorted(error.rows.items())[: estimates.MOST_FAULTS]:
        for key, said in (fault.errors or {"": fault.message}).items():
            field = profile.field(key)
            yield line, field.title if field else key, said


def _form_again(
    profile: Profile, form: RunForm, kept: dict[str, list[int]], error: InvalidInput, status: int
) -> ResponseReturnValue:
    said = _said(profile, form, error)
    messages = form.show_errors(said.get("unclear", {}))
    context = _form_context(profile, form, messages)
    if not form.is_for_rows:
        said = _estimate_context(profile, form, kept)
    return reply("jobs/new.html", "jobs/_form.html", status, **context | said)
