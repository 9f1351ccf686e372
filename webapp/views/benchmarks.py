"""Benchmark runs: start one, watch it, look at its charts, put two side by side, take the figures away."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TextIO

from flask import Blueprint, Response, flash, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf import FlaskForm
from wtforms import (
    MultipleFileField,
    SelectChoice,
    SelectField,
    SelectMultipleField,
    StringField,
    widgets,
)

from webapp.domain.errors import InvalidInput, InvalidMove, NotFound
from webapp.domain.sample_documents import PAGES
from webapp.domain.states import ExecutionMode
from webapp.extensions import db
from webapp.models import BenchmarkRun, BenchmarkStatus, User
from webapp.parts import parts
from webapp.services import audit as audit_log
from webapp.services import (
    benchmark_charts,
    benchmark_exports,
    benchmark_figures,
    benchmark_plans,
    benchmarks,
    documents,
)
from webapp.services import waiting as waits
from webapp.services.benchmark_charts import Chart
from webapp.services.benchmark_plans import Wish
from webapp.views.access import require_admin
from webapp.views.htmx import go_to, reply

bp = Blueprint("benchmarks", __name__, url_prefix="/admin/benchmarks")
bp.before_request(require_admin)

POLL_SECONDS = {ExecutionMode.SYNC: 2, ExecutionMode.BATCH: 5}
MOST_ROWS = 1_000  # of the table of jobs; the download has all of them
KEPT = "document-kept"  # the boxes of documents that were stored for an estimate


def _boxes(label: str, choices: list[SelectChoice], **more: Any) -> SelectMultipleField:
    return SelectMultipleField(
        label, choices=choices, validate_choice=False, option_widget=widgets.CheckboxInput(),
        widget=widgets.ListWidget(prefix_label=False), **more,
    )  # fmt: skip


def _number(label: str, default: int, most: int) -> StringField:
    return StringField(label, default=str(default), widget=widgets.NumberInput(step="1", min=1, max=most))


class BenchmarkForm(FlaskForm):
    """All of it is checked by `benchmark_plans.check`."""

    profile = SelectField("Profile", validate_choice=False)
    tiers = _boxes(
        "Documents", default=list(PAGES),
        choices=[SelectChoice(tier, f"{tier} (pages: {pages})") for tier, pages in PAGES.items()],
    )  # fmt: skip
    document = MultipleFileField(
        "Documents of your own", render_kw={"accept": "application/pdf"},
        description="Each is a tier, called by its file name.",
    )  # fmt: skip
    modes = _boxes(
        "Modes", default=list(ExecutionMode),
        choices=[SelectChoice("sync", "Now"), SelectChoice("batch", "In a batch")],
    )  # fmt: skip
    jobs = _number("Jobs at once", 20, benchmark_plans.MOST_JOBS_PER_STEP)
    repetitions = _number("Repetitions", 3, benchmark_plans.MOST_REPETITIONS)
    note = StringField("Note", render_kw={"maxlength": benchmark_plans.MOST_NOTE}, description="What you want to know.")


@bp.get("")
def index() -> ResponseReturnValue:
    return render_template("admin/benchmarks.html", **_index_context(_form()))


@bp.post("")
def start() -> ResponseReturnValue:
    form, user = _form(), _user()
    wish = None
    try:
        benchmark_plans.check(parts().profiles, _wish(form, [*_kept(), *_names(form)]))
        wish = _wish(form, _kept() + _store(form, user))
        tiers = _tiers(user, wish)
        run_id = benchmarks.start_run(db.session(), parts().profiles, user=user, wish=wish, tiers=tiers)
    except InvalidInput as error:
        return _index_again(form, error.errors, wish)
    flash(f"Benchmark run {run_id} begins.", "success")
    return go_to(url_for("benchmarks.detail", run_id=run_id))


@bp.post("/estimate")
def estimate() -> ResponseReturnValue:
    """How many jobs the run in the form would be, and what they would cost; its files are stored for it."""
    form, user = _form(), _user()
    errors: dict[str, str] = {}
    kept = _kept()
    try:
        kept += _store(form, user)
    except InvalidInput as error:
        errors = error.errors
    context = _index_context(form) | _estimate_context(form, kept, errors)
    return reply("admin/benchmarks.html", "admin/_benchmark_estimate.html", **context)


@bp.get("/<int:run_id>")
def detail(run_id: int) -> ResponseReturnValue:
    return render_template("admin/benchmark.html", **_run_context(run_id))


@bp.get("/<int:run_id>/status")
def status_fragment(run_id: int) -> ResponseReturnValue:
    return render_template("admin/_benchmark_status.html", **_run_context(run_id))


@bp.post("/<int:run_id>/cancel")
def cancel(run_id: int) -> ResponseReturnValue:
    try:
        count = benchmarks.cancel_run(db.session(), run_id, user=_user(), reason=request.form.get("reason", ""))
        words = (
            f"{count} {'job was' if count == 1 else 'jobs were'} cancelled with it; what has started ends by itself."
        )
        flash(f"Benchmark run {run_id} was cancelled. {words}", "success")
    except InvalidInput as error:
        flash(" ".join(error.errors.values()), "error")
    except InvalidMove as error:
        flash(error.message, "error")
    return go_to(url_for("benchmarks.detail", run_id=run_id))


@bp.get("/<int:run_id>/chart/<name>.json")
def chart(run_id: int, name: str) -> ResponseReturnValue:
    run = benchmarks.get_run(db.session(), run_id)
    try:
        return jsonify(benchmark_charts.chart(db.session(), run, Chart(name)))
    except ValueError:
        raise NotFound from None


@bp.get("/<int:run_id>.json")
def as_json(run_id: int) -> ResponseReturnValue:
    session = db.session()
    run = benchmarks.get_run(session, run_id)
    found = benchmark_exports.as_json(
        run, benchmark_figures.figures(session, run), benchmark_figures.samples(session, run)
    )
    answer = jsonify(found)
    answer.headers["Content-Disposition"] = f'attachment; filename="benchmark-{run_id}.json"'
    return answer


@bp.get("/<int:run_id>/summary.csv")
def summary_csv(run_id: int) -> ResponseReturnValue:
    found = benchmark_figures.figures(db.session(), benchmarks.get_run(db.session(), run_id))
    return _csv(f"benchmark-{run_id}-summary", lambda file: benchmark_exports.write_summary(found, file))


@bp.get("/<int:run_id>/samples.csv")
def samples_csv(run_id: int) -> ResponseReturnValue:
    found = benchmark_figures.samples(db.session(), benchmarks.get_run(db.session(), run_id))
    return _csv(f"benchmark-{run_id}-samples", lambda file: benchmark_exports.write_samples(found, file))


@bp.get("/compare")
def compare() -> ResponseReturnValue:
    """Two runs side by side."""
    session, ids = db.session(), [request.args.get(name, type=int) for name in ("a", "b")]
    chosen = [benchmarks.get_run(session, run_id) for run_id in ids if run_id is not None]
    if len(chosen) < 2:
        return go_to(url_for("benchmarks.index"))
    found = [{(one.mode, one.tier): one for one in benchmark_figures.figures(session, run)} for run in chosen]
    every = [*found[0], *(key for key in found[1] if key not in found[0])]
    return render_template(
        "admin/benchmark_compare.html", runs=chosen, figures=found, others=benchmarks.list_runs(session, size=100),
        groups=sorted(every, key=lambda key: key == (None, None)),
    )  # fmt: skip


def _user() -> User:
    user: User = current_user._get_current_object()
    return user


def _form() -> BenchmarkForm:
    form = BenchmarkForm()
    form.profile.choices = [SelectChoice(one.id, one.name) for one in benchmark_plans.suited(parts().profiles)]
    return form


def _kept() -> list[int]:
    return request.form.getlist(KEPT, type=int)


def _names(form: BenchmarkForm) -> list[Any]:
    """The files that were chosen and are not stored yet."""
    return [file for file in form.document.data or [] if getattr(file, "filename", "")]


def _store(form: BenchmarkForm, user: User) -> list[int]:
    """Store the files in the form; the ids of their documents. Raises InvalidInput."""
    uploads = [documents.Upload("document", file.filename, file.stream) for file in _names(form)]
    if not uploads:
        return []
    found = documents.add_documents(
        db.session(), parts().storage, parts().pdf, parts().files, user_id=user.id, uploads=uploads,
        max_bytes=parts().settings.max_upload_mb * 2**20,
    )  # fmt: skip
    return [document.id for document in found]


def _wish(form: BenchmarkForm, kept: list[Any]) -> Wish:
    """What the form asks for, with these documents. What is no number is 0, which is refused."""

    def number(text: str | None) -> int:
        return int(text) if text and text.isdecimal() and len(text) < 9 else 0

    return Wish(
        form.profile.data or "", form.tiers.data or [], kept, form.modes.data or [], number(form.jobs.data),
        number(form.repetitions.data), form.note.data or "",
    )  # fmt: skip


def _tiers(user: User, wish: Wish) -> dict[str, int]:
    return benchmark_plans.tier_documents(
        db.session(), parts().storage, parts().pdf, parts().files, user_id=user.id, wish=wish,
        max_bytes=parts().settings.max_upload_mb * 2**20,
    )  # fmt: skip


def _index_context(form: BenchmarkForm) -> dict[str, Any]:
    session, before = db.session(), request.args.get("before", type=int)
    runs = benchmarks.list_runs(session, before=before)
    return {
        "form": form, "runs": runs, "before": before,
        "older": runs[-1].id if len(runs) == benchmarks.RUNS_PAGE else None,
        "jobs_of": lambda run: len(benchmarks.steps(run)) * run.jobs_per_step,
        "asked": False, "wish": None, "cost": None, "kept": [], "faults": [],
    }  # fmt: skip


def _estimate_context(form: BenchmarkForm, kept: list[int], errors: dict[str, str]) -> dict[str, Any]:
    """What the run in the form is and costs (`cost` None: the form is not filled in yet), and its stored documents."""
    session, user, wish, cost = db.session(), _user(), _wish(form, kept), None
    faults = list(errors.values())
    try:
        benchmark_plans.check(parts().profiles, wish)
        cost = benchmark_plans.forecast(
            session, parts().settings, parts().prices, parts().profiles, user=user, wish=wish, tiers=_tiers(user, wish)
        )
    except InvalidInput as error:
        faults += error.errors.values()
    found = documents.documents_of(session, user.id, kept)
    shown = [found[id_] for id_ in kept if id_ in found]
    session.rollback()  # nobody's retention waits for a person who thinks
    return {"asked": True, "wish": wish, "cost": cost, "kept": shown, "faults": faults}


def _index_again(form: BenchmarkForm, errors: dict[str, str], wish: Wish | None) -> ResponseReturnValue:
    for key, message in errors.items():
        form[key].errors = [message]
    context = _index_context(form) | _estimate_context(form, list(wish.documents) if wish else _kept(), {})
    return render_template("admin/benchmarks.html", **context | {"faults": []}), 422


def _run_context(run_id: int) -> dict[str, Any]:
    session = db.session()
    run: BenchmarkRun = benchmarks.get_run(session, run_id)
    is_over = run.status != BenchmarkStatus.RUNNING
    progress = benchmarks.progress(session, run)
    job = None if is_over else progress.waiting_for
    found = benchmark_figures.figures(session, run)
    return {
        "run": run, "is_over": is_over, "progress": progress, "figures": found,
        "charts": [name for name in Chart if name.mode is None or name.mode in run.modes],
        "waiting": waits.why_waiting(session, parts().settings, parts().profiles, job) if job else None,
        "poll_seconds": POLL_SECONDS[progress.step.mode if progress.step else ExecutionMode.SYNC],
        "samples": benchmark_figures.samples(session, run)[:MOST_ROWS] if is_over else [],
        "audit": audit_log.list_audit(session, target=f"benchmark:{run_id}"),
        "others": [one for one in benchmarks.list_runs(session, size=100) if one.id != run.id] if is_over else [],
    }  # fmt: skip


def _csv(name: str, write: Callable[[TextIO], None]) -> ResponseReturnValue:
    """A download; a run has at most some thousand jobs, so memory will do."""
    file = io.StringIO(newline="")
    write(file)
    return Response(
        file.getvalue(), content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )  # fmt: skip
