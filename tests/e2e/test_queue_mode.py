"""n8n in queue mode: Redis and two workers, of which one is killed while it works."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import psycopg
import pytest

from devstack.processes import status_of
from devstack.queue_mode import CONCURRENCY
from devstack.stack import Stack
from tests.people import Person, await_

pytestmark = pytest.mark.e2e
JOBS = 24
BUSY = int(CONCURRENCY) + 2  # more than one worker takes at a time: both have some
LEASE_SECONDS = 360.0
ANSWER_SECONDS = 6
SETTINGS = {
    "N8N_WORKERS": "2",
    "TEST_CLOCK": "1",
    "ATTEMPT_LEASE_SECONDS": str(round(LEASE_SECONDS)),
    "OFFLINE_RESPONSE_SECONDS": str(ANSWER_SECONDS),  # so that a killed worker has something to lose
    "OFFLINE_THREADS": "40",
}


@pytest.fixture(scope="module")
def queue_stack() -> Iterator[Stack]:
    with Stack.throwaway(SETTINGS) as stack:
        yield stack


@pytest.fixture
def rows(queue_stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    with queue_stack.cluster.connect("sluice") as connection:
        yield connection


def submit(stack: Stack, email: str, count: int) -> None:
    person = Person(stack, email)
    head = {"Authorization": f"Bearer {person.make_token()}"}
    person.http.close()

    def one(number: int) -> None:
        body = {"profile": "text_classification", "inputs": {"text": f"Invoice {number} was paid twice by mistake."}}
        httpx2.post(f"{stack.web_url}/api/v1/jobs", json=body, headers=head, timeout=30).raise_for_status()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(count)))


def ids(rows: psycopg.Connection[Any], condition: str) -> set[int]:
    return {job_id for (job_id,) in rows.execute(f"SELECT id FROM jobs WHERE {condition}".encode())}


def test_a_killed_worker_loses_executions_and_no_job(queue_stack: Stack, rows: psycopg.Connection[Any]) -> None:
    submit(queue_stack, "worker@example.org", JOBS)
    await_(lambda: len(ids(rows, "status = 'processing'")) >= BUSY, "two busy workers")
    queue_stack.kill("n8n-worker-1")
    # The other worker goes on. What runs for twice the provider's time is lost: nobody works on it.
    is_fresh = f"started_at > clock_timestamp() - interval '{2 * ANSWER_SECONDS} s'"
    at_work = f"status = 'created' OR status = 'processing' AND {is_fresh}"
    await_(lambda: not ids(rows, at_work), "the end of what the other worker does")
    lost = ids(rows, "status <> 'completed'")
    assert 2 <= len(lost) <= int(CONCURRENCY)

    queue_stack.move_clock(LEASE_SECONDS + 1)
    await_(lambda: len(ids(rows, "status = 'completed'")) == JOBS, "the end of all jobs")
    assert ids(rows, "attempt > 1") == lost
    paid = dict(rows.execute("SELECT reason, count(*) FROM ledger GROUP BY reason").fetchall())
    assert paid == {"answer": JOBS, "answer_lost": len(lost)}
    queue_stack.run_flask("doctor", "doctor", "--provider")  # raises StackError with what it found

    queue_stack.start_part("n8n-worker-1")
    assert queue_stack.n8n.is_worker_ready("n8n-worker-1")


def test_redis_refuses_whoever_has_no_password(queue_stack: Stack) -> None:
    queue = queue_stack.queue_mode
    assert queue is not None
    assert queue.is_redis_ready()
    assert not type(queue)(queue.folder, "guessed", queue.redis_port, {}).is_redis_ready()


def test_a_lost_redis_loses_executions_and_no_job(queue_stack: Stack, rows: psycopg.Connection[Any]) -> None:
    before = ids(rows, "true")
    submit(queue_stack, "redis@example.org", JOBS)
    await_(lambda: len(ids(rows, "status = 'processing'")) >= BUSY, "two busy workers")
    queue_stack.kill("redis")
    queue_stack.start_part("redis")
    await_(lambda: status_of(f"{queue_stack.n8n.url}/healthz/readiness") == 200, "n8n with its new Redis")

    queue_stack.move_clock(2 * (LEASE_SECONDS + 1))
    await_(lambda: ids(rows, "status <> 'completed'") == set(), "the end of all jobs")
    assert ids(rows, "attempt > 1") - before, "nothing was lost: Redis had nothing any more when it was killed"
    [(answers,)] = rows.execute("SELECT count(*) FROM ledger WHERE reason = 'answer'").fetchall()
    assert answers == len(before) + JOBS
    queue_stack.run_flask("doctor", "doctor", "--provider")
