"""n8n: its environment, its commands, its credentials and the question whether it is ready."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bcrypt

from devstack import n8n_install, n8n_sync
from devstack.postgres import PORT as POSTGRES_PORT
from devstack.postgres import Cluster
from devstack.processes import SYSTEM_PATH, Command, status_of
from devstack.queue_mode import CONCURRENCY, QueueMode
from devstack.secrets import Secrets

# Not news: the engine is chosen on purpose, the licence is not used, and `is_ready` asks before the answer is yes.
EXPECTED = (
    *("There are deprecations", "Automatic license renewal is disabled"),
    *("Received request for unknown webhook", "404 The requested webhook"),
)
# These may be set by the caller; everything else about n8n is decided here.
CALLERS_CHOICE = ("N8N_EXPRESSION_ENGINE", "N8N_RUNNERS_MODE", "N8N_LOG_LEVEL")
CALLERS_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")


def _read_settings(path: Path) -> dict[str, str]:
    """NAME=VALUE, a line each; no quotes, so that Compose reads the same."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


SETTINGS = _read_settings(n8n_install.SOURCE / "settings.env")
OWNER_EMAIL = SETTINGS["N8N_INSTANCE_OWNER_EMAIL"]
FIXED_ENVIRONMENT = {
    **SETTINGS,
    "LANG": "C.UTF-8",
    "N8N_LISTEN_ADDRESS": "127.0.0.1",
    "N8N_SECURE_COOKIE": "false",  # the editor is reached over plain http on loopback
    "N8N_GRACEFUL_SHUTDOWN_TIMEOUT": "5",
}


@dataclass(frozen=True)
class N8n:
    """The n8n of one stack. `app_url` is the internal API, which the workflows call; `home` is n8n's own folder."""

    home: Path
    port: int
    broker_port: int
    cluster: Cluster
    secrets: Secrets
    app_url: str
    provider_key: str
    caller: Mapping[str, str]
    workflows: Path = n8n_sync.WORKFLOWS
    queue_mode: QueueMode | None = None
    provider_url: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        callers = {name: self.caller[name] for name in (*CALLERS_CHOICE, *CALLERS_NETWORK) if self.caller.get(name)}
        skipped = self.caller.get("NO_PROXY") or self.caller.get("no_proxy") or ""
        return {
            **FIXED_ENVIRONMENT,
            **callers,
            "PATH": f"{n8n_install.node().parent}:{SYSTEM_PATH}",
            "HOME": str(self.home),
            "NO_PROXY": ",".join(filter(None, ("127.0.0.1,localhost", skipped))),
            "N8N_USER_FOLDER": str(self.home),
            "N8N_PORT": str(self.port),
            "N8N_RUNNERS_BROKER_PORT": str(self.broker_port),
            "N8N_RUNNERS_AUTH_TOKEN": self.secrets.n8n_runners_token,
            "N8N_EDITOR_BASE_URL": self.url,
            "N8N_WEBHOOK_URL": self.url,
            "N8N_ENCRYPTION_KEY": self.secrets.n8n_encryption_key,
            "N8N_INSTANCE_OWNER_PASSWORD_HASH": self._owner_hash(),
            "DB_TYPE": "postgresdb",
            "DB_POSTGRESDB_HOST": str(self.cluster.socket_dir),
            "DB_POSTGRESDB_PORT": str(POSTGRES_PORT),
            "DB_POSTGRESDB_DATABASE": "n8ndb",
            "DB_POSTGRESDB_USER": "n8n",
            "DB_POSTGRESDB_PASSWORD": self.cluster.password("n8n"),
            "DB_POSTGRESDB_POOL_SIZE": "10",
        }

    def command(self) -> Command:
        return self._command("n8n", "start", env=self.queue_mode.environment() if self.queue_mode else {})

    def worker_command(self, name: str) -> Command:
        assert self.queue_mode
        env = self.queue_mode.worker_environment(name)
        return self._command(name, "worker", f"--concurrency={CONCURRENCY}", env=env)

    def is_worker_ready(self, name: str) -> bool:
        """True when this worker has reached the database and Redis."""
        assert self.queue_mode
        port = self.queue_mode.workers[name].health
        return status_of(f"http://127.0.0.1:{port}/healthz/readiness") == 200

    def is_ready(self) -> bool:
        """True when the webhooks refuse a call without a token: until they are registered they answer 404."""
        return status_of(f"{self.url}/healthz/readiness") == 200 and all(
            status_of(f"{self.url}/webhook/{path}", method="POST") == 403
            for path in n8n_sync.webhook_paths(self.workflows)
        )

    def memory(self) -> n8n_sync.Memory:
        return n8n_sync.Memory(self.home / "imported.json")

    def stored(self) -> dict[str, n8n_sync.Stored]:
        """The workflows as they are in n8n now; none before its first start."""
        with self.cluster.connect("n8ndb") as connection:
            return n8n_sync.read_database(connection)

    def credentials(self) -> list[dict[str, Any]]:
        headers = {
            "sluiceInbound0001": ("Sluice: calls from the app", "X-Sluice-Token", self.secrets.n8n_webhook_token),
            "sluiceInternal001": ("Sluice: calls to the app", "X-Internal-Token", self.secrets.internal_token),
            "sluiceProvider001": ("Sluice: calls to the provider", *key_header(self.provider_url, self.provider_key)),
        }
        return [
            {"id": key, "name": name, "type": "httpHeaderAuth", "data": {"name": header, "value": value}}
            for key, (name, header, value) in headers.items()
        ]

    def credentials_mark(self) -> str:
        """Changes when a credential does, and tells nobody what it is."""
        key = self.secrets.n8n_encryption_key.encode()
        return hmac.new(key, json.dumps(self.credentials()).encode(), hashlib.sha256).hexdigest()

    def setup_command(self, *arguments: str) -> Command:
        """One of n8n's own commands; most of them want n8n to be stopped."""
        return self._command("n8n-setup", *arguments)

    def _command(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Command:
        argv = n8n_install.command(n8n_install.install_dir(), *arguments)
        return Command(name, argv, {**self.environment(), **(env or {})}, self.home, stop_seconds=8, show=_in_short)

    def _owner_hash(self) -> str:
        """Kept, because a new hash of the same password would end the owner's sessions in the editor."""
        file = self.home / "owner-hash"
        password = self.secrets.n8n_owner_password.encode()
        if file.exists() and bcrypt.checkpw(password, file.read_bytes()):
            return file.read_text()
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            handle.write(bcrypt.hashpw(password, bcrypt.gensalt(10)).decode())
        return file.read_text()


def key_header(base_url: str, key: str) -> tuple[str, str]:
    """The header that shows a provider its key: Azure OpenAI has one of its own. n8n/import.mjs does the same."""
    host = urlsplit(base_url).hostname or ""
    return ("api-key", key) if host.endswith(".azure.com") else ("Authorization", f"Bearer {key}")


def _in_short(line: str) -> str | None:
    """n8n logs JSON with whole stack traces; the console gets the first line of errors and warnings."""
    try:
        entry = json.loads(line)
        level, message = entry["level"], entry["message"].strip().splitlines()[0]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    is_news = level in ("error", "warn") and not message.startswith(EXPECTED)
    return f"{level}: {message}" if is_news else None
