"""`flask --app wsgi benchmark`: start a benchmark run, wait for its end, print what it measured."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import click
from sqlalchemy.orm import Session

from webapp.domain.errors import InvalidInput
from webapp.extensions import db
from webapp.models import BenchmarkRun, BenchmarkStatus, User
from webapp.parts import parts
from webapp.services import accounts, benchmark_exports, benchmark_figures, benchmark_plans, benchmarks, documents
from webapp.services.benchmark_charts import MODE_LABELS
from webapp.services.benchmark_figures import Figures
from webapp.services.benchmark_plans import Wish

LOOK_EVERY_SECONDS = 1.0
SILENT_SECONDS = 20.0  # when nothing has begun by then, a hint is due
COLUMNS = (
    "mode", "tier", "jobs", "done", "failed", "total s", "mean s", "p50 s", "p95 s", "in", "out", "cost USD", "unknown",
    "USD/job", "jobs/min",
)  # fmt: skip
sleep = time.sleep


@click.command("benchmark")
@click.option("--profile", "profile_id", help="Default: the first that can be measured.")
@click.option("--tiers", default="S,M,L", show_default=True, help="Generated documents; empty for none.")
@click.option("--document", "paths", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A PDF of your own, as a tier that is called by its file name; may be repeated.")  # fmt: skip
@click.option("--jobs", default=20, show_default=True, help="Jobs at once, in each step.")
@click.option("--repetitions", default=3, show_default=True)
@click.option("--modes", default="sync,batch", show_default=True)
@click.option("--note", default="", help="What you want to know.")
@click.option("--email", help="The admin whose jobs these are. Default: the only one.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def benchmark(
    profile_id: str | None, tiers: str, paths: tuple[Path, ...], jobs: int, repetitions: int, modes: str, note: str,
    email: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Start a benchmark run and wait for its end; the heartbeat runs it. Exit status 1 if it failed.

    Ctrl-C leaves it running: its page is /admin/benchmarks/<id>, where it can be cancelled.
    """
    session = db.session()
    try:
        user = accounts.find_admin(session, email)
        suited = benchmark_plans.suited(parts().profiles)
        wish = Wish(
            profile_id or (suited[0].id if suited else ""), _words(tiers), range(len(paths)), _words(modes), jobs,
            repetitions, note,
        )  # fmt: skip
        run_id = _start(session, user, wish, paths)
    except InvalidInput as error:
        raise click.ClickException("; ".join(f"{key}: {text}" for key, text in error.errors.items())) from error
    run = _wait(session, run_id)
    if as_json:
        found, samples = benchmark_figures.figures(session, run), benchmark_figures.samples(session, run)
        click.echo(json.dumps(benchmark_exports.as_json(run, found, samples), indent=2, ensure_ascii=False))
    else:
        _print_table(benchmark_figures.figures(session, run))
    if run.problem:
        click.echo(run.problem, err=True)
    if run.status != BenchmarkStatus.COMPLETED:
        raise SystemExit(1)


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _start(session: Session, user: User, wish: Wish, paths: tuple[Path, ...]) -> int:
    """Store the documents and begin. Raises InvalidInput."""
    own = parts()
    benchmark_plans.check(own.profiles, wish)
    most = own.settings.max_upload_mb * 2**20
    ids: list[int] = []
    if paths:
        with contextlib.ExitStack() as files:
            uploads = [
                documents.Upload("document", path.name, files.enter_context(path.open("rb"))) for path in paths
            ]  # fmt: skip
            found = documents.add_documents(
                session, own.storage, own.pdf, own.files, user_id=user.id, uploads=uploads, max_bytes=most
            )
            ids = [document.id for document in found]
    wish = Wish(wish.profile_id, wish.tiers, ids, wish.modes, wish.jobs_per_step, wish.repetitions, wish.note)
    tiers = benchmark_plans.tier_documents(
        session, own.storage, own.pdf, own.files, user_id=user.id, wish=wish, max_bytes=most
    )
    cost = benchmark_plans.forecast(
        session, own.settings, own.prices, own.profiles, user=user, wish=wish, tiers=tiers
    )  # fmt: skip
    session.rollback()
    run_id = benchmarks.start_run(session, own.profiles, user=user, wish=wish, tiers=tiers)
    most_said = "unknown" if cost.ceiling is None else f"${cost.ceiling:,.4f}"
    click.echo(f"Benchmark run {run_id}: {wish.job_count} jobs of {', '.join(tiers)}; at most {most_said}.", err=True)
    return run_id


def _wait(session: Session, run_id: int) -> BenchmarkRun:
    """Look at the rows until the run has ended, and say what is new."""
    said, waited = "", 0.0
    while True:
        session.rollback()
        run = benchmarks.get_run(session, run_id)
        found = benchmarks.progress(session, run)
        words = f"{found.ended} of {found.all_jobs} jobs have ended" + (f" ({found.step})" if found.step else "")
        if words != said:
            click.echo(words, err=True)
            said = words
        if run.status != BenchmarkStatus.RUNNING:
            return run
        if not found.made and waited < SILENT_SECONDS <= waited + LOOK_EVERY_SECONDS:
            click.echo("Nothing has begun: is the heartbeat running?", err=True)
        session.rollback()  # nobody waits for a command that sleeps
        sleep(LOOK_EVERY_SECONDS)
        waited += LOOK_EVERY_SECONDS


def _print_table(found: list[Figures]) -> None:
    rows = [COLUMNS, *(_cells(one) for one in found)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
    for row in rows:
        cells = [cell.ljust(width) if index < 2 else cell.rjust(width)
                 for index, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        click.echo("  ".join(cells).rstrip())


def _cells(one: Figures) -> tuple[str, ...]:
    def number(value: float | None, digits: int = 2) -> str:
        return "–" if value is None else f"{value:,.{digits}f}"

    def money(value: object) -> str:
        return "unknown" if value is None and one.unknown else "–" if value is None else f"{value:.6f}"

    return (
        MODE_LABELS[one.mode] if one.mode else "Total", one.tier or "all", str(one.submitted), str(one.completed),
        str(one.failed + one.cancelled), *(number(value) for value in (one.seconds, one.mean, one.p50, one.p95)),
        number(one.input_tokens, 0), number(one.output_tokens, 0), money(one.amount), str(one.unknown),
        money(one.cost_per_job), number(one.jobs_per_minute, 1),
    )  # fmt: skip
