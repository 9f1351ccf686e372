"""One real n8n for the whole folder, talking to a stub that plays the app and the provider."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devstack import n8n_install, n8n_setup, n8n_sync, postgres
from devstack.n8n import N8n
from devstack.ports import free_ports
from devstack.postgres import Cluster
from devstack.processes import Command, Process, wait_until

from .stub import Stub

BOOT_SECONDS = 120


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with postgres.throwaway() as cluster:
        yield cluster


@dataclass
class LiveN8n:
    n8n: N8n
    stub: Stub
    process: Process

    def call(self, path: str, payload: dict[str, Any], token: str | None = None) -> int:
        """Call a webhook with the right token (or `token`); return the status."""
        headers = {"Content-Type": "application/json", "X-Sluice-Token": token or self.n8n.secrets.n8n_webhook_token}
        request = urllib.request.Request(f"{self.n8n.url}/webhook/{path}", json.dumps(payload).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def prepare(self, *, force: bool = False) -> list[str]:
        """What a start does before n8n runs."""
        return n8n_setup.prepare(self.n8n, self.run_once, force=force)

    def run_once(self, command: Command, seconds: float) -> None:
        task = Process(command, self.n8n.home / "setup.log")
        task.start()
        task.wait(seconds)

    def start(self) -> None:
        self.process.start()
        wait_until(self.n8n.is_ready, what="n8n", seconds=BOOT_SECONDS, processes=[self.process])


@pytest.fixture(scope="session")
def live_n8n(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveN8n]:
    n8n_install.ensure()
    home: Path = tmp_path_factory.mktemp("n8n")
    stub = Stub()
    port, broker = free_ports(2)
    workflows = home / "workflows"
    shutil.copytree(n8n_sync.WORKFLOWS, workflows)
    _stop_the_clock(workflows / "windows.json")
    n8n = N8n(home, port, broker, cluster, cluster.secrets, stub.url, "sk-test", os.environ, workflows)
    live = LiveN8n(n8n, stub, Process(n8n.command(), home / "n8n.log"))
    try:
        assert live.prepare() == []
        live.start()
        yield live
    finally:
        live.process.stop()
        stub.close()


def _stop_the_clock(path: Path) -> None:
    """A scheduled run in the middle of a test would take what the test put there for its own."""
    workflow = json.loads(path.read_text())
    for node in workflow["nodes"]:
        if node["name"] == "Every minute":
            node["disabled"] = True
    path.write_text(json.dumps(workflow))


@pytest.fixture
def live(live_n8n: LiveN8n) -> LiveN8n:
    live_n8n.stub.reset()
    return live_n8n


@pytest.fixture
def unused_port() -> int:
    return free_ports(1)[0]
