"""How the parts find each other: addresses, secrets, the environment and the command line of each."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from devstack import n8n_sync, secrets
from devstack.errors import StackError
from devstack.layout import CHECKOUT, Layout
from devstack.n8n import N8n
from devstack.ports import chosen_ports
from devstack.postgres import Cluster
from devstack.processes import Command, status_of
from devstack.queue_mode import QueueMode

OPENAI_URL = "https://api.openai.com/v1"
OFFLINE_POLL_SECONDS = "2"
# The wiring is ours, also when the caller's environment has such a variable (or its *_FILE).
WIRING = (
    *("DATABASE_URL", "SECRET_KEY", "INTERNAL_TOKEN", "INTERNAL_URL", "N8N_URL", "N8N_WEBHOOK_TOKEN"),
    *("OPENAI_BASE_URL", "OPENAI_API_KEY", "STORAGE_DIR", "STORAGE_CONTAINER_URL", "STORAGE_CONNECTION_STRING"),
)


@dataclass(frozen=True)
class Provider:
    """Who answers: the offline provider (`is_offline`), or the one that the caller's key is for."""

    url: str
    key: str
    is_offline: bool


class Wiring:
    """The parts below one `Layout`, at rest. `env` is the caller's environment: its settings reach the app."""

    def __init__(
        self,
        folders: Layout,
        *,
        env: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        checkout: Path = CHECKOUT,
        workflows: Path = n8n_sync.WORKFLOWS,
        durable: bool = True,
    ) -> None:
        self.layout = folders
        self.caller = dict(os.environ if env is None else env)
        self.ports = dict(ports) if ports else chosen_ports(self.caller)
        self.checkout = checkout
        self.workflows = workflows
        self.durable = durable

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['WEB_PORT']}"

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['INTERNAL_PORT']}"

    @property
    def provider_url(self) -> str:
        """The offline provider's root, also when it is not used."""
        return f"http://127.0.0.1:{self.ports['PROVIDER_PORT']}"

    @cached_property
    def secrets(self) -> secrets.Secrets:
        return secrets.load(self.layout.secrets_file)

    @property
    def provider(self) -> Provider:
        key = _setting(self.caller, "OPENAI_API_KEY")
        if key:
            return Provider(_setting(self.caller, "OPENAI_BASE_URL") or OPENAI_URL, key, is_offline=False)
        path = "/openai/v1" if _setting(self.caller, "OFFLINE_FLAVOUR") == "azure" else "/v1"
        return Provider(self.provider_url + path, self.secrets.provider_key, is_offline=True)

    @cached_property
    def cluster(self) -> Cluster:
        return Cluster(
            self.layout.postgres_dir,
            self.secrets,
            self.layout.postgres_user,
            self.durable,
            self.layout.logs / "postgres.log",
            self.layout.run_dir / "postgres.pid",
        )

    @cached_property
    def queue_mode(self) -> QueueMode | None:
        return QueueMode.chosen(self.caller, self.layout.queue_mode, self.secrets.redis_password)

    @property
    def n8n(self) -> N8n:
        return N8n(
            home=self.layout.n8n_home,
            port=self.ports["N8N_PORT"],
            broker_port=self.ports["N8N_BROKER_PORT"],
            cluster=self.cluster,
            secrets=self.secrets,
            app_url=self.internal_url,
            provider_key=self.provider.key,
            provider_url=self.provider.url,
            caller=self.caller,
            workflows=self.workflows,
            queue_mode=self.queue_mode,
        )

    def app_environment(self) -> dict[str, str]:
        """The environment of the web app, the internal API, the heartbeat and the app's commands."""
        kept = {name: value for name, value in self.caller.items() if name.removesuffix("_FILE") not in WIRING}
        defaults = {"ENVIRONMENT": "development", "REGISTRATION": "open", "PUBLIC_URL": self.web_url}
        if self.provider.is_offline:
            defaults["POLL_SECONDS"] = OFFLINE_POLL_SECONDS
        skipped = kept.get("NO_PROXY") or kept.get("no_proxy") or ""
        return {
            **defaults,
            **kept,
            "FLASK_APP": "wsgi",
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": ",".join(filter(None, ("127.0.0.1,localhost", skipped))),
            "DATABASE_URL": self.cluster.url("sluice"),
            "SECRET_KEY": self.secrets.secret_key,
            "INTERNAL_TOKEN": self.secrets.internal_token,
            "INTERNAL_URL": self.internal_url,
            "N8N_URL": self.n8n.url,
            "N8N_WEBHOOK_TOKEN": self.secrets.n8n_webhook_token,
            "OPENAI_BASE_URL": self.provider.url,
            "OPENAI_API_KEY": self.provider.key,
            "STORAGE_DIR": str(self.layout.documents),
        }

    def command(self, name: str) -> Command:
        if name == "n8n":
            return self.n8n.command()
        if self.queue_mode and name == "redis":
            return self.queue_mode.redis_command()
        if self.queue_mode and name in self.queue_mode.workers:
            return self.n8n.worker_command(name)
        python = [sys.executable, "-m"]
        arguments = {
            "web": [*python, "gunicorn", *_gunicorn(self.ports["WEB_PORT"]), "wsgi:app"],
            "internal": [*python, "gunicorn", *_gunicorn(self.ports["INTERNAL_PORT"]), "wsgi:internal"],
            "heartbeat": [*python, "flask", "--app", "wsgi", "heartbeat"],
            "provider": [*python, "offline_provider"],
        }
        env = self._provider_environment() if name == "provider" else self.app_environment()
        return Command(name, arguments[name], env, self.checkout, stop_seconds=6, show=_in_short)

    def is_ready(self, name: str) -> bool:
        """Does this part answer? The heartbeat is not asked: /readyz knows."""
        if self.queue_mode and name in self.queue_mode.workers:
            return self.n8n.is_worker_ready(name)
        match name:
            case "provider":
                return status_of(f"{self.provider_url}/healthz") == 200
            case "internal":
                return status_of(f"{self.internal_url}/api/internal/queues") is not None  # 401 will do
            case "web":
                return status_of(f"{self.web_url}/healthz") == 200
            case "n8n":
                return self.n8n.is_ready()
            case "redis":
                return self.queue_mode is not None and self.queue_mode.is_redis_ready()
        return True

    def _provider_environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in self.caller.items() if name.removesuffix("_FILE") not in WIRING},
            "PYTHONUNBUFFERED": "1",
            "OFFLINE_BIND": f"127.0.0.1:{self.ports['PROVIDER_PORT']}",
            "OFFLINE_DATA_DIR": str(self.layout.provider_data),
            "OFFLINE_PROVIDER_KEY": self.secrets.provider_key,
            "OFFLINE_ADMIN_TOKEN": self.secrets.provider_admin_token,
        }


def _in_short(line: str) -> str | None:
    """The app logs a JSON line for each request; the console gets warnings and errors, and what is not JSON."""
    try:
        entry = json.loads(line)
        level, event = entry["level"], entry["event"]
    except (ValueError, KeyError, TypeError):
        return line
    if level in ("debug", "info"):
        return None
    return "\n".join(filter(None, (f"{level}: {event}", entry.get("exception"))))


def _setting(env: Mapping[str, str], name: str) -> str | None:
    """A setting of the caller, given as itself or as a file. Raises StackError when the file cannot be read."""
    path = env.get(f"{name}_FILE")
    if not path:
        return env.get(name) or None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StackError(f"{name}_FILE: {error.strerror}: {path}") from None


def _gunicorn(port: int) -> list[str]:
    # The worker's heartbeat file belongs in memory: on a slow disk it can stall the worker.
    memory = ["--worker-tmp-dir", "/dev/shm"] if os.access("/dev/shm", os.W_OK) else []  # noqa: S108
    return [
        *("--worker-class", "gthread", "--workers", "1", "--threads", "16", "--bind", f"127.0.0.1:{port}"),
        *("--graceful-timeout", "4", "--no-control-socket", "--log-level", "warning", *memory),
    ]
