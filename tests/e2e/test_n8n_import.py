"""n8n's image brings its workflows in: its entry program against the real n8n and a real database.

n8n itself is never started here: so it is at the first deployment, and when that was broken off and is repeated.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack import n8n_install, n8n_sync, postgres
from devstack.n8n import SETTINGS
from devstack.postgres import PORT, Cluster

pytestmark = pytest.mark.e2e
APP = "http://internal:8001"
SECRETS = {
    "DB_POSTGRESDB_PASSWORD": "", "N8N_ENCRYPTION_KEY": "an encryption key for tests",
    "INTERNAL_TOKEN": "an internal token", "N8N_WEBHOOK_TOKEN": "a webhook token", "OPENAI_API_KEY": "sk-tests",
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    n8n_install.ensure()
    with postgres.throwaway() as cluster:
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    with cluster.connect("n8ndb") as connection:
        yield connection


class Import:
    """The image's /sluice, changed or not, and what is on its PATH. The secrets come as files."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.sluice, self.tmp, programs = folder / "sluice", folder / "tmp", folder / "bin"
        for path in (self.sluice, self.tmp, programs):
            path.mkdir()
        for name in ("entrypoint", "import.mjs"):
            shutil.copy(n8n_install.SOURCE / name, self.sluice)
        shutil.copytree(n8n_sync.WORKFLOWS, self.sluice / "workflows")
        self.n8n = programs / "n8n"
        self.n8n.symlink_to(n8n_install.install_dir() / "node_modules/n8n/bin/n8n")
        (programs / "node").symlink_to(n8n_install.node())
        self.env = {
            **SETTINGS, "PATH": f"{programs}:{os.defpath}", "HOME": str(folder), "TMPDIR": str(self.tmp),
            "DB_TYPE": "postgresdb", "DB_POSTGRESDB_HOST": str(cluster.socket_dir), "DB_POSTGRESDB_PORT": str(PORT),
            "DB_POSTGRESDB_DATABASE": "n8ndb", "DB_POSTGRESDB_USER": "n8n",
            "INTERNAL_URL": f"{APP}/", "OPENAI_BASE_URL": "https://api.openai.com/v1",
        }  # fmt: skip
        for name, value in SECRETS.items():
            (folder / name).write_text(value or cluster.password("n8n"))
            self.env[f"{name}_FILE"] = str(folder / name)

    def change(self, file_name: str, **parts: Any) -> None:
        file = self.sluice / "workflows" / file_name
        file.write_text(json.dumps({**json.loads(file.read_text()), **parts}))

    def run(self) -> subprocess.CompletedProcess[str]:
        command = [self.sluice / "entrypoint", "import"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)
        assert not list(self.tmp.iterdir()), "the file with the credentials must be gone"
        return done


@pytest.fixture
def image(tmp_path: Path, cluster: Cluster) -> Import:
    return Import(tmp_path, cluster)


def test_an_empty_n8n_gets_credentials_and_runs_every_workflow(
    image: Import, database: psycopg.Connection[Any]
) -> None:
    done = image.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values() if secret)
    assert "replaced now" not in done.stdout
    stored, files = n8n_sync.read_database(database), n8n_sync.read_files(APP)
    assert {key: n8n_sync.digest(one.workflow) for key, one in stored.items()} == {
        key: n8n_sync.digest(workflow) for key, workflow in files.items()
    }
    assert all(one.published for one in stored.values())
    assert len(database.execute("SELECT id FROM credentials_entity").fetchall()) == 3


def test_only_what_changed_is_brought_in_again(image: Import, database: psycopg.Connection[Any]) -> None:
    versions = 'SELECT id, "activeVersionId" FROM workflow_entity'
    before = dict(database.execute(versions).fetchall())
    image.change("run.json", name="Changed")
    done = image.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Other than in the image, and replaced now: “Sluice run”." in done.stdout
    after = dict(database.execute(versions).fetchall())
    assert {key for key in after if after[key] != before[key]} == {"sluiceRun0000001"}
    assert n8n_sync.read_database(database)["sluiceRun0000001"].published


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (0, "n8n did not take over or publish “Sluice errors”, “Sluice run”, “Sluice windows”"),
        (1, "n8n import:credentials ended with 1"),
    ],
    ids=["n8n passes a file over in silence", "n8n refuses"],
)
def test_what_n8n_does_not_take_fails_the_import(image: Import, code: int, says: str) -> None:
    """With a stand-in for n8n: the real one does either, by what is wrong with a file."""
    image.n8n.unlink()
    image.n8n.write_text(f"#!/bin/sh\nexit {code}\n")
    image.n8n.chmod(0o755)
    done = image.run()
    assert done.returncode == 1 and says in done.stderr


def test_what_is_not_set_is_named(image: Import) -> None:
    for name in ("INTERNAL_URL", "OPENAI_API_KEY_FILE"):
        del image.env[name]
    done = image.run()
    assert done.returncode == 1 and "not set: INTERNAL_URL, OPENAI_API_KEY" in done.stderr
