"""Backup and restore on a real PostgreSQL: dump, a new cluster, restore, and the doctor has nothing to say."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from devstack import backup, layout
from devstack.errors import StackError
from devstack.stack import Stack
from tests.factories import (
    end_batch,
    items_of,
    make_job,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    output_line,
)
from tests.fakes import FakeProviderFiles
from webapp.config import Settings
from webapp.models import Base
from webapp.parts import build_parts
from webapp.services import batch_ingest, costs

OTHER_SECRETS = '{"secret_key": "of a system that was moved away"}'


def stack_in(folder: Path) -> Stack:
    folder.mkdir()
    return Stack(layout.for_folder(folder), env={"PATH": os.environ["PATH"], "MAX_BATCH_SIZE": "3"}, durable=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("backup")
    yield folder
    for name in ("old", "new", "broken"):
        postgres_dir = layout.for_folder(folder / name).postgres_dir
        if folder not in postgres_dir.parents:
            shutil.rmtree(postgres_dir.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def saved(folder: Path) -> tuple[Path, dict[str, int]]:
    """(a backup, the rows of each table when it was taken)"""
    stack = stack_in(folder / "old")
    stack.claim_and_start_postgres()
    try:
        stack.run_flask("migrate", "db", "upgrade")
        live_a_little(stack)
        rows = count_rows(stack)
        backup.save(stack, folder / "saved")
    finally:
        stack.stop()
    return folder / "saved", rows


def live_a_little(stack: Stack) -> None:
    """A window that has ended, one that is open, jobs that wait in both modes, a document; and something in n8ndb."""
    settings = Settings.from_env(stack.app_environment())
    parts = replace(build_parts(settings), files=FakeProviderFiles())
    engine = create_engine(stack.cluster.url())
    with Session(engine) as session:
        user = make_user(session)
        window = make_submitted_window(session, parts, user)
        lease = end_batch(
            session, parts, window, "completed", output=[output_line(i) for i in items_of(session, window)]
        )
        batch_ingest.ingest_window(
            session, settings, parts.prices, parts.files, window_id=window.id, token=lease.token
        )  # fmt: skip
        make_window(session, parts, user)
        make_queued_jobs(session, parts, user, 2)
        make_job(session, parts, user)
        costs.roll_up(session)
    engine.dispose()
    (stack.layout.documents / "key10").write_bytes(b"%PDF-1.7 of the person")
    with stack.cluster.connect("n8ndb") as n8n:
        n8n.execute("CREATE TABLE credentials_entity AS SELECT 'encrypted' AS data")


def count_rows(stack: Stack) -> dict[str, int]:
    engine = create_engine(stack.cluster.url())
    with engine.connect() as connection:
        counts = {
            name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in Base.metadata.tables
        }
    engine.dispose()
    return counts


@pytest.fixture(scope="module")
def restored(folder: Path, saved: tuple[Path, dict[str, int]]) -> Iterator[Stack]:
    stack = stack_in(folder / "new")
    stack.layout.secrets_file.write_text(OTHER_SECRETS)
    try:
        backup.restore(stack, saved[0])
        yield stack
    finally:
        stack.stop()


def test_every_row_comes_back(restored: Stack, saved: tuple[Path, dict[str, int]]) -> None:
    """And one more: the window that had no file at the provider is ended, which an event says."""
    assert saved[1]["jobs"] == 9
    assert count_rows(restored) == saved[1] | {"window_events": saved[1]["window_events"] + 1}
    with restored.cluster.connect("n8ndb") as n8n:
        assert n8n.execute("SELECT data FROM credentials_entity").fetchall() == [("encrypted",)]


def test_the_doctor_has_nothing_to_say(restored: Stack) -> None:
    restored.run_flask("doctor", "doctor")  # raises StackError with what it found


def test_documents_and_the_keys_of_everything_come_back(restored: Stack, saved: tuple[Path, dict[str, int]]) -> None:
    assert (restored.layout.documents / "key10").read_bytes() == b"%PDF-1.7 of the person"
    assert restored.layout.secrets_file.read_bytes() == (saved[0] / "secrets.json").read_bytes()


def test_its_queues_are_held(restored: Stack) -> None:
    with restored.cluster.connect("sluice") as database:
        assert database.execute("SELECT count(*), count(held_at) FROM queues").fetchone() == (1, 1)


def test_a_backup_is_for_its_owner_alone(saved: tuple[Path, dict[str, int]]) -> None:
    assert stat.S_IMODE(saved[0].stat().st_mode) == 0o700
    assert stat.S_IMODE((saved[0] / "secrets.json").stat().st_mode) == 0o600


def test_a_backup_never_replaces_what_runs(restored: Stack, saved: tuple[Path, dict[str, int]]) -> None:
    before = restored.layout.secrets_file.stat()
    with pytest.raises(StackError, match="already running"):
        backup.restore(Stack(restored.layout, env={}), saved[0])
    assert restored.layout.secrets_file.stat() == before
    assert count_rows(restored)["jobs"] == saved[1]["jobs"]


def test_a_backup_never_replaces_data(folder: Path, saved: tuple[Path, dict[str, int]]) -> None:
    old = Stack(layout.for_folder(folder / "old"), env={})
    data, before = old.layout.postgres_dir / "data", old.layout.secrets_file.stat()
    with pytest.raises(StackError, match="a backup never replaces one"):
        backup.restore(old, saved[0])
    assert (data / "PG_VERSION").exists() and old.layout.secrets_file.stat() == before
    assert not old.is_up


def test_secrets_that_were_there_are_kept_beside_those_of_the_backup(restored: Stack) -> None:
    kept = restored.layout.secrets_file.with_name("secrets.json.before-restore")
    assert kept.read_text() == OTHER_SECRETS


def test_documents_may_come_and_go_while_a_backup_is_made(
    restored: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = restored.layout.documents
    (documents / "key11.partial").write_bytes(b"half")
    (documents / "key12").write_bytes(b"retention takes this one, when it is listed and not yet copied")
    copy = shutil.copy2

    def delete_then_copy(source: str, target: str) -> None:
        (documents / "key12").unlink(missing_ok=True)
        copy(source, target)

    monkeypatch.setattr(shutil, "copy2", delete_then_copy)
    backup.save(restored, folder / "busy")
    assert [path.name for path in (folder / "busy/documents").iterdir()] == ["key10"]
    assert not (folder / "busy.part").exists()


def test_a_backup_that_fails_leaves_nothing(restored: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restored.cluster, "program", lambda _: "/bin/false")
    with pytest.raises(StackError, match="pg_dump of sluice failed"):
        backup.save(restored, folder / "failed")
    assert not [path for path in folder.iterdir() if path.name.startswith("failed")]


def test_a_folder_that_is_there_is_not_written_into(restored: Stack, saved: tuple[Path, dict[str, int]]) -> None:
    with pytest.raises(StackError, match="is there already: name a new folder"):
        backup.save(restored, saved[0])


def test_half_a_backup_is_named_and_leaves_no_database(folder: Path, saved: tuple[Path, dict[str, int]]) -> None:
    half = folder / "half"
    shutil.copytree(saved[0], half)
    stack = stack_in(folder / "broken")
    (half / "n8ndb.dump").unlink()
    with pytest.raises(StackError, match=r"is no whole backup: n8ndb\.dump is missing"):
        backup.restore(stack, half)
    (half / "n8ndb.dump").write_bytes((saved[0] / "n8ndb.dump").read_bytes()[:500])
    with pytest.raises(StackError, match="pg_restore of n8ndb failed"):
        backup.restore(stack, half)
    assert not (stack.layout.postgres_dir / "data").exists()
    assert not stack.layout.secrets_file.exists()
