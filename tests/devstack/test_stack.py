"""The whole stack, with a stub for the app: what is started, with which environment, and how all of it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

from devstack import layout, n8n_install, wiring
from devstack.errors import StackError
from devstack.orphans import recorded_pid
from devstack.ports import DEFAULT_PORTS, check_free, free_ports
from devstack.processes import status_of, wait_until
from devstack.stack import ADMIN_EMAIL, Stack, welcome

from . import stub_checkout

CHECKOUT = Path(__file__).parents[2]
PARTS = ("postgres", "provider", "n8n", "internal", "web", "heartbeat")
START_SECONDS = 180


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stub_checkout.write(tmp_path_factory.mktemp("checkout") / "sluice")


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Stack]:
    """A stack that is not started: for what it would do."""
    stack = Stack(layout.for_folder(tmp_path), env={"PATH": os.environ["PATH"]})
    stack.layout.make_folders()
    yield stack
    if os.geteuid() == 0:
        stack.layout.postgres_dir.parent.rmdir()


def with_env(stack: Stack, **env: str) -> Stack:
    return Stack(stack.layout, env=env)


# Before anything starts


@pytest.mark.parametrize("value", ["http", "0", "70000", "-1"])
def test_wrong_port_is_named(bare: Stack, value: str) -> None:
    with pytest.raises(StackError, match=f"N8N_PORT is '{value}' but must be a port number"):
        with_env(bare, N8N_PORT=value)


def test_two_parts_on_one_port_are_named(bare: Stack) -> None:
    with pytest.raises(StackError, match="WEB_PORT and INTERNAL_PORT are the same port"):
        with_env(bare, WEB_PORT="8001")


def test_port_in_use_is_named_with_the_setting_to_change(bare: Stack) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StackError, match=f"Port {port} is in use by another program: set WEB_PORT"):
            check_free(with_env(bare, WEB_PORT=str(port)).ports)


def test_second_start_from_the_same_folder_is_refused(bare: Stack) -> None:
    bare._claim()
    try:
        with pytest.raises(StackError, match=rf"already running from this checkout \(process {os.getpid()}\)"):
            with_env(bare).start()
    finally:
        bare.stop()


# The environment of the app


def test_settings_of_the_caller_reach_the_app(bare: Stack) -> None:
    env = with_env(bare, MAX_BATCH_SIZE="3", REGISTRATION="closed", POLL_SECONDS="9").app_environment()
    assert (env["MAX_BATCH_SIZE"], env["REGISTRATION"], env["POLL_SECONDS"]) == ("3", "closed", "9")


def test_wiring_is_ours_whatever_the_caller_has(bare: Stack) -> None:
    env = with_env(bare, DATABASE_URL="postgresql://elsewhere", SECRET_KEY_FILE="/etc/secret").app_environment()
    assert env["DATABASE_URL"].startswith("postgresql+psycopg://sluice:")
    assert env["SECRET_KEY"] == bare.secrets.secret_key
    assert "SECRET_KEY_FILE" not in env


def test_without_a_key_the_offline_provider_answers(bare: Stack) -> None:
    env = with_env(bare, OPENAI_BASE_URL="https://elsewhere.example").app_environment()
    assert env["OPENAI_BASE_URL"] == f"http://127.0.0.1:{DEFAULT_PORTS['PROVIDER_PORT']}/v1"
    assert env["OPENAI_API_KEY"] == bare.secrets.provider_key
    assert env["POLL_SECONDS"] == "2"


@pytest.mark.parametrize("base", ["", "https://here.openai.azure.com/openai/v1/"])
def test_with_a_key_its_provider_answers(bare: Stack, base: str) -> None:
    stack = with_env(bare, OPENAI_API_KEY="sk-mine", OPENAI_BASE_URL=base)
    env = stack.app_environment()
    assert env["OPENAI_BASE_URL"] == (base or "https://api.openai.com/v1")
    assert env["OPENAI_API_KEY"] == stack.n8n.provider_key == "sk-mine"
    assert "POLL_SECONDS" not in env


def test_key_may_come_in_a_file(bare: Stack, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-filed\n")
    env = with_env(bare, OPENAI_API_KEY_FILE=str(tmp_path / "key")).app_environment()
    assert env["OPENAI_API_KEY"] == "sk-filed"
    assert "OPENAI_API_KEY_FILE" not in env


def test_n8n_keeps_to_loopback_and_sees_none_of_the_callers_secrets(bare: Stack) -> None:
    env = with_env(bare, OPENAI_API_KEY="sk-mine", AWS_SECRET="x", N8N_EXPRESSION_ENGINE="vm").n8n.environment()
    assert env["N8N_LISTEN_ADDRESS"] == env["N8N_RUNNERS_BROKER_LISTEN_ADDRESS"] == "127.0.0.1"
    assert env["N8N_BLOCK_ENV_ACCESS_IN_NODE"] == "true"
    assert env["N8N_EXPRESSION_ENGINE"] == "vm"
    assert not {"OPENAI_API_KEY", "AWS_SECRET", "SECRET_KEY", "DATABASE_URL"} & env.keys()


def test_passwords_with_odd_characters_survive_the_address(bare: Stack) -> None:
    bare.cluster.secrets = replace(bare.secrets, sluice_password="p@ss/w:rd %?")
    url = make_url(bare.cluster.url("sluice"))
    assert (url.password, url.database) == ("p@ss/w:rd %?", "sluice")
    assert url.query["host"] == str(bare.cluster.socket_dir)


# A running stack


class Running:
    """`make run` in a process of its own."""

    def __init__(self, folder: Path, checkout: Path, ports: dict[str, int]) -> None:
        self.folders, self.ports = layout.for_folder(folder), ports
        n8n_install.ensure()
        self._log = folder.with_suffix(".out")
        driver = [sys.executable, "-c", stub_checkout.DRIVER, str(folder), str(checkout), json.dumps(ports)]
        with open(self._log, "w") as log:
            self.child = subprocess.Popen(driver, cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['WEB_PORT']}"

    def await_up(self) -> Running:
        deadline = time.monotonic() + START_SECONDS
        while "(up in" not in self.output:
            assert self.child.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)
        return self

    def pid(self, name: str) -> int | None:
        return recorded_pid(self.folders.run_dir, name)

    def alive(self) -> list[str]:
        return [name for name in PARTS if self.pid(name)]

    def end(self, number: signal.Signals, seconds: float = 30) -> int:
        self.child.send_signal(number)
        return self.child.wait(seconds)


Start = Callable[[], Running]


@pytest.fixture(scope="module")
def start_without_waiting(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Start]:
    """Start the stack, always in the same folder: the second start is the interesting one."""
    folder = tmp_path_factory.mktemp("stack") / "home"
    folder.mkdir()
    ports = dict(zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True))
    runs: list[Running] = []

    def start() -> Running:
        runs.append(Running(folder, checkout, ports))
        return runs[-1]

    yield start
    for run in runs:
        if run.child.poll() is None:
            run.end(signal.SIGTERM)
    if os.geteuid() == 0:
        shutil.rmtree(layout.for_folder(folder).postgres_dir.parent)


@pytest.fixture
def start(start_without_waiting: Start) -> Start:
    return lambda: start_without_waiting().await_up()


@pytest.mark.e2e
def test_everything_comes_up_and_ctrl_c_ends_all_of_it(start: Start) -> None:
    run = start()
    assert run.alive() == list(PARTS)
    assert status_of(f"{run.url}/readyz") == 200
    assert f"Sluice       {run.url}" in run.output
    assert f"log in as    {ADMIN_EMAIL}" in run.output
    assert (run.folders.documents / "admins").read_text() == f"{ADMIN_EMAIL}\n"
    with urllib.request.urlopen(f"{run.url}/environment") as answer:
        env = json.load(answer)
    assert env["INTERNAL_URL"] == f"http://127.0.0.1:{run.ports['INTERNAL_PORT']}"
    began = time.monotonic()
    assert run.end(signal.SIGINT) == 0, run.output
    assert time.monotonic() - began < 10
    assert run.alive() == []


@pytest.mark.e2e
def test_ctrl_c_in_the_middle_of_the_start_ends_all_of_it(start_without_waiting: Start) -> None:
    run = start_without_waiting()
    wait_until(lambda: run.pid("provider") is not None, what="The first part", seconds=60)
    began = time.monotonic()
    assert run.end(signal.SIGINT) == 0, run.output
    assert time.monotonic() - began < 10
    assert run.alive() == []


@pytest.mark.e2e
def test_after_a_kill_the_next_start_needs_no_hand_and_little_time(start: Start) -> None:
    run = start()
    before = {name: run.pid(name) for name in PARTS}
    assert run.end(signal.SIGKILL) == -signal.SIGKILL
    began = time.monotonic()
    run = start()
    assert time.monotonic() - began < 40  # under 20 s on an idle machine
    assert run.alive() == list(PARTS)
    assert not set(before.values()) & {run.pid(name) for name in PARTS}
    assert run.end(signal.SIGTERM) == 0


@pytest.mark.e2e
def test_part_that_dies_ends_the_rest_with_its_last_words(start: Start) -> None:
    run = start()
    os.kill(run.pid("heartbeat"), signal.SIGKILL)
    assert run.child.wait(30) == 1
    assert "heartbeat was ended by SIGKILL. It said last:\nthe heart beats" in run.output
    assert run.alive() == []


@pytest.mark.e2e
def test_one_part_can_be_killed_and_started_again(start: Start, checkout: Path) -> None:
    run = start()
    run.end(signal.SIGINT)
    stack = Stack(run.folders, ports=run.ports, checkout=checkout, durable=False)
    try:
        stack.start()
        for name in ("n8n", "web", "postgres"):
            before = stack.process(name).pid
            stack.kill(name)
            assert not stack.process(name).alive
            stack.start_part(name)
            assert stack.process(name).pid != before
        assert "the heart beats" in stack.logs("heartbeat")
        assert ADMIN_EMAIL in welcome(stack)
    finally:
        stack.stop()


def test_throwaway_stack_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-developer")
    monkeypatch.setattr(Stack, "start", lambda stack: stack.claim_and_start_postgres())
    with Stack.throwaway({"MAX_BATCH_SIZE": "3"}) as stack:
        assert stack.provider.is_offline
        assert stack.app_environment()["MAX_BATCH_SIZE"] == "3"
        stack.cluster.connect().close()
    assert not stack.layout.runtime_dir.exists()
    assert not stack.layout.postgres_dir.exists()
    assert os.geteuid() or not stack.layout.postgres_dir.parent.exists()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"event": "request", "level": "info", "status": 200}', None),
        ('{"event": "n8n was not nudged", "level": "warning"}', "warning: n8n was not nudged"),
        ('{"event": "broken", "level": "error", "exception": "Traceback …"}', "error: broken\nTraceback …"),
        ("Error: settings are wrong", "Error: settings are wrong"),
        ("[1]", "[1]"),
    ],
)
def test_the_console_shows_what_is_news_of_the_apps_log(line: str, shown: str | None) -> None:
    assert wiring._in_short(line) == shown
