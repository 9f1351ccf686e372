"""What one machine does without waiting for anybody: pages and API, and a window of 50,000 jobs there and back.

    python3 -m devstack tool python -m bench.limits [JOBS]

The client, the app and PostgreSQL (durable commits) share the machine; the provider's files are in memory.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from bench.processes import memory_mb
from bench.queue_mode import machine
from bench.restore import COPIED, WINDOW, copy_rows
from devstack import layout
from devstack.stack import Stack
from tests import factories
from tests.fakes import FakeProviderFiles
from tests.people import Person
from webapp.config import Settings
from webapp.domain.windows import Step
from webapp.models import BatchItem, Queue
from webapp.parts import Parts, build_parts
from webapp.services import batch_files, batch_ingest, batches

CLIENTS, CALLS, ROUNDS = 8, 400, 3
JOB_TABLES = ("jobs", "job_requests", "job_documents", "job_events")


def main(jobs: int = 50_000) -> None:
    print(machine())
    measure_calls()
    measure_window(jobs)


def measure_calls() -> None:
    """Calls a second of eight clients, median of three rounds, through the real app."""
    with Stack.throwaway({"MAX_BATCH_SIZE": "50000"}) as stack:
        person = Person(stack, "bench@example.org")
        http = httpx2.Client(
            base_url=stack.web_url, timeout=60, headers={"Authorization": f"Bearer {person.make_token()}"}
        )
        body = {"profile": "text_classification", "inputs": {"executionMode": "batch", "text": "Paid twice."}}

        def make_job(_: int) -> Any:
            return http.post("/api/v1/jobs", json=body).raise_for_status().json()["id"]

        show_rate("API: make a batch job", make_job)
        one = make_job(0)
        show_rate("API: a job's state", lambda _: http.get(f"/api/v1/jobs/{one}").raise_for_status())
        show_rate("a job's page", lambda _: person.http.get(f"/jobs/{one}").raise_for_status())
        http.close()
        person.http.close()


def show_rate(what: str, call: Callable[[int], Any]) -> None:
    rates = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(ROUNDS):
            started = time.monotonic()
            list(pool.map(call, range(CALLS)))
            rates.append(CALLS / (time.monotonic() - started))
    print(f"{what:28} {statistics.median(rates):8.0f} calls/s  ({min(rates):.0f} to {max(rates):.0f})", flush=True)


def measure_window(jobs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        stack = Stack(layout.for_folder(Path(folder)), env={"PATH": os.environ["PATH"], "MAX_BATCH_SIZE": str(jobs)})
        stack.claim_and_start_postgres()
        try:
            stack.run_flask("migrate", "db", "upgrade")
            settings = Settings.from_env(stack.app_environment())
            profiles = build_parts(settings).profiles
            engine = create_engine(stack.cluster.url())
            with Session(engine) as session:
                ride(session, replace(build_parts(settings), files=FakeProviderFiles(), profiles=profiles), jobs)
            engine.dispose()
        finally:
            stack.stop()


def ride(session: Session, parts: Parts, jobs: int) -> None:
    """Queue so many jobs, and take them to the provider and back."""
    factories.make_queued_jobs(session, parts, factories.make_user(session), WINDOW)
    for number in range(1, jobs // WINDOW):
        for table in JOB_TABLES:
            copy_rows(session.connection(), table, COPIED[table], number)
    session.execute(text("ANALYZE"))
    session.commit()
    queue_id = session.query(Queue.id).scalar()
    opened: list[Any] = []
    show_time("claim", jobs, lambda: opened.append(batches.open_window(
        session, parts.settings, parts.profiles, queue_id=queue_id, actor="bench")))  # fmt: skip
    window = opened[0]
    assert window.job_count == jobs, f"{window.job_count} jobs rode: the window was full before (bytes or tokens)"
    lease = factories.take_lease(session, parts, Step.UPLOAD_INPUT)
    show_time("write the input file", jobs, lambda: batch_files.upload_input(
        session, parts.files, window_id=window.id, token=lease.token))  # fmt: skip
    lease = factories.take_lease(session, parts, Step.CREATE)
    factories.answer_step(session, parts, lease, factories.batch_object(window, "validating"))
    session.refresh(window)
    lines = [answer_of(item) for item in session.query(BatchItem.custom_id, BatchItem.job_id)]
    lease = factories.end_batch(session, parts, window, "completed", output=lines)
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    show_time("ingest and settle", jobs, lambda: batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token))  # fmt: skip
    came_in = len(json.dumps(lines)) / 1e6
    grown = memory_mb("VmHWM") - before
    print(f"{'memory grew by':28} {grown:8.0f} MB while {came_in:.0f} MB came in")


def answer_of(item: Any) -> dict[str, Any]:
    return factories.output_line(
        item, factories.response(f"{'The gate was opened and the water ran. ' * 20}{item.job_id}")
    )


def show_time(what: str, jobs: int, do: Callable[[], Any]) -> None:
    started = time.monotonic()
    do()
    seconds = time.monotonic() - started
    print(f"{what:28} {seconds:8.1f} s for {jobs:,} jobs: {jobs / seconds:,.0f} jobs/s", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
