"""PostgreSQL 18 from a wheel's binaries, started by us: own socket folder, no TCP port, a password per role.

The wheel's own start-up is not used: as root it opens every parent folder of the data to all users.

    with postgres.throwaway() as cluster:       # tests: made in about a second, gone afterwards
        create_engine(cluster.url("sluice"))
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from devstack import layout
from devstack import postgres_programs as programs
from devstack.errors import StackError
from devstack.processes import Command, Console, Process, hidden, wait_until
from devstack.secrets import Secrets

PORT = 5432  # only the name of the socket file; nothing listens on TCP
SUPERUSER = "postgres"
# database → its owner; no other role may even connect
OWNERS = {"sluice": "sluice", "n8ndb": "n8n"}
START_SECONDS = 30
ORPHAN_SECONDS = 5
# Safe when the server is killed, not when the machine is; so commits stay synchronous.
FAST_AND_CARELESS = ("-c", "fsync=off", "-c", "full_page_writes=off")


@dataclass
class Cluster:
    """One PostgreSQL server and the two databases in it.

    `folder` belongs to `user` (None: the caller). With `durable=False` a crash of the machine may damage the data:
    for tests.
    """

    folder: Path
    secrets: Secrets
    user: str | None = None
    durable: bool = True
    log_file: Path | None = None
    pid_file: Path | None = None
    console: Console | None = None
    process: Process | None = field(default=None, init=False)

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def socket_dir(self) -> Path:
        return layout.socket_folder(self.folder / "socket")

    @property
    def _owner(self) -> int:
        return pwd.getpwnam(self.user).pw_uid if self.user else os.geteuid()

    def start(self) -> None:
        """Bring the server up with both databases; safe to call again after any crash. Raises StackError."""
        if self.user:
            programs.ensure_system_user(self.user)
        for folder in (self.folder, self.socket_dir):
            layout.own_folder(folder, self._owner)
        _end_servers(self.data_dir)
        self._clear_left_overs()
        if not (self.data_dir / "PG_VERSION").exists():
            self._initialise()
        self._serve()
        self._ensure_databases()

    def stop(self) -> None:
        if self.process:
            self.process.stop()

    def url(self, database: str = "sluice") -> str:
        """The address for SQLAlchemy with psycopg, as the database's owner."""
        role = OWNERS[database]
        password, host = quote(self.password(role), safe=""), quote(str(self.socket_dir), safe="")
        return f"postgresql+psycopg://{role}:{password}@/{database}?host={host}"

    def connect(self, database: str = "sluice", role: str | None = None) -> psycopg.Connection:
        """A connection as the database's owner, or as `role`; in autocommit mode."""
        role = role or OWNERS[database]
        return psycopg.connect(
            host=str(self.socket_dir),
            port=PORT,
            dbname=database,
            user=role,
            password=self.password(role),
            autocommit=True,
        )

    def libpq_environment(self, database: str) -> dict[str, str]:
        """For PostgreSQL's own programs, as the database's owner."""
        role = OWNERS[database]
        return {
            "PGHOST": str(self.socket_dir),
            "PGPORT": str(PORT),
            "PGDATABASE": database,
            "PGUSER": role,
            "PGPASSWORD": self.password(role),
        }

    def password(self, role: str) -> str:
        return {
            SUPERUSER: self.secrets.postgres_password,
            "sluice": self.secrets.sluice_password,
            "n8n": self.secrets.n8ndb_password,
        }[role]

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs, where the server's user can run it."""
        return str(programs.folder_for(self.user) / name)

    def _initialise(self) -> None:
        # A folder that a broken set-up left half made would be refused.
        part = self.folder / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        with _password_file(self.folder, self.secrets.postgres_password, self._owner) as password_file:
            done = subprocess.run(
                [
                    *(self.program("initdb"), "--pgdata", str(part), "--username", SUPERUSER),
                    *("--auth", "scram-sha-256", "--pwfile", str(password_file), "--encoding", "UTF8"),
                    *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
                    *(() if self.durable else ("--no-sync",)),
                ],
                env=programs.environment(),
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
                check=False,
            )
        if done.returncode:
            raise StackError(f"PostgreSQL's data folder could not be made:\n{done.stdout}")
        part.rename(self.data_dir)

    def _serve(self) -> None:
        argv = [
            *(self.program("postgres"), "-D", str(self.data_dir), "-k", str(self.socket_dir), "-p", str(PORT)),
            *("-c", "listen_addresses=", "-c", "unix_socket_permissions=0700", "-c", "log_checkpoints=off"),
            *(() if self.durable else FAST_AND_CARELESS),
        ]
        # SIGINT is PostgreSQL's "fast" shutdown: it does not wait for connected clients.
        command = Command(
            "postgres",
            argv,
            programs.environment(),
            self.folder,
            self.user,
            signal.SIGINT,
            stop_seconds=20,
            show=hidden,
        )
        log_file = self.log_file or self.folder / "postgres.log"
        self.process = Process(command, log_file, self.pid_file, self.console)
        self.process.start()
        wait_until(self._is_ready, what="The start of PostgreSQL", seconds=START_SECONDS, processes=[self.process])

    def _is_ready(self) -> bool:
        # The server writes its state into the eighth line of its own pid file.
        with contextlib.suppress(OSError):
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"
        return False

    def _ensure_databases(self) -> None:
        try:
            with self.connect("postgres", SUPERUSER) as connection:
                ensure_databases(connection, {role: self.password(role) for role in OWNERS.values()})
        except psycopg.OperationalError as error:
            self.stop()
            if "password authentication failed" not in str(error):
                raise
            raise StackError(
                f"The passwords in secrets.json are not those that {self.folder} was made with: "
                "restore that file, or remove the folder to start with an empty database."
            ) from error

    def _clear_left_overs(self) -> None:
        # No server of ours is left, so these only hold the id of a process that may be somebody else's by now.
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)
        for file in self.socket_dir.glob(".s.PGSQL.*"):
            file.unlink(missing_ok=True)


def ensure_databases(connection: psycopg.Connection, passwords: dict[str, str]) -> None:
    """Make both roles and databases, and close every database to everyone but its owner."""
    roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    for database, owner in OWNERS.items():
        if owner not in roles:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(owner), sql.Literal(passwords[owner]))
            )
        if database not in databases:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(database), sql.Identifier(owner))
            )
    for database in (*OWNERS, "postgres", "template1"):
        connection.execute(
            sql.SQL("REVOKE CONNECT, TEMPORARY ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database))
        )


@contextlib.contextmanager
def throwaway() -> Iterator[Cluster]:
    """A server for tests in a folder of its own, fast instead of durable; both are gone afterwards."""
    user = layout.SYSTEM_USER if os.geteuid() == 0 else None
    if user:
        programs.ensure_system_user(user)
    # As root not in the caller's TMPDIR, which the server's user may be unable to reach.
    folder = Path(tempfile.mkdtemp(prefix="sluice-pg-", dir="/tmp" if user else None))  # noqa: S108
    try:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        cluster = Cluster(folder, Secrets.new(), user, durable=False)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _password_file(folder: Path, password: str, owner: int) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        with open(handle, "w") as file:
            file.write(password)
            os.fchown(handle, owner, -1)
        yield Path(name)
    finally:
        os.unlink(name)


def _end_servers(data_dir: Path) -> None:
    """End a server that a crashed start left on this data folder. Each of its processes works in that folder."""
    left = _servers(data_dir)
    if not left:
        return
    for number, seconds in ((signal.SIGINT, ORPHAN_SECONDS), (signal.SIGKILL, ORPHAN_SECONDS)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while (left := _servers(data_dir)) and time.monotonic() < deadline:
            time.sleep(0.05)


def _servers(data_dir: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        # Processes of other users, and those that end meanwhile, cannot be read: not ours.
        with contextlib.suppress(OSError, ValueError):
            if os.readlink(entry / "cwd") == str(data_dir.resolve()) and "postgres" in os.readlink(entry / "exe"):
                found.append(int(entry.name))
    return found
