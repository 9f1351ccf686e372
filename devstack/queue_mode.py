"""n8n's queue mode: n8n takes calls and puts its executions into Redis, workers take them from there.

    make run N8N_WORKERS=2

Redis keeps nothing on the disk. What it, or a worker, loses is what n8n loses anyway: an execution that n8n forgets
is a job that the app dispatches again, or a window's step whose lease ends.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import StackError
from devstack.ports import free_ports
from devstack.processes import SYSTEM_PATH, Command, hidden

SETTING = "N8N_WORKERS"
MOST_WORKERS = 16
CONCURRENCY = "10"  # executions at a time in one worker
# Loopback only, nothing on the disk; a full memory is an error that n8n sees, never a silently dropped execution.
REDIS_CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
save ""
appendonly no
maxmemory 128mb
maxmemory-policy noeviction
dir {folder}
"""


@dataclass(frozen=True)
class WorkerPorts:
    health: int
    broker: int  # of its task runners; open also where there are none


@dataclass(frozen=True)
class QueueMode:
    """Redis in `folder`, and the workers by name with their ports. Nobody calls these ports by hand."""

    folder: Path
    password: str
    redis_port: int
    workers: Mapping[str, WorkerPorts]

    @classmethod
    def chosen(cls, env: Mapping[str, str], folder: Path, password: str) -> QueueMode | None:
        """What the caller's N8N_WORKERS asks for; None without it. Raises StackError for no number."""
        value = env.get(SETTING) or "0"
        if not value.isdigit() or int(value) > MOST_WORKERS:
            raise StackError(f"{SETTING} is {value!r} but must be a number from 0 to {MOST_WORKERS}.")
        count = int(value)
        if not count:
            return None
        redis_port, *ports = free_ports(1 + 2 * count)
        workers = {f"n8n-worker-{n + 1}": WorkerPorts(*ports[2 * n : 2 * n + 2]) for n in range(count)}
        return cls(folder, password, redis_port, workers)

    def environment(self) -> dict[str, str]:
        """What n8n and its workers need besides n8n's own environment."""
        return {
            "EXECUTIONS_MODE": "queue",
            "OFFLOAD_MANUAL_EXECUTIONS_TO_WORKERS": "true",
            "QUEUE_BULL_REDIS_HOST": "127.0.0.1",
            "QUEUE_BULL_REDIS_PORT": str(self.redis_port),
            "QUEUE_BULL_REDIS_PASSWORD": self.password,
        }

    def worker_environment(self, name: str) -> dict[str, str]:
        """Each worker has a folder of its own: n8n notes there whether its last run ended in order."""
        home = self.folder / name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            **self.environment(),
            "N8N_USER_FOLDER": str(home),
            "N8N_RUNNERS_BROKER_PORT": str(self.workers[name].broker),
            "N8N_WORKER_SERVER_ADDRESS": "127.0.0.1",  # else every network sees its health check
            "QUEUE_HEALTH_CHECK_ACTIVE": "true",
            "QUEUE_HEALTH_CHECK_PORT": str(self.workers[name].health),
        }

    def redis_command(self) -> Command:
        """Redis takes its password from a file of mode 0600. Raises StackError when it is not installed."""
        program = shutil.which("redis-server", path=SYSTEM_PATH)
        if not program:
            raise StackError(
                f"{SETTING} asks for n8n's queue mode, which needs Redis: apt-get install redis-server, "
                f"or run without {SETTING}."
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self.folder / "redis.conf"
        config.unlink(missing_ok=True)
        with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(REDIS_CONFIG.format(port=self.redis_port, password=self.password, folder=self.folder))
        return Command("redis", [program, str(config)], {"PATH": SYSTEM_PATH}, self.folder, show=hidden)

    def is_redis_ready(self) -> bool:
        """True when Redis takes the password and answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.redis_port), timeout=2) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = connection.makefile("rb")
                return answer.readline() == b"+OK\r\n" and answer.readline() == b"+PONG\r\n"
        except OSError:
            return False
