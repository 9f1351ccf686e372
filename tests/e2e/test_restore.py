"""A backup is taken, life goes on, everything is lost but the backup: what comes back, and what is bought again."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from devstack import backup, layout
from devstack.errors import StackError
from devstack.ports import DEFAULT_PORTS, free_ports
from devstack.stack import ADMIN_EMAIL, Stack
from tests.conftest import DATA
from tests.people import Person, await_

pytestmark = pytest.mark.e2e
# The address stays with the system when it moves: its batches are known by it.
SETTINGS = {
    "MAX_BATCH_SIZE": "3", "POLL_SECONDS": "1", "OFFLINE_IN_PROGRESS_SECONDS": "0.5",
    "PUBLIC_URL": "http://sluice.example",
}  # fmt: skip
DOCUMENT = DATA / "two-pages.pdf"
BATCH = {"executionMode": "batch", "batchStrategy": "count_only"}


@dataclass
class Restored:
    stack: Stack
    person: Person  # with the session that they had before
    done: int  # a job that had ended when the backup was taken
    summary: str  # its result then
    queued: list[int]  # two jobs that waited for a third; it came after the backup, and their window was bought
    moment: str  # of the backup


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    folder: Path = tmp_path_factory.mktemp("restore")
    with Stack.throwaway(SETTINGS) as old:
        person = Person(old, "alice@example.org")
        [done] = person.run(DOCUMENT, executionMode="sync")
        person.await_status(done)
        summary = person.result(done)
        queued = [*person.run(DOCUMENT, **BATCH), *person.run(DOCUMENT, **BATCH)]
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        backup.save(old, folder / "saved")
        for job_id in (*queued, *person.run(DOCUMENT, **BATCH)):
            person.await_status(job_id)
        stop_but_keep_the_provider(old, folder / "provider")
    with restored_stack(folder) as stack:
        person.http.base_url = stack.web_url
        yield Restored(stack, person, done, summary, queued, moment)
    person.http.close()


def stop_but_keep_the_provider(stack: Stack, folder: Path) -> None:
    """The provider is somebody else's: it does not forget when we do."""
    stack.stop()
    shutil.copytree(stack.layout.provider_data, folder)


@contextmanager
def restored_stack(folder: Path) -> Iterator[Stack]:
    """`folder`/saved in a new place, up and running beside the provider as it was left."""
    (folder / "new").mkdir()
    folders = layout.for_folder(folder / "new")
    ports = dict(zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True))
    stack = Stack(folders, env={"PATH": os.environ["PATH"], **SETTINGS}, ports=ports, durable=False)
    try:
        backup.restore(stack, folder / "saved")
        stack.stop()
        shutil.copytree(folder / "provider", folders.provider_data, dirs_exist_ok=True)
        stack.start()
        yield stack
    finally:
        stack.stop()
        if folder not in folders.postgres_dir.parents:
            shutil.rmtree(folders.postgres_dir.parent, ignore_errors=True)


def batches(stack: Stack) -> list[dict[str, Any]]:
    """The provider's, oldest first."""
    found: list[dict[str, Any]] = stack.ask_provider("GET", "/admin/batches?limit=100")["data"]
    return found


def await_a_beat(stack: Stack) -> None:
    """Until the heartbeat has had a whole beat to do what it wants to do."""
    with stack.cluster.connect("sluice") as database:
        [(now,)] = database.execute("SELECT clock_timestamp() + interval '1 s'").fetchall()
        last = "SELECT max(at) FROM heartbeats"
        await_(lambda: database.execute(last).fetchall()[0][0] > now, "a beat")


def resume(stack: Stack) -> None:
    """As an administrator does, on the queue's page."""
    with httpx2.Client(base_url=stack.web_url, timeout=30) as http:

        def post(page: str, action: str, **form: str) -> None:
            found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', http.get(page).raise_for_status().text)
            assert found
            assert http.post(action, data={**form, "csrf_token": found[1]}).status_code == 303

        post("/login", "/login", email=ADMIN_EMAIL, password=stack.secrets.admin_password)
        post("/admin/queues/1", "/admin/queues/1/resume", reason="The provider's batches were looked at.")


def test_people_find_what_they_had_and_stay_logged_in(restored: Restored) -> None:
    assert restored.person.status(restored.done) == "completed"
    assert restored.person.result(restored.done) == restored.summary


def test_n8n_comes_back_with_its_credentials(restored: Restored) -> None:
    [job_id] = restored.person.run(DOCUMENT, executionMode="sync")
    restored.person.await_status(job_id)
    assert job_id > 1_000_000


def test_nothing_is_bought_before_somebody_has_looked(restored: Restored) -> None:
    third = restored.person.run(DOCUMENT, **BATCH)
    await_a_beat(restored.stack)
    assert {restored.person.status(job_id) for job_id in (*restored.queued, *third)} == {"queued"}
    assert len(batches(restored.stack)) == 1


def test_the_doctor_names_what_was_bought_since_the_backup(restored: Restored) -> None:
    restored.stack.run_flask("doctor", "doctor", "--provider")
    with pytest.raises(StackError, match=r"STRAY, completed with 3 answers, which were billed"):
        restored.stack.run_flask("doctor", "doctor", "--provider", "--restored", restored.moment)


def test_resumed_queues_buy_the_jobs_of_a_lost_window_again(restored: Restored) -> None:
    """The price of a backup that is older than a window; docs/backup.md says so."""
    resume(restored.stack)
    for job_id in restored.queued:
        restored.person.await_status(job_id)
    assert len(batches(restored.stack)) == 2
    restored.stack.run_flask("doctor", "doctor", "--provider")
