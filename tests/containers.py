"""Builds the images, brings compose.yml up, plain and at scale, and runs a job in each mode through it.

    make compose-test

It leaves nothing behind but the images: its project, its secrets and its port are its own. Where no Docker engine is it
says so and exits with 1; with --or-skip, for other tests, with 0.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from deploy import compose_secrets
from devstack.ports import free_ports
from devstack.processes import status_of
from devstack.stack import Stack
from tests.people import Person, await_
from webapp.config import ROOT

DOCUMENT = ROOT / "tests/data/two-pages.pdf"
START_SECONDS = 600
QUICK = {"REGISTRATION": "open", "MAX_BATCH_SIZE": "3", "POLL_SECONDS": "1"}
COMPOSE = ("docker", "compose", "--project-name", "sluice-test", "--file", "compose.yml")


def missing() -> str | None:
    """What is not here of what this needs."""
    for command, what in (
        (["docker", "info"], "no Docker engine answers: start one, or set DOCKER_HOST"),
        (["docker", "compose", "version"], "docker has no compose plugin: install docker-compose-plugin"),
    ):
        try:
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return what
        except FileNotFoundError:
            return "there is no docker: install it"
    return None


@contextlib.contextmanager
def running(folder: Path, *profiles: str) -> Iterator[str]:
    """The system in containers; gives the web app's address. Containers, networks and volumes are gone afterwards."""
    [port] = free_ports(1)
    override = folder / "override.json"
    parts = {part: {"environment": QUICK} for part in ("web", "internal", "heartbeat")}
    override.write_text(json.dumps({"services": parts}))
    compose = [*COMPOSE, "--file", str(override), *(f"--profile={profile}" for profile in profiles)]
    # Whatever .env says.
    own = {"OPENAI_BASE_URL": "", "OFFLINE_REPLICAS": "1", "COMPOSE_PROFILES": "", "EXECUTIONS_MODE": "auto"}
    env = {**os.environ, **own, "WEB_PORT": str(port), "SECRETS_DIR": str(folder)}

    def run(*arguments: str) -> None:
        subprocess.run([*compose, *arguments], cwd=ROOT, env=env, check=True)

    try:
        run("up", "--build", "--detach")
        url = f"http://127.0.0.1:{port}"
        await_(lambda: status_of(f"{url}/readyz") == 200, "a 200 from /readyz", START_SECONDS)
        yield url
    except BaseException:
        run("ps", "--all")
        run("logs", "--no-color", "--tail=100")
        raise
    finally:
        run("down", "--volumes", "--timeout=5")


def use(url: str) -> None:
    """A job now, and a window of three."""
    person = Person(cast(Stack, SimpleNamespace(web_url=url)), f"p{time.time_ns()}@example.org")
    form: dict[str, Any] = {"executionMode": "sync"}
    [job] = person.run(DOCUMENT, **form)
    person.await_status(job)
    for job in person.run(*[DOCUMENT] * 3, executionMode="batch"):
        person.await_status(job)
    person.http.close()


def main(*options: str) -> int:
    if what := missing():
        print(f"compose-test was not run: {what}.", file=sys.stderr)
        return 0 if "--or-skip" in options else 1
    for profiles in ((), ("scale",)):
        with tempfile.TemporaryDirectory(prefix="sluice-compose-") as folder:
            compose_secrets.make(Path(folder))
            with running(Path(folder), *profiles) as url:
                use(url)
        print(f"A job in each mode went through {' '.join(['docker compose', *profiles])}.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
