"""The embedded PostgreSQL: closed to everyone but its owners, and up again after any crash."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from devstack import layout, postgres
from devstack.errors import StackError
from devstack.postgres import Cluster
from devstack.secrets import Secrets


@pytest.fixture
def fresh() -> Iterator[Cluster]:
    """A server for this test alone: it gets killed."""
    with postgres.throwaway() as cluster:
        yield cluster


def again(cluster: Cluster, **changes: object) -> Cluster:
    """What the next start of devstack would make: the same folder, no knowledge of the running server."""
    settings = {"folder": cluster.folder, "secrets": cluster.secrets, "user": cluster.user, "durable": False}
    return Cluster(**{**settings, **changes})


def tcp_inodes() -> set[str]:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    return {line.split()[9] for table in tables if table.exists() for line in table.read_text().splitlines()[1:]}


def modes(*folders: Path) -> dict[str, int]:
    return {str(step): stat.S_IMODE(step.stat().st_mode) for folder in folders for step in (folder, *folder.parents)}


@pytest.mark.parametrize(
    ("role", "database"),
    [("sluice", "n8ndb"), ("n8n", "sluice"), ("sluice", "postgres"), ("n8n", "postgres"), ("n8n", "template1")],
)
def test_role_is_refused_on_a_database_that_is_not_its_own(cluster: Cluster, role: str, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        cluster.connect(database, role)


@pytest.mark.parametrize(("database", "owner"), sorted(postgres.OWNERS.items()))
def test_owner_can_work_in_its_database(cluster: Cluster, database: str, owner: str) -> None:
    with cluster.connect(database) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (owner,)
        connection.execute("CREATE TABLE mine (id int)")
        connection.execute("DROP TABLE mine")


def test_wrong_password_is_refused(cluster: Cluster) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=str(cluster.socket_dir), dbname="sluice", user="sluice", password="guess")


def test_nothing_listens_on_tcp(cluster: Cluster) -> None:
    handles = Path(f"/proc/{cluster.process.pid}/fd")
    sockets = {os.readlink(handle) for handle in handles.iterdir()}
    mine = {name.removeprefix("socket:[").removesuffix("]") for name in sockets if name.startswith("socket:")}
    assert mine, "the unix socket at least"
    assert mine & tcp_inodes() == set()


def test_socket_folder_is_open_to_its_owner_alone(cluster: Cluster) -> None:
    assert stat.S_IMODE(cluster.socket_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster.data_dir.stat().st_mode) == 0o700


def test_no_parent_folder_changes_its_mode(tmp_path: Path) -> None:
    home = tmp_path / "home"
    checkout = home / "checkout"
    checkout.mkdir(parents=True)
    home.chmod(0o700)
    folders = layout.for_checkout(checkout)
    folders.make_folders()
    before = modes(folders.state_dir, folders.runtime_dir)
    cluster = Cluster(folders.postgres_dir, Secrets.new(), folders.postgres_user, durable=False)
    try:
        cluster.start()
        assert modes(folders.state_dir, folders.runtime_dir) == before
        assert modes(home)[str(home)] == 0o700
    finally:
        cluster.stop()
        shutil.rmtree(folders.runtime_dir)


def test_killed_server_comes_back_with_its_data(fresh: Cluster) -> None:
    with fresh.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS x")
    fresh.process.kill()
    fresh.start()
    with fresh.connect() as connection:
        assert connection.execute("SELECT x FROM kept").fetchone() == (7,)


def test_server_that_a_crashed_start_left_is_ended_first(fresh: Cluster) -> None:
    orphan = fresh.process.pid
    successor = again(fresh)
    successor.start()
    try:
        assert not fresh.process.alive
        assert successor.process.pid != orphan
        successor.connect().close()
    finally:
        successor.stop()


def test_stale_pid_file_of_a_recycled_process_is_no_obstacle(fresh: Cluster) -> None:
    fresh.process.kill()
    pid_file = fresh.data_dir / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(str(fresh.process.pid), str(os.getpid()), 1))
    fresh.start()
    assert fresh.process.alive


def test_half_made_data_folder_is_made_again(fresh: Cluster) -> None:
    fresh.stop()
    fresh.data_dir.rename(fresh.folder / "data.part")
    fresh.start()
    assert not (fresh.folder / "data.part").exists()
    with fresh.connect() as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("sluice",)


def test_server_ends_within_seconds_although_a_client_is_connected(fresh: Cluster) -> None:
    with fresh.connect() as connection:
        fresh.stop()
        assert fresh.process.returncode == 0
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_lost_secrets_are_said_in_a_sentence(fresh: Cluster) -> None:
    fresh.stop()
    with pytest.raises(StackError, match=r"not those that .* was made with"):
        again(fresh, secrets=Secrets.new()).start()


def test_server_runs_from_a_folder_whose_path_is_too_long_for_a_socket(fresh: Cluster) -> None:
    fresh.stop()
    deep = fresh.folder / ("long" * 25)
    deep.mkdir(mode=0o700)
    os.chown(deep, fresh.data_dir.stat().st_uid, -1)
    cluster = again(fresh, folder=deep, secrets=Secrets.new())
    cluster.start()
    try:
        assert cluster.socket_dir.parent == Path("/tmp")
        cluster.connect().close()
    finally:
        cluster.stop()
        cluster.socket_dir.rmdir()


def test_socket_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "socket"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(StackError, match="only its owner"):
        layout.own_folder(folder, os.geteuid())


def test_throwaway_leaves_nothing_behind() -> None:
    with postgres.throwaway() as cluster:
        pid = cluster.process.pid
    assert not cluster.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
