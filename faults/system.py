"""The whole system with a link between every two parts that speak HTTP.

    n8n → internal API    internal_url: in the imported workflows and in each job's callbacks
    app, n8n → provider   OPENAI_BASE_URL; only the app asks for /files, only n8n for the rest
    app → n8n             N8N_URL

PostgreSQL is a unix socket: to kill it is enough.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from devstack.layout import Layout
from devstack.stack import Stack
from devstack.wiring import Provider
from faults.proxy import Link
from webapp.config import ROOT

OWN_PROFILES = Path(__file__).with_name("profiles")
POLL_SECONDS = 2  # longer than a beat: the heartbeat nudges at once for what was not due a beat ago
SETTINGS = {
    "TEST_CLOCK": "1",
    "POLL_SECONDS": str(POLL_SECONDS),
    "OFFLINE_VALIDATING_SECONDS": "0.2",
    "OFFLINE_IN_PROGRESS_SECONDS": "0.8",
    "OFFLINE_FINALIZING_SECONDS": "0.2",
}
# What others need comes first.
START_ORDER = ("postgres", "provider", "internal", "n8n", "web", "heartbeat")
PORTS = {"internal": "INTERNAL_PORT", "provider": "PROVIDER_PORT", "n8n": "N8N_PORT"}


class LinkedStack(Stack):
    """The stack; `links` by the part that they lead to."""

    def __init__(self, folders: Layout, **wiring: Any) -> None:
        super().__init__(folders, **wiring)
        self.links = {name: Link(f"to {name}", self.ports[port]) for name, port in PORTS.items()}
        self.ahead = 0.0  # how far the clock runs ahead; it only ever moves forward

    @property
    def internal_url(self) -> str:
        return self.links["internal"].url

    @property
    def provider(self) -> Provider:
        return replace(super().provider, url=f"{self.links['provider'].url}/v1")

    def app_environment(self) -> dict[str, str]:
        return {**super().app_environment(), "N8N_URL": self.links["n8n"].url}

    def kill(self, name: str) -> None:
        super().kill(name)
        if name in self.links:
            self.links[name].refuse()  # as the kernel does where nobody listens

    def start_part(self, name: str) -> None:
        if name == "internal":  # the question whether it answers goes through its link
            self.links[name].let_pass()
        super().start_part(name)
        if name in self.links:
            self.links[name].let_pass()
        if name == "provider":
            self.move_clock_by(0)

    def move_clock_by(self, seconds: float) -> None:
        """Forward; a provider that is down hears of it when it is back."""
        self.ahead += seconds
        with contextlib.suppress(OSError):
            self.move_clock(self.ahead)

    def keep_logs(self, folder: Path) -> None:
        """Copy what the parts have said: the stack's own folder is gone afterwards."""
        shutil.copytree(self.layout.logs, folder, dirs_exist_ok=True)

    def stop(self) -> None:
        super().stop()
        for link in self.links.values():
            link.close()


@contextlib.contextmanager
def running() -> Iterator[LinkedStack]:
    """The system on free ports, with the probes' profiles beside the committed ones; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sluice-faults-") as folder:
        for source in (ROOT / "profiles", OWN_PROFILES):
            shutil.copytree(source, folder, dirs_exist_ok=True)
        with LinkedStack.throwaway({**SETTINGS, "PROFILES_DIR": folder}) as stack:
            assert isinstance(stack, LinkedStack)
            yield stack
