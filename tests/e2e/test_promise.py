"""The promise over hours, on a clock that is moved: nothing lost, nothing bought twice, nothing stranded.

One system for all of them, so its time only goes forward; each test makes its own jobs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from devstack.stack import ADMIN_EMAIL, Stack
from tests.people import Person, await_

pytestmark = pytest.mark.e2e
HOUR = 3600.0
SIZE = 20
PROFILE = {
    "name": "Note", "fields": [
        {"key": "executionMode", "type": "select", "default": "sync", "options": ["sync", "batch"]},
        {"key": "batchStrategy", "type": "select", "options": ["count_only", "count_or_wait", "deadline"]},
        {"key": "needBy", "type": "datetime"},
        {"key": "text", "type": "textarea", "required": True},
    ],
    "request": {"endpoint": "/v1/responses",
                "body": {"model": "{{ model }}", "input": "{{ inputs.text }}", "max_output_tokens": 200}},
}  # fmt: skip


@dataclass
class System:
    """The running system, somebody who uses it by the API, and how far its clock runs ahead."""

    stack: Stack
    token: str
    database: psycopg.Connection[Any]
    ahead: float = 0.0

    def move_clock(self, seconds: float) -> None:
        self.ahead += seconds
        self.stack.move_clock(self.ahead)

    def now(self) -> datetime:
        [now] = self.one("SELECT clock_timestamp() + ahead FROM test_clock UNION ALL SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    def one(self, query: str, *values: Any) -> tuple[Any, ...]:
        row = self.database.execute(query.encode(), values).fetchone()
        assert row is not None
        return row

    def submit(self, profile: str, count: int, **inputs: Any) -> list[int]:
        """Make jobs by the API; the text of each has a word that no other has. Returns their ids."""
        address, head = f"{self.stack.web_url}/api/v1/jobs", {"Authorization": f"Bearer {self.token}"}

        def one(number: int) -> int:
            text = f"The code word of note {number} of {profile} at {self.ahead:.0f} is {word(number, self.ahead)}."
            body = {"profile": profile, "inputs": {"text": text, **inputs}}
            return int(httpx2.post(address, json=body, headers=head, timeout=30).raise_for_status().json()["id"])

        with ThreadPoolExecutor(4) as pool:
            self.words = {job_id: word(number, self.ahead) for number, job_id in enumerate(pool.map(one, range(count)))}
        return sorted(self.words)

    def statuses(self, job_ids: list[int]) -> set[str]:
        rows = self.database.execute("SELECT DISTINCT status FROM jobs WHERE id = ANY(%s)", (job_ids,))
        return {status for (status,) in rows}

    def await_completed(self, job_ids: list[int]) -> None:
        try:
            await_(lambda: self.statuses(job_ids) == {"completed"}, f"the completion of {len(job_ids)} jobs")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.standing(job_ids)}") from None
        texts = self.database.execute("SELECT job_id, text FROM job_results WHERE job_id = ANY(%s)", (job_ids,))
        assert all(self.words[job_id] in text for job_id, text in texts)

    def standing(self, job_ids: list[int]) -> list[Any]:
        """What the rows say, for a test that failed."""
        jobs = "SELECT status, execution_mode, attempt, count(*) FROM jobs WHERE id = ANY(%s) GROUP BY 1, 2, 3"
        windows = "SELECT id, status, provider_status, due_at, lease_step, problem, expires_at FROM batch_windows"
        rows = [self.database.execute(jobs, (job_ids,)).fetchall(), self.database.execute(windows).fetchall()]
        return [self.now(), *rows, self.batches()[-1]]

    def paid(self, job_ids: list[int]) -> dict[str, int]:
        """{reason: ledger entries} of these jobs."""
        rows = self.database.execute(
            "SELECT reason, count(*) FROM ledger WHERE job_id = ANY(%s) GROUP BY 1", (job_ids,)
        )  # fmt: skip
        return dict(rows.fetchall())

    def sync_calls(self) -> int:
        """What the provider billed to callers who waited."""
        usage = self.stack.ask_provider("GET", "/admin/usage?limit=10000")["data"]
        return sum(row["mode"] == "sync" and row["billed"] for row in usage)

    def batches(self) -> list[dict[str, Any]]:
        """The provider's batches, oldest first."""
        found: list[dict[str, Any]] = self.stack.ask_provider("GET", "/admin/batches?limit=10000")["data"]
        return found

    def restart(self, name: str) -> None:
        self.stack.kill(name)
        self.stack.start_part(name)

    def doctor(self) -> None:
        """Raises StackError with what it found."""
        self.stack.run_flask("doctor", "doctor", "--provider")


def word(number: int, ahead: float) -> str:
    return f"zephyr{number}x{round(ahead)}"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    profiles = tmp_path_factory.mktemp("profiles")
    for name, size in (("note", SIZE), ("hundred", 100)):
        batch = {"maxBatchSize": size, "maxWaitSeconds": 3600}
        (profiles / f"{name}.json").write_text(json.dumps(PROFILE | {"id": name, "batch": batch}))
    settings = {
        "TEST_CLOCK": "1",
        "POLL_SECONDS": "1",
        "PROFILES_DIR": str(profiles),
        "OFFLINE_BATCHES_PER_HOUR": "100",
    }
    with Stack.throwaway(settings) as stack, stack.cluster.connect("sluice") as database:
        person = Person(stack, "notes@example.org")
        yield System(stack, person.make_token(), database)
        person.http.close()


@pytest.fixture(autouse=True)
def _well_afterwards(system: System) -> Iterator[None]:
    yield
    system.stack.ask_provider("DELETE", "/admin/faults")
    system.doctor()


def open_at_once(system: System, queue_id: int, openers: int) -> list[int]:
    """So many openers of one queue at the same time; the statuses of their answers."""
    address = f"{system.stack.internal_url}/api/internal/batches/open"
    head = {"X-Internal-Token": system.stack.secrets.internal_token}

    def opener(_: int) -> int:
        return httpx2.post(address, json={"queue": queue_id}, headers=head, timeout=30).status_code

    with ThreadPoolExecutor(openers) as pool:
        return list(pool.map(opener, range(openers)))


def let_hours_pass(system: System, hours: int, *, parts: tuple[str, ...]) -> None:
    """An hour goes by, and one part is killed and started again; and so on."""
    for _, part in zip(range(hours), cycle(parts), strict=False):
        system.move_clock(HOUR)
        system.restart(part)


def wait_for_a_window(system: System, count: int) -> tuple[list[int], int]:
    """`count` of 20 jobs that open a window by their age, with eight openers at once: (job ids, window id)."""
    jobs = system.submit("note", count, executionMode="batch", batchStrategy="count_or_wait")
    [queue_id] = system.one("SELECT DISTINCT queue_id FROM jobs WHERE id = ANY(%s)", jobs)
    system.move_clock(3500)
    assert set(open_at_once(system, queue_id, 8)) == {409}
    assert system.statuses(jobs) == {"queued"}
    system.move_clock(101)
    answers = open_at_once(system, queue_id, 8)  # and n8n, which the heartbeat nudges, is a ninth
    assert answers.count(201) <= 1
    assert set(answers) <= {201, 409}
    window_ids = await_(lambda: windows_of(system, jobs), "a window")
    assert len(window_ids) == 1
    [because, age] = system.one(
        "SELECT opened_because, opened_at - (SELECT min(queued_at) FROM jobs WHERE id = ANY(%s))"
        " FROM batch_windows WHERE id = %s", jobs, window_ids[0],
    )  # fmt: skip
    assert because == "waited"
    assert age >= timedelta(hours=1)
    await_(lambda: system.statuses(jobs) == {"processing"}, "the submission")
    await_(lambda: system.batches()[-1]["status"] == "in_progress", "the provider's validation")
    return jobs, window_ids[0]


def windows_of(system: System, job_ids: list[int]) -> list[int]:
    rows = system.database.execute("SELECT DISTINCT window_id FROM batch_items WHERE job_id = ANY(%s)", (job_ids,))
    return [window_id for (window_id,) in rows]


def test_a_batch_that_ends_after_23_hours_50_lands_once(system: System) -> None:
    before = len(system.batches())
    system.stack.ask_provider("PUT", "/admin/limits", {"in_progress_seconds": 23 * HOUR + 50 * 60})
    jobs, _ = wait_for_a_window(system, 7)
    let_hours_pass(system, 23, parts=("internal", "heartbeat", "provider", "web", "n8n"))
    assert system.statuses(jobs) == {"processing"}
    system.move_clock(55 * 60)  # five minutes before it would expire
    system.await_completed(jobs)
    assert system.paid(jobs) == {"answer": 7}
    assert len(system.batches()) == before + 1
    system.stack.ask_provider("PUT", "/admin/limits", {"in_progress_seconds": 0.5})


def stall_at_60(system: System, *faults: dict[str, Any]) -> tuple[list[int], datetime]:
    """A hundred jobs, needed in two hours, in one window that stalls at 60: (job ids, needed by)."""
    for fault in ({"kind": "stall", "at_line": 60}, *faults):
        system.stack.ask_provider("POST", "/admin/faults", fault)
    need_by = system.now() + timedelta(hours=2)
    jobs = system.submit("hundred", 100, executionMode="batch", batchStrategy="deadline", needBy=need_by.isoformat())
    [window_id] = await_(lambda: windows_of(system, jobs), "a window")
    await_(lambda: answered_of(system, window_id) == 60, "60 lines at the provider")
    return jobs, need_by


def answered_of(system: System, window_id: int) -> int | None:
    """How many lines of this window the provider has answered."""
    [batch_id] = system.one("SELECT provider_batch_id FROM batch_windows WHERE id = %s", window_id)
    found = [batch["request_counts"]["completed"] for batch in system.batches() if batch["id"] == batch_id]
    return found[0] if found else None


def last_end(system: System, jobs: list[int]) -> datetime:
    [finished_at] = system.one("SELECT max(finished_at) FROM jobs WHERE id = ANY(%s)", jobs)
    assert isinstance(finished_at, datetime)
    return finished_at


def test_a_provider_that_stalls_and_cancels_costs_40_sync_calls(system: System) -> None:
    calls = system.sync_calls()
    jobs, need_by = stall_at_60(system)
    system.move_clock(2 * HOUR - 1800 + 1)
    system.await_completed(jobs)
    assert system.sync_calls() - calls == 40
    assert last_end(system, jobs) < need_by
    assert system.paid(jobs) == {"answer": 100}


def test_a_provider_that_stalls_and_ignores_the_cancel_costs_60_answers_more(system: System) -> None:
    calls = system.sync_calls()
    jobs, need_by = stall_at_60(system, {"kind": "ignore_cancel", "mode": "cancel"})
    system.move_clock(2 * HOUR - 1800 + 1)
    [window_id] = windows_of(system, jobs)
    asked = "SELECT cancel_asked_at IS NOT NULL FROM batch_windows WHERE id = %s"
    await_(lambda: system.one(asked, window_id)[0], "the wish to cancel at the provider")
    assert system.statuses(jobs) == {"processing"}
    system.move_clock(600)
    system.await_completed(jobs)
    assert system.sync_calls() - calls == 100
    assert last_end(system, jobs) < need_by

    system.stack.ask_provider("DELETE", "/admin/faults")
    ended = "SELECT finished_at IS NOT NULL FROM batch_windows WHERE id = %s"
    await_(lambda: system.one(ended, window_id)[0], "the end of the window")
    assert system.paid(jobs) == {"answer": 100, "discarded": 60}
    [extra] = system.one(
        "SELECT sum(amount) FROM ledger WHERE job_id = ANY(%s) AND reason = 'discarded'", jobs
    )  # fmt: skip
    assert extra > 0
    page = admin_page(system, f"/admin/windows/{window_id}")
    assert re.search(r"Extra: discarded answers</dt><dd>60 · \$0\.\d+", page)


def admin_page(system: System, path: str) -> str:
    with httpx2.Client(base_url=system.stack.web_url, timeout=30) as http:
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', http.get("/login").text)
        assert found
        form = {"email": ADMIN_EMAIL, "password": system.stack.secrets.admin_password, "csrf_token": found[1]}
        http.post("/login", data=form)
        return http.get(path).raise_for_status().text


def test_an_hour_without_n8n_costs_only_the_hour(system: System) -> None:
    calls, batches = system.sync_calls(), len(system.batches())
    system.stack.kill("n8n")
    now = system.submit("note", 5)
    words = system.words
    later = system.submit("note", SIZE, executionMode="batch", batchStrategy="count_only")
    system.words |= words
    for _ in range(6):
        system.move_clock(600)
        await_(lambda: system.one("SELECT now() - max(at) < interval '0' FROM heartbeats")[0], "a beat")
    assert system.statuses(now) == {"created"}
    assert system.statuses(later) == {"queued"}
    system.stack.start_part("n8n")
    system.await_completed(now + later)
    assert (system.sync_calls() - calls, len(system.batches()) - batches) == (5, 1)
    assert system.paid(now + later) == {"answer": 5 + SIZE}


def test_azure_s_batch_of_30_hours_lands_once(system: System, tmp_path: Path) -> None:
    """The last of this file: the system changes its provider."""
    stack = system.stack
    stack.ask_provider("PUT", "/admin/limits", {"in_progress_seconds": 30 * HOUR})
    stack.caller |= {
        "OFFLINE_FLAVOUR": "azure", "OFFLINE_DEPLOYMENTS": "now=gpt-6-luna:Standard,later=gpt-6-luna:GlobalBatch",
        "SYNC_MODEL": "now", "BATCH_MODEL": "later",
    }  # fmt: skip
    for part in ("provider", "internal", "web", "heartbeat"):
        system.restart(part)
    before = len(system.batches())
    jobs, window_id = wait_for_a_window(system, 7)
    let_hours_pass(system, 29, parts=("internal", "heartbeat", "provider", "web"))
    assert system.statuses(jobs) == {"processing"}
    system.move_clock(1.1 * HOUR)
    system.await_completed(jobs)
    assert system.paid(jobs) == {"answer": 7}
    assert len(system.batches()) == before + 1
    end = "SELECT status, needs_attention FROM batch_windows WHERE id = %s"
    await_(lambda: system.one(end, window_id) == ("completed", None), "the settlement")
    [sync_job] = system.submit("note", 1)
    system.await_completed([sync_job])
