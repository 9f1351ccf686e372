"""`flask --app wsgi …`: what operators run."""

from __future__ import annotations

import os
import signal
import threading

import click
from flask import Flask

from webapp.domain.errors import InvalidInput, UnavailableService
from webapp.domain.profiles import profile_schema
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import accounts, doctor, heartbeat
from webapp.services.invariants import INVARIANTS


def register(app: Flask) -> None:
    app.cli.add_command(run_heartbeat)
    app.cli.add_command(create_admin)
    app.cli.add_command(examine)
    app.cli.add_command(profiles_group)


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
    """Make sure that this admin exists, with the password in SLUICE_ADMIN_PASSWORD."""
    password = os.environ.get("SLUICE_ADMIN_PASSWORD", "")
    try:
        created = accounts.ensure_admin(db.session(), email, password)
    except InvalidInput as error:
        raise click.ClickException("; ".join(f"{key}: {text}" for key, text in error.errors.items())) from error
    click.echo(f"{email} {'was created' if created else 'is there'}.")


@click.command("doctor")
@click.option("--provider", is_flag=True, help="Compare the provider's list of batches with ours, too.")
@click.option("--cancel-strays", is_flag=True, help="With --provider: cancel running batches that no window knows.")
def examine(provider: bool, cancel_strays: bool) -> None:
    """Check every invariant over the whole database. Exit status 1 if one does not hold."""
    findings = doctor.examine(db.session(), parts().settings)
    for finding in findings:
        click.echo(f"BROKEN {finding.name}: {finding.holds}\n  {finding.broken_by}")
        click.echo("".join(f"  - {one}\n" for one in finding.what), nl=False)
        if finding.count > len(finding.what):
            click.echo(f"  and {finding.count - len(finding.what)} more")
    click.echo(f"{len(INVARIANTS) - len(findings)} of {len(INVARIANTS)} invariants hold.")
    is_well = not findings
    if provider or cancel_strays:
        is_well = _look_for_strays(cancel_strays) and is_well
    if not is_well:
        raise SystemExit(1)


def _look_for_strays(cancel: bool) -> bool:
    """Print the provider batches that no window knows; True when none of them may cost anything."""
    strays = doctor.find_strays(db.session(), parts().batches)
    for stray in strays:
        words = "failed unbilled" if stray.is_harmless else f"STRAY, {stray.status}: it may be billed"
        click.echo(f"{stray.provider_batch_id} of window {stray.window_id}: {words}")
        if cancel and stray.is_running:
            try:
                parts().batches.cancel(stray.provider_batch_id)
                click.echo("  was cancelled")
            except UnavailableService as error:
                click.echo(f"  {error.message}")
    click.echo(f"{len(strays)} provider batches that no window knows.")
    return all(stray.is_harmless for stray in strays)


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
