"""What Sluice adds to a sync run: created_at to finished_at, minus the provider's own logged time.

    python3 -m devstack tool python -m bench.sync_overhead [RUNS]

One run at a time on a throw-away stack (PostgreSQL not durable); the document is the 20-page one of the tests.
"""

from __future__ import annotations

import statistics
import sys
import time

import httpx2

from devstack.stack import Stack
from tests.conftest import DATA
from tests.people import Person

WARM_UP = 5


def main(runs: int = 30) -> None:
    with Stack.throwaway() as stack:
        person = Person(stack, f"bench{time.time_ns()}@example.org")
        for _ in range(runs + WARM_UP):
            [job_id] = person.run(DATA / "debian-history.pdf", executionMode="sync")
            person.await_status(job_id)
        with stack.cluster.connect("sluice") as database:
            rows = database.execute(
                "SELECT extract(epoch FROM jobs.finished_at - jobs.created_at) * 1000, r.queue_ms, r.answer_key"
                " FROM jobs JOIN job_results r ON r.job_id = jobs.id ORDER BY jobs.id OFFSET %s", (WARM_UP,),
            ).fetchall()  # fmt: skip
        token = {"X-Admin-Token": stack.secrets.provider_admin_token}
        log = httpx2.get(f"{stack.provider_url}/admin/usage?limit=1000", headers=token).json()["data"]
        logged = {entry["response_id"]: entry["provider_ms"] for entry in log}
        overheads = [float(total) - logged[key] for total, _, key in rows]
        show("total", [float(total) for total, _, _ in rows])
        show("until started", [float(queue) for _, queue, _ in rows])
        show("overhead", overheads)
        person.http.close()


def show(name: str, values: list[float]) -> None:
    quantiles = statistics.quantiles(values, n=20)
    p50, p95 = quantiles[9], quantiles[18]
    print(f"{name:14} n={len(values)}  p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   max {max(values):7.1f} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
