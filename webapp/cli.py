"""`flask --app wsgi …`: what operators run."""

from __future__ import annotations

import os
import signal
import threading
from datetime import UTC, datetime

import click
from flask import Flask

from webapp.cli_benchmark import benchmark
from webapp.cli_simulate import simulate
from webapp.config import read_variable
from webapp.domain.errors import InvalidInput, SluiceError, UnavailableService
from webapp.domain.profiles import profile_schema
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import accounts, doctor, heartbeat
from webapp.services.invariants import INVARIANTS
from webapp.services.price_check import check_prices
from webapp.services.restored import settle_restored


def register(app: Flask) -> None:
    app.cli.add_command(run_heartbeat)
    app.cli.add_command(create_admin)
    app.cli.add_command(examine)
    app.cli.add_command(make_restored_safe)
    app.cli.add_command(profiles_group)
    app.cli.add_command(prices_group)
    app.cli.add_command(simulate)
    app.cli.add_command(benchmark)


@click.command("heartbeat")
def run_heartbeat() -> None:
    """Beat until SIGTERM: dispatch, repeat, end leases, nudge n8n."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    heartbeat.run(db.engine, parts(), should_stop=stop.wait)


@click.command("create-admin")
@click.option("--email", required=True)
def create_admin(email: str) -> None:
    """Make sure that this admin exists, with the password in SLUICE_ADMIN_PASSWORD (or SLUICE_ADMIN_PASSWORD_FILE)."""
    try:
        password = read_variable(os.environ, "SLUICE_ADMIN_PASSWORD") or ""
        created = accounts.ensure_admin(db.session(), email, password)
    except OSError as error:
        raise click.ClickException(f"SLUICE_ADMIN_PASSWORD_FILE: {error.strerror}: {error.filename}") from error
    except InvalidInput as error:
        raise click.ClickException("; ".join(f"{key}: {text}" for key, text in error.errors.items())) from error
    click.echo(f"{email} {'was created' if created else 'is there'}.")


@click.command("doctor")
@click.option("--provider", is_flag=True, help="Compare the provider's list of batches with ours, too.")
@click.option("--cancel-strays", is_flag=True, help="With --provider: cancel running batches that no window knows.")
@click.option("--acknowledge", metavar="BATCH", help="With --provider: somebody has looked into this ended one.")
@click.option("--as", "admin_email", metavar="EMAIL", default="", help="With --acknowledge: the administrator.")
@click.option("--reason", default="", help="With --acknowledge: why that is enough. Both go into the audit log.")
@click.option(
    "--restored",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]),
    metavar="UTC",
    help="With --provider: this database is a backup of that moment; what was made since and no window knows is stray.",
)
def examine(
    provider: bool, cancel_strays: bool, acknowledge: str | None, admin_email: str, reason: str,
    restored: datetime | None,
) -> None:  # fmt: skip
    """Check every invariant over the whole database. Exit status 1 if one does not hold, or a batch is stray."""
    moment = restored.replace(tzinfo=UTC) if restored else None
    if acknowledge:
        _acknowledge(acknowledge, admin_email, reason, moment)
    findings = doctor.examine(db.session(), parts().settings)
    for finding in findings:
        click.echo(f"BROKEN {finding.name}: {finding.holds}\n  {finding.broken_by}")
        click.echo("".join(f"  - {one}\n" for one in finding.what), nl=False)
        if finding.count > len(finding.what):
            click.echo(f"  and {finding.count - len(finding.what)} more")
    click.echo(f"{len(INVARIANTS) - len(findings)} of {len(INVARIANTS)} invariants hold.")
    is_well = not findings
    if provider or cancel_strays or acknowledge or moment:
        is_well = _look_for_strays(cancel_strays, moment) and is_well
    if not is_well:
        raise SystemExit(1)


def _look_for_strays(cancel: bool, restored: datetime | None) -> bool:
    """Print the provider batches that no window knows; True when nobody has to do anything about them."""
    strays = doctor.find_strays(db.session(), parts().settings, parts().batches, restored)
    for stray in strays:
        click.echo(f"{stray.provider_batch_id} of window {stray.window_id}: {stray.words}")
        if cancel and stray.is_running and stray.is_ours:
            try:
                parts().batches.cancel(stray.provider_batch_id)
                click.echo("  was cancelled")
            except UnavailableService as error:
                click.echo(f"  {error.message}")
    click.echo(f"{len(strays)} provider batches that no window knows.")
    return all(stray.is_settled for stray in strays)


def _acknowledge(provider_batch_id: str, admin_email: str, reason: str, restored: datetime | None) -> None:
    try:
        doctor.acknowledge_stray(
            db.session(),
            parts().settings,
            parts().batches,
            provider_batch_id,
            admin_email=admin_email,
            reason=reason,
            restored=restored,
        )
    except InvalidInput as error:
        raise click.ClickException(" ".join(error.errors.values())) from error
    except SluiceError as error:
        raise click.ClickException(error.message) from error


@click.command("restored")
def make_restored_safe() -> None:
    """Make a database that was restored from a backup safe to work on, before anything else runs (docs/backup.md)."""
    done = settle_restored(db.session(), parts().settings)
    click.echo(f"{done.held} queues are held: no window opens before somebody resumes them.")
    click.echo(f"{len(done.searched)} windows look for their batch before they make one: {done.searched}")
    click.echo(f"{len(done.ended)} windows had no input file yet and were ended, their jobs wait: {done.ended}")
    click.echo(f"{done.unfinished} sync jobs had not ended and will run.")
    click.echo(f"{done.due} deadline jobs will run now, whatever is held; others follow when their time comes.")
    click.echo("New ids start a million later.")


@click.group("profiles")
def profiles_group() -> None:
    """Look at the profiles."""


@profiles_group.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of a profile file (committed as profiles/profile.schema.json)."""
    click.echo(profile_schema(), nl=False)


@profiles_group.command("check")
def check_profiles() -> None:
    """Say which profiles were loaded; a wrong file has stopped this command before it began."""
    for profile in parts().profiles:
        modes = " and ".join(profile.execution_modes)
        click.echo(f"{profile.id}: {profile.name} ({profile.status}; {modes})")


@click.group("prices")
def prices_group() -> None:
    """Look at the price list."""


@prices_group.command("check")
def check_price_list() -> None:
    """Say what is wrong with the price list, or will be. Exit status 1 if something is wrong."""
    findings = check_prices(db.session(), parts().settings, parts().profiles, parts().prices)
    for finding in findings:
        click.echo(f"{'WRONG' if finding.is_wrong else 'note '} {finding.sentence}")
    wrong = sum(finding.is_wrong for finding in findings)
    click.echo(f"{sum(1 for _ in parts().prices)} entries in the price list, {wrong} things wrong.")
    if wrong:
        raise SystemExit(1)
