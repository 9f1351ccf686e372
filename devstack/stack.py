"""The whole system: the order of its start, its watch and its end. `Wiring` says what the parts are.

Tests get the whole system on free ports, gone afterwards:

    with Stack.throwaway({"MAX_BATCH_SIZE": "3"}) as stack:
        stack.kill("n8n")
        stack.start_part("n8n")
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from devstack import layout, n8n_install, n8n_setup
from devstack.errors import StackError
from devstack.layout import Layout
from devstack.n8n import OWNER_EMAIL
from devstack.orphans import end_orphans
from devstack.ports import DEFAULT_PORTS, check_free, free_ports
from devstack.processes import Command, Console, Process, call_json, ended, status_of, stop_together, wait_until
from devstack.wiring import WIRING, Wiring

ADMIN_EMAIL = "admin@sluice.local"
# How often one may ask; tests and measurements ask as often as they can.
LIMITS = (
    *("sign_ins_per_minute", "registrations_per_hour", "uploads_per_minute", "estimates_per_minute"),
    "api_calls_per_minute",
)
# What a part is waited for. A first start on a busy small machine takes a third of this.
READY_SECONDS = 180
TASK_SECONDS = 300
# Writers before what they write to: n8n's executions may still hand in an answer.
STOP_FIRST, STOP_LAST = ("web", "heartbeat"), ("internal", "provider", "redis")  # between them n8n and its workers


class Stack(Wiring):
    """The whole system, alive: what `Wiring` takes, and a console to show what the parts say."""

    def __init__(self, folders: Layout, *, console: Console | None = None, **wiring: Any) -> None:
        super().__init__(folders, **wiring)
        self.console = console
        self.processes: dict[str, Process] = {}
        self._tasks: list[Process] = []
        self._is_stopping = False
        self._lock: TextIO | None = None

    @classmethod
    @contextlib.contextmanager
    def throwaway(
        cls,
        env: Mapping[str, str] | None = None,
        *,
        durable: bool = False,
        **wiring: Any,
    ) -> Iterator[Stack]:
        """For tests: the whole system on free ports in a temporary folder. `env` is added to the environment.

        `wiring` may name another `checkout`, or a folder of `workflows`: a copy of ours with one more, say. The
        provider is the offline one, also when the caller's environment has a key. `durable`: PostgreSQL waits for the
        disk, as in `make run`.
        """
        folder = Path(tempfile.mkdtemp(prefix="sluice-stack-"))
        folders = layout.for_folder(folder)
        ports = dict(zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True))
        outside = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in WIRING}
        unlimited = {name.upper(): "0" for name in LIMITS}
        stack = cls(folders, env={**unlimited, **outside, **(env or {})}, ports=ports, durable=durable, **wiring)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()
            shutil.rmtree(folder, ignore_errors=True)
            if folder not in folders.postgres_dir.parents:
                shutil.rmtree(folders.postgres_dir.parent, ignore_errors=True)

    # Addresses and what a person needs to get in

    @property
    def is_up(self) -> bool:
        """True from the first step of the start until the end of the stop."""
        return self._lock is not None

    def start(self) -> None:
        """Bring everything up and return when the web app says it is ready. Raises StackError."""
        with self._failing_whole():
            self._claim()
            check_free(self.ports)
            if self.queue_mode:
                self.queue_mode.redis_command()  # a missing Redis is said before anything has started
            n8n_install.ensure(self._say)
            self._say("Starting PostgreSQL")
            self.start_postgres()
            self._say("Starting n8n, the app and its database's migrations")
            if self.provider.is_offline:
                self._spawn("provider")
            if self.queue_mode:
                self._spawn("redis")
            self._migrate_and_prepare()
            self._create_admin()
            for name in self.processes:
                self._wait(name)
            self._start_workers()
            self._wait_for_readyz()

    def start_postgres(self) -> None:
        self.cluster.start()

    def claim(self) -> None:
        """Keep every other process from starting this stack, until `stop`. Raises StackError if it is up."""
        with self._failing_whole():
            self._claim()

    def claim_and_start_postgres(self) -> None:
        """For work on the data while the stack is down. Raises StackError if it is up."""
        self.claim()
        with self._failing_whole():
            self.start_postgres()

    def start_part(self, name: str) -> None:
        """Start one part again, as it was started first, and wait until it answers."""
        if name == "postgres":
            self.cluster.start()
            return
        self._spawn(name)
        self._wait(name)

    def kill(self, name: str) -> None:
        """SIGKILL to the part and all that it started."""
        self.process(name).kill()

    def stop_part(self, name: str) -> None:
        self.process(name).stop()

    def process(self, name: str) -> Process:
        return self.cluster.process if name == "postgres" else self.processes[name]

    def move_clock(self, seconds: float) -> None:
        """Let the clock of every process run so many seconds ahead of the real one; `env` must have TEST_CLOCK=1."""
        with self.cluster.connect("sluice") as connection:
            connection.execute(
                "INSERT INTO test_clock (id, ahead) VALUES (1, make_interval(secs => %(seconds)s))"
                " ON CONFLICT (id) DO UPDATE SET ahead = excluded.ahead",
                {"seconds": seconds},
            )
        self.ask_provider("PUT", "/admin/clock", {"offset_seconds": seconds})

    def ask_provider(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the offline provider's /admin (its README lists them); returns the JSON of the answer."""
        return call_json(method, self.provider_url + path, body, {"X-Admin-Token": self.secrets.provider_admin_token})

    def logs(self, name: str) -> str:
        """All that the part has said since the stack's start."""
        return self.process(name).log()

    def stop(self) -> None:
        """End everything, in order, within seconds."""
        self._is_stopping = True
        for task in self._tasks:
            task.kill()
        between = [name for name in self.processes if name not in STOP_FIRST + STOP_LAST]
        for names in (STOP_FIRST, between, STOP_LAST):
            stop_together(self.processes[name] for name in names if name in self.processes)
        if "cluster" in self.__dict__:  # made at its first use
            self.cluster.stop()
        if self._lock:
            self._lock.close()
            self._lock = None

    def watch(self) -> None:
        """Block until a part ends by itself, then raise StackError about it.

        This is the one place that decides what follows a part's end: all others are stopped. Nothing is started
        again silently, since on a developer's machine a crash is news.
        """
        parts = [*self.processes.values(), self.cluster.process]
        poll = select.poll()
        handles = {os.pidfd_open(part.pid): part for part in parts}
        try:
            for handle in handles:
                poll.register(handle, select.POLLIN)
            (handle, _), *_ = poll.poll()
            handles[handle].wait_for_last_words()
            raise StackError(ended(handles[handle]))
        finally:
            for handle in handles:
                os.close(handle)

    def run_once(self, command: Command, seconds: float = TASK_SECONDS) -> None:
        """Run a command that ends by itself. Raises StackError with its last lines if it fails."""
        task = Process(command, self.layout.logs / f"{command.name}.log")
        self._tasks.append(task)
        task.start()
        if self._is_stopping:  # the stop may have begun between two commands of a set-up
            task.kill()
        task.wait(seconds)

    def run_flask(self, name: str, *arguments: str, **extra: str) -> None:
        """One of the app's own commands, with the app's environment. Raises StackError with its last lines."""
        argv = [sys.executable, "-m", "flask", "--app", "wsgi", *arguments]
        self.run_once(Command(name, argv, {**self.app_environment(), **extra}, self.checkout))

    # Steps of the start

    def _claim(self) -> None:
        self.layout.make_folders()
        file = open(self.layout.lock_file, "a+")  # noqa: SIM115  (held as long as the stack runs)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise StackError(
                f"Sluice is already running from this checkout (process {owner}): stop that one first, with Ctrl-C."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._lock = file
        self._is_stopping = False
        # PostgreSQL sees to its own left-overs, with the signal that it likes.
        for name in end_orphans(self.layout.run_dir, leave="postgres"):
            self._say(f"Ended {name}, which an interrupted start had left running")
        for log in self.layout.logs.glob("*.log"):
            log.replace(log.with_suffix(".log.1"))

    def _migrate_and_prepare(self) -> None:
        # Children are started from this thread only: the kernel ends them with the thread that made them.
        with ThreadPoolExecutor(2) as pool:
            followers: dict[Future[None], tuple[str, ...]] = {
                pool.submit(self._migrate): ("internal", "web", "heartbeat"),
                pool.submit(self._prepare_n8n): ("n8n",),
            }
            try:
                for done in as_completed(followers):
                    done.result()
                    for name in followers[done]:
                        self._spawn(name)
            except BaseException:
                self._is_stopping = True
                for task in self._tasks:
                    task.kill()  # so that the other thread ends now, too
                raise

    def _migrate(self) -> None:
        self.run_flask("migrate", "db", "upgrade")

    def _prepare_n8n(self) -> None:
        for warning in n8n_setup.prepare(self.n8n, self.run_once):
            self._say(f"NOTE: {warning}")

    def _start_workers(self) -> None:
        """After n8n itself, which brings its database up to date."""
        workers = self.queue_mode.workers if self.queue_mode else ()
        for name in workers:
            self._spawn(name)
        for name in workers:
            self._wait(name)

    def _create_admin(self) -> None:
        self.run_flask(
            "admin", "create-admin", "--email", ADMIN_EMAIL, SLUICE_ADMIN_PASSWORD=self.secrets.admin_password
        )

    def _wait_for_readyz(self) -> None:
        wait_until(
            lambda: status_of(f"{self.web_url}/readyz") == 200,
            what="A 200 from the web app's /readyz",
            seconds=READY_SECONDS,
            processes=self.processes.values(),
        )

    def _spawn(self, name: str) -> None:
        command = self.command(name)
        process = Process(command, self.layout.logs / f"{name}.log", self.layout.run_dir / f"{name}.pid", self.console)
        if name in self.processes:
            self.processes[name].stop()
        self.processes[name] = process
        process.start()

    def _wait(self, name: str) -> None:
        ready = partial(self.is_ready, name)
        wait_until(ready, what=f"An answer of {name}", seconds=READY_SECONDS, processes=[self.processes[name]])

    @contextlib.contextmanager
    def _failing_whole(self) -> Iterator[None]:
        """A start that fails leaves nothing running."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _say(self, text: str) -> None:
        if self.console:
            self.console.say(text)


def welcome(stack: Stack) -> str:
    """What a person needs after the start."""
    provider = "the offline provider (no OPENAI_API_KEY is set)" if stack.provider.is_offline else stack.provider.url
    return f"""
  Sluice       {stack.web_url}
  log in as    {ADMIN_EMAIL}   {stack.secrets.admin_password}
  provider     {provider}
  n8n editor   {stack.n8n.url}   {OWNER_EMAIL}   {stack.secrets.n8n_owner_password}
  logs         {stack.layout.logs}
  Ctrl-C stops everything.
"""
