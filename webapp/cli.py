"""`flask --app wsgi …`: what operators run."""

from __future__ import annotations

import os
import signal
import threading

import click
from flask import Flask

from webapp.domain.errors import InvalidInput
from webapp.domain.profiles import profile_schema
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import accounts, heartbeat


def register(app: Flask) -> None:
    app.cli.add_command(run_heartbeat)
    app.cli.add_command(create_admin)
    app.cli.add_command(profiles_group)


@click.command("heartbeat")
def run_heartbeat() -> None:
    """Beat until SIGTERM: dispatch, repeat, end leases, nudge n8n."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    found = parts()
    heartbeat.run(db.engine, found.settings, found.profiles, found.n8n, should_stop=stop.wait)


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
