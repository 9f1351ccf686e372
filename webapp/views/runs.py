"""New run: the form of a profile, what it would cost, and the jobs that it makes."""

from __future__ import annotations

from itertools import islice
from typing import Any

from flask import Blueprint, flash, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from webapp.domain.errors import InvalidInput, OverBudget, PlannedProfile
from webapp.domain.profiles import Profile
from webapp.extensions import db
from webapp.models import Document
from webapp.parts import parts
from webapp.services import budgets, dispatch, documents, estimates, jobs, shutdowns
from webapp.services.clock import clock
from webapp.services.waiting import shown_in
from webapp.views.forms import RunForm, as_file_key, run_form
from webapp.views.htmx import go_to, reply

bp = Blueprint("runs", __name__, url_prefix="/jobs")
MOST_RUNS = 500  # in one form: each is rendered in the request that asks for it
PLACEHOLDER_ID = 1  # stands for a document that is checked before it is stored


@bp.before_request
@login_required
def _signed_in() -> None:
    pass


@bp.get("/new")
def new() -> ResponseReturnValue:
    profile = _chosen_profile(request.args.get("profile"))
    return reply("jobs/new.html", "jobs/_form.html", **_form_context(profile, run_form(profile)))


@bp.post("/new")
def create() -> ResponseReturnValue:
    profile = parts().profiles.get(request.form.get("profile", ""))
    form = run_form(profile)
    kept = form.kept(profile)
    try:
        job_ids = _create_jobs(profile, form, kept)
    except InvalidInput as error:
        return _form_again(profile, form, kept, error.errors or {"": error.message}, 422)
    except (PlannedProfile, OverBudget) as error:
        return _form_again(profile, form, kept, {"": error.message}, 409)
    if len(job_ids) == 1:
        return go_to(url_for("jobs.detail", job_id=job_ids[0]))
    flash(f"{len(job_ids)} jobs were made.", "success")
    return go_to(url_for("jobs.index"))


@bp.post("/estimate")
def estimate() -> ResponseReturnValue:
    """What these runs would take and cost; their files are stored, so that submitting does not send them again."""
    profile = parts().profiles.get(request.form.get("profile", ""))
    form = run_form(profile)
    kept, faults = _keep_uploads(profile, form)
    context = _form_context(profile, form) | _estimate_context(profile, form, kept)
    # What is wrong with the stored files, or with all of it, is not mended by filling in the form.
    faults += [said for key, said in context["unclear"].items() if key == "" or kept.get(key)]
    return reply("jobs/new.html", "jobs/_estimate.html", **context | {"faults": faults})


def _create_jobs(profile: Profile, form: RunForm, kept: dict[str, list[int]]) -> list[int]:
    """Check everything first, then store the documents, then the jobs: one job for each file.

    What is stored is in `kept` from then on, whatever becomes of the jobs.
    """
    settings, user = parts().settings, current_user._get_current_object()
    values, uploads = form.values(profile), form.uploads(profile)
    _check(profile, values, uploads, kept)
    if faults := _store_as_wished(profile, form, kept):
        raise InvalidInput(faults)
    found = _add_documents(_uploads(profile, form, uploads))
    ids = iter([document.id for document in found])
    for key, files in uploads.items():
        kept[key] += islice(ids, len(files))
    job_ids = jobs.create_jobs(
        db.session(), settings, parts().profiles, parts().prices, user=user, profile_id=profile.id,
        runs=_runs(values, kept),
    )  # fmt: skip
    if len(job_ids) == 1:  # many are the heartbeat's: nobody waits here for n8n to take them one by one
        dispatch.dispatch_due(db.session(), settings, parts().profiles, parts().n8n, only=job_ids)
    return job_ids


def _runs(values: dict[str, Any], stored: dict[str, list[int]]) -> list[dict[str, Any]]:
    """The values of each run: one for each document of the field that has several. Raises InvalidInput."""
    _check_count({key: len(ids) for key, ids in stored.items()})
    many = next((key for key, ids in stored.items() if len(ids) > 1), None)
    single = {key: ids[0] for key, ids in stored.items() if ids}
    return [values | single | {many: id_} for id_ in stored[many]] if many else [values | single]


def _keep_uploads(profile: Profile, form: RunForm) -> tuple[dict[str, list[int]], list[str]]:
    """Store each file that can be used, so that it is sent only once; (ids by field key, what is wrong with others)."""
    uploads, kept = form.uploads(profile), form.kept(profile)
    faults = list(_store_as_wished(profile, form, kept).values())
    for upload in _uploads(profile, form, uploads):
        try:
            [document] = _add_documents([upload])
            kept[upload.field].append(document.id)
        except InvalidInput as error:
            faults.extend(error.errors.values())
    return kept, faults


def _store_as_wished(profile: Profile, form: RunForm, kept: dict[str, list[int]]) -> dict[str, str]:
    """Store those once more whose box "Send the file itself" was changed after they were stored.

    Changes `kept`; returns, by field key, what is wrong with those that cannot be had that way: they are taken out.
    """
    session = db.session()
    faults: dict[str, str] = {}
    for field in profile.document_fields:
        if not field.allow_file or not kept[field.key]:
            continue
        as_file = bool(form[as_file_key(field)].data)
        found = documents.documents_of(session, current_user.id, kept[field.key])
        others = [(one.id, one.filename, one.storage_key) for one in found.values()
                  if bool(one.provider_file_id) != as_file]  # fmt: skip
        session.rollback()
        for old_id, filename, storage_key in others:
            place = kept[field.key].index(old_id)
            try:
                with parts().storage.open(storage_key) as stream:
                    upload = documents.Upload(field.key, filename, stream, allow_file=True, as_file=as_file)
                    [new] = _add_documents([upload])
                kept[field.key][place] = new.id
            except InvalidInput as error:
                faults[field.key] = " ".join(filter(None, (faults.get(field.key), *error.errors.values())))
                del kept[field.key][place]
            except FileNotFoundError:
                faults[field.key] = f"{filename} is not in the store any more: choose it again."
                del kept[field.key][place]
    return faults


def _add_documents(uploads: list[documents.Upload]) -> list[Document]:
    return documents.add_documents(
        db.session(), parts().storage, parts().pdf, parts().files, user_id=current_user.id, uploads=uploads,
        max_bytes=parts().settings.max_upload_mb * 2**20,
    )  # fmt: skip


def _uploads(profile: Profile, form: RunForm, uploads: dict[str, list[Any]]) -> list[documents.Upload]:
    """The files of all document fields, in the order of the fields."""
    return [
        documents.Upload(
            field.key, file.filename, file.stream, allow_file=field.allow_file,
            as_file=field.allow_file and form[as_file_key(field)].data,
        )
        for field in profile.document_fields
        for file in uploads[field.key]
    ]  # fmt: skip


def _check(
    profile: Profile, values: dict[str, Any], uploads: dict[str, list[Any]], kept: dict[str, list[int]]
) -> None:  # fmt: skip
    """Refuse what is wrong with the fields before any file is read. Raises PlannedProfile or InvalidInput."""
    parts().profiles.runnable(profile.id)
    counts = {key: len(files) + len(kept[key]) for key, files in uploads.items()}
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
        "max_upload_mb": parts().settings.max_upload_mb, "faults": [], "kept": {}, "forecast": None, "unclear": {},
        "calibration": estimates.calibrate(session, profile.id),
        "budgets": budgets.budgets_of(session, user_id=current_user.id, profile_id=profile.id),
        "shutdowns": shutdowns.shutdowns(session, parts().settings, parts().prices, [profile]),
    }  # fmt: skip


def _estimate_context(profile: Profile, form: RunForm, kept: dict[str, list[int]]) -> dict[str, Any]:
    """The forecast, or what has to be filled in before there is one, and the stored documents by field key."""
    session, user = db.session(), current_user._get_current_object()
    forecast, unclear = None, {}
    try:
        forecast = estimates.forecast(
            session, parts().settings, parts().prices, parts().profiles, user=user, profile=profile,
            runs=_runs(form.values(profile), kept),
        )  # fmt: skip
    except InvalidInput as error:
        unclear = error.errors or {"": error.message}
    every = [id_ for ids in kept.values() for id_ in ids]
    found = documents.documents_of(session, user.id, every)
    for document in found.values():
        session.expunge(document)  # it is shown after the transaction: not one more query for each
    shown = {key: [found[id_] for id_ in ids if id_ in found] for key, ids in kept.items()}
    show = shown_in(parts().settings, clock(session))
    session.rollback()  # nobody's retention waits for a person who thinks
    return {"forecast": forecast, "unclear": unclear, "kept": shown, "show": show}


def _form_again(
    profile: Profile, form: RunForm, kept: dict[str, list[int]], errors: dict[str, str], status: int
) -> ResponseReturnValue:
    messages = form.show_errors(errors)
    context = _form_context(profile, form, messages) | _estimate_context(profile, form, kept)
    return reply("jobs/new.html", "jobs/_form.html", status, **context)
