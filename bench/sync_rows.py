"""Sync jobs a second through the real n8n, beside the same workflow with the app's calls stubbed.

    python3 -m devstack tool python -m bench.sync_rows [--jobs 200] [--rounds 3] [--to FOLDER]

On both sides the provider is a stub that answers at once (bench/stub.py), and so many jobs are in n8n's hands as
MAX_SYNC_IN_FLIGHT says. Ours: a round's jobs are made in one commit and dispatched by the heartbeat. The floor: the
webhook is called with the same payload, the call-backs lead to the stub. A round lasts from the first start to the last
answer. Then one job at a time, from its dispatch to its answer. Durable commits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from bench.measure import Figures, Row, measure, write
from bench.queue_mode import machine, make_jobs, run
from bench.stub import Call, Stub
from devstack.stack import Stack
from tests.people import await_
from webapp.config import Settings
from webapp.domain.traces import HEADER, traceparent
from webapp.gateways.n8n import TOKEN_HEADER
from webapp.models import Job, JobRequest
from webapp.parts import Parts, build_parts
from webapp.services import dispatch

WANTED = 0.7
ALONE = 20  # jobs, one at a time
TAKEN = text("SELECT 1000 * extract(epoch FROM finished_at - dispatched_at) FROM jobs WHERE id = :id")
PATIENCE_SECONDS = 60


@dataclass
class Sides:
    """The real system and the stubbed one; both have the same n8n."""

    stack: Stack
    stub: Stub
    parts: Parts
    session: Session
    payload: dict[str, Any]  # what n8n is sent of a job

    def ours(self, count: int) -> float:
        """Seconds from the first start to the last answer."""
        per_second, _ = run(self.stack, count)
        return count / per_second

    def floor(self, count: int) -> float:
        """Seconds from the first start to the last answer."""
        calls = self.stub.run(self._call_all(count, self.parts.settings.max_sync_in_flight))
        return max(call.ended for call in calls) - min(call.started for call in calls)

    def ours_alone(self) -> float:
        """Milliseconds from a job's dispatch to its answer, median of some, one at a time."""
        return statistics.median(self._run_one() for _ in range(ALONE))

    def floor_alone(self) -> float:
        """Milliseconds from a call to its answer, median of some, one at a time."""
        return 1000 * statistics.median(call.ended - call.called for call in self.stub.run(self._call_all(ALONE, 1)))

    def _run_one(self) -> float:
        """As the request does that made the job. The heartbeat may come first: it does the same."""
        session, parts = self.session, self.parts
        [job_id] = make_jobs(session, parts, 1)
        dispatch.dispatch_due(session, parts.settings, parts.profiles, parts.n8n, only=[job_id])

        def milliseconds() -> float | None:
            found = session.execute(TAKEN, {"id": job_id}).scalar_one()
            session.rollback()
            return None if found is None else float(found)

        return float(await_(milliseconds, f"the end of job {job_id}"))

    async def _call_all(self, count: int, at_once: int) -> list[Call]:
        settings = self.parts.settings
        head = {
            TOKEN_HEADER: settings.n8n_webhook_token.get_secret_value(),
            HEADER: traceparent(settings.public_url, "jobs", 1),
        }  # fmt: skip
        turn = asyncio.Semaphore(at_once)
        async with httpx2.AsyncClient(headers=head, timeout=PATIENCE_SECONDS) as http:

            async def call() -> Call:
                async with turn:
                    own = self.stub.expect()
                    back = f"{self.stub.url}/jobs/{own.number}"
                    payload = self.payload | {"callback": {"start": f"{back}/start", "result": f"{back}/result"}}
                    answer = await http.post(f"{settings.n8n_url}/webhook/jobs/run", json=payload)
                    answer.raise_for_status()
                    await asyncio.wait_for(own.is_over.wait(), PATIENCE_SECONDS)
                    return own

            return await asyncio.gather(*(call() for _ in range(count)))


def main() -> None:
    wish = argparse.ArgumentParser(prog="bench.sync_rows", description=__doc__)
    wish.add_argument("--jobs", type=int, default=300)
    wish.add_argument("--rounds", type=int, default=3)
    wish.add_argument("--to", type=Path, default=Path(".sluice/bench/sync_rows"))
    wanted = wish.parse_args()
    with Stub().running() as stub:
        provider = {"OPENAI_API_KEY": "sk-bench", "OPENAI_BASE_URL": f"{stub.url}/v1"}
        with Stack.throwaway(provider, durable=True) as stack:
            engine = create_engine(stack.cluster.url())
            with Session(engine) as session:
                figures = measure_both(stack, stub, session, wanted.jobs, wanted.rounds)
            engine.dispose()
    write(wanted.to, {"machine": machine()}, [figures])


def measure_both(stack: Stack, stub: Stub, session: Session, count: int, rounds: int) -> Figures:
    parts = build_parts(Settings.from_env(stack.app_environment()))
    run(stack, count)  # to warm up; one of these jobs is what the bare workflow gets
    job = session.execute(select(Job).order_by(Job.id).limit(1)).scalar_one()
    url, body = dispatch.provider_url(parts.settings, "/v1/responses"), session.get_one(JobRequest, job.id).body
    assert body is not None
    stub.request = {"url": url, "body": json.loads(body)}
    payload = {"userId": job.user_id, "input": job.inputs, "executionMode": "sync", "batchStrategy": None,
               "jobId": job.id, "attempt": 1}  # fmt: skip
    session.rollback()
    sides = Sides(stack, stub, parts, session, payload)
    sides.floor(count)
    in_flight = parts.settings.max_sync_in_flight
    row = Row(
        f"sync jobs, {in_flight} in flight", "the same workflow, the app's calls stubbed", WANTED, count, "jobs",
        lambda: sides.ours(count), lambda: sides.floor(count),
    )  # fmt: skip
    ours, floor = sides.ours_alone(), sides.floor_alone()
    row.notes["p50 of one alone, dispatch to answer, ms"] = f"{ours:.0f}, bare {floor:.0f}: {ours - floor:+.0f}"
    return measure(row, rounds)


if __name__ == "__main__":
    main()
