"""n8n's queue mode: what N8N_WORKERS adds to the stack. tests/e2e/test_queue_mode.py runs it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from devstack import layout, queue_mode
from devstack.errors import StackError
from devstack.n8n import N8n
from devstack.wiring import Wiring


@pytest.fixture
def folders(tmp_path: Path) -> layout.Layout:
    folders = layout.Layout(tmp_path, tmp_path, tmp_path / "postgres", None)
    folders.make_folders()
    return folders


def with_workers(folders: layout.Layout, value: str) -> Wiring:
    return Wiring(folders, env={"N8N_WORKERS": value})


def queue_of(n8n: N8n) -> queue_mode.QueueMode:
    assert n8n.queue_mode
    return n8n.queue_mode


@pytest.mark.parametrize("value", ["", "0"])
def test_without_workers_n8n_runs_alone(folders: layout.Layout, value: str) -> None:
    n8n = with_workers(folders, value).n8n
    assert n8n.queue_mode is None
    assert "EXECUTIONS_MODE" not in n8n.command().env


@pytest.mark.parametrize("value", ["two", "-1", "17"])
def test_wrong_number_of_workers_is_named(folders: layout.Layout, value: str) -> None:
    with pytest.raises(StackError, match=f"N8N_WORKERS is '{value}' but must be a number from 0 to 16"):
        _ = with_workers(folders, value).n8n


def test_missing_redis_says_what_to_install(folders: layout.Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_mode.shutil, "which", lambda *_, **__: None)
    with pytest.raises(StackError, match="apt-get install redis-server"):
        with_workers(folders, "1").command("redis")


def test_the_password_of_redis_is_in_a_file_that_only_its_owner_reads(folders: layout.Layout) -> None:
    wiring = with_workers(folders, "1")
    command = wiring.command("redis")
    config = Path(command.argv[1])
    password = wiring.secrets.redis_password
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert f"requirepass {password}\n" in config.read_text()
    assert "bind 127.0.0.1\n" in config.read_text()
    assert password not in " ".join([*command.argv, *command.env.values()])


def test_n8n_and_its_workers_share_redis_and_nothing_that_is_each_ones_own(folders: layout.Layout) -> None:
    wiring = with_workers(folders, "2")
    names = list(queue_of(wiring.n8n).workers)
    commands = [wiring.command(name) for name in ("n8n", *names)]
    assert names == ["n8n-worker-1", "n8n-worker-2"]
    for shared in ("EXECUTIONS_MODE", "QUEUE_BULL_REDIS_PORT", "QUEUE_BULL_REDIS_PASSWORD", "N8N_ENCRYPTION_KEY"):
        assert len({command.env[shared] for command in commands}) == 1
    for own in ("N8N_USER_FOLDER", "N8N_RUNNERS_BROKER_PORT"):
        assert len({command.env[own] for command in commands}) == 3
    assert len({command.env["QUEUE_HEALTH_CHECK_PORT"] for command in commands[1:]}) == 2


def test_a_worker_keeps_to_loopback(folders: layout.Layout) -> None:
    env = with_workers(folders, "1").command("n8n-worker-1").env
    addresses = ("N8N_WORKER_SERVER_ADDRESS", "N8N_RUNNERS_BROKER_LISTEN_ADDRESS", "QUEUE_BULL_REDIS_HOST")
    assert [env[name] for name in addresses] == ["127.0.0.1"] * 3


def test_n8n_s_set_up_needs_no_redis(folders: layout.Layout) -> None:
    assert "EXECUTIONS_MODE" not in with_workers(folders, "1").n8n.setup_command("import:workflow").env


def test_a_part_that_starts_again_keeps_its_ports(folders: layout.Layout) -> None:
    wiring = with_workers(folders, "1")
    assert wiring.command("n8n-worker-1").env == wiring.command("n8n-worker-1").env
