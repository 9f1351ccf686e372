"""The simulator's window openings against those of the real system: real n8n opens the windows, the clock is moved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import psycopg
import pytest

from devstack.stack import Stack
from tests.people import Person, await_
from webapp.domain.policy import Deadlines
from webapp.domain.simulation import Arrival, Policy, Turnaround, generate, simulate
from webapp.domain.states import BatchStrategy

pytestmark = pytest.mark.e2e
SIZE = 5
# Jobs come at the beginning of a minute, waits are over a quarter of a minute later, and then n8n has time to look: so
# nothing depends on who is some seconds faster.
WAIT_SECONDS = 615
LOOK_AT_SECOND = 34
PATIENCE_SECONDS = 25  # until the minute is over
MINUTES = 95
PROFILE = {
    "id": "note", "name": "Note", "batch": {"maxBatchSize": SIZE, "maxWaitSeconds": WAIT_SECONDS},
    "fields": [
        {"key": "executionMode", "type": "select", "default": "sync", "options": ["sync", "batch"]},
        {"key": "batchStrategy", "type": "select", "options": ["count_only", "count_or_wait"]},
        {"key": "text", "type": "textarea", "required": True},
    ],
    "request": {"endpoint": "/v1/responses",
                "body": {"model": "{{ model }}", "input": "{{ inputs.text }}", "max_output_tokens": 50}},
}  # fmt: skip


@dataclass
class System:
    stack: Stack
    token: str
    database: psycopg.Connection[Any]
    start: datetime  # minute 0

    def move_clock(self, minute: int, second: int = 0) -> None:
        at = self.start + timedelta(minutes=minute, seconds=second)
        self.stack.move_clock((at - datetime.now(UTC)).total_seconds())

    def submit(self) -> None:
        body = {
            "profile": "note", "inputs": {"executionMode": "batch", "batchStrategy": "count_or_wait", "text": "A note."}
        }  # fmt: skip
        head = {"Authorization": f"Bearer {self.token}"}
        httpx2.post(f"{self.stack.web_url}/api/v1/jobs", json=body, headers=head, timeout=30).raise_for_status()

    def is_ready(self) -> bool:
        """Does the policy, as n8n is told, want a window opened?"""
        head = {"X-Internal-Token": self.stack.secrets.internal_token}
        answer = httpx2.get(f"{self.stack.internal_url}/api/internal/queues", headers=head, timeout=30)
        return any(queue["ready"] for queue in answer.raise_for_status().json()["queues"])

    def minute_of(self, moment: datetime) -> int:
        return int((moment - self.start).total_seconds() // 60)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    profiles = tmp_path_factory.mktemp("profiles")
    (profiles / "note.json").write_text(json.dumps(PROFILE))
    settings = {"TEST_CLOCK": "1", "PROFILES_DIR": str(profiles), "OFFLINE_BATCHES_PER_HOUR": "100"}
    with Stack.throwaway(settings) as stack, stack.cluster.connect("sluice") as database:
        person = Person(stack, "notes@example.org")
        start = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
        yield System(stack, person.make_token(), database, start)
        person.http.close()


def test_n8n_opens_the_windows_that_the_simulator_foretells(system: System) -> None:
    moments = generate(20, 1.3, 3, system.start, share=lambda _: 1.0)
    coming = [system.minute_of(moment) for moment in moments]
    assert 20 <= len(coming) <= 30
    for minute in range(MINUTES):
        if minute in coming:
            system.move_clock(minute)
            for _ in range(coming.count(minute)):
                system.submit()
        system.move_clock(minute, LOOK_AT_SECOND)
        await_(lambda: not system.is_ready(), f"the opening of a window in minute {minute}", PATIENCE_SECONDS)

    rows = system.database.execute("SELECT queued_at, id FROM jobs ORDER BY id").fetchall()
    policy = Policy(BatchStrategy.COUNT_OR_WAIT, SIZE, WAIT_SECONDS)
    end = system.start + timedelta(minutes=MINUTES)
    found = simulate([Arrival(*row) for row in rows], policy, Deadlines(600, 1200), Turnaround(60, 10), end)
    foretold = [(system.minute_of(w.opened_at), w.reason, sorted(w.jobs)) for w in found.windows]
    real = system.database.execute(
        "SELECT w.opened_at, w.opened_because, array_agg(i.job_id ORDER BY i.job_id)"
        " FROM batch_windows w JOIN batch_items i ON i.window_id = w.id GROUP BY w.id ORDER BY w.id"
    ).fetchall()
    assert [(system.minute_of(opened_at), reason, jobs) for opened_at, reason, jobs in real] == foretold
    assert {reason for _, reason, _ in foretold} == {"full", "waited"}

    opened = {job: opened_at for opened_at, _, jobs in real for job in jobs}
    waits = {job: (opened[job] - queued_at).total_seconds() for queued_at, job in rows}
    assert waits == pytest.approx(
        {c.arrival.key: (c.set_off_at - c.arrival.at).total_seconds() for c in found.courses if c.set_off_at}, abs=59
    )
