"""Jobs a second through n8n: single mode against queue mode with one and with two workers.

    python3 -m devstack tool python -m bench.queue_mode [ROUNDS] [JOBS]

Three systems side by side on this machine; only one has work at a time, and they take turns, so that what else the
machine does meets all of them. PostgreSQL is not durable, the provider answers at once. A round's jobs are made in one
commit and dispatched by the heartbeat; its figure is jobs a second from the first start to the last answer.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from bench.processes import memory_mb
from devstack.stack import Stack
from tests.people import await_
from webapp.config import Settings
from webapp.parts import Parts, build_parts
from webapp.services import accounts, jobs

WORKERS = {"single": "0", "queue, 1 worker": "1", "queue, 2 workers": "2"}
# So many may be in n8n's hands at each beat, of which there is one a second: more than n8n does here in a second.
SETTINGS = {"MAX_SYNC_IN_FLIGHT": "100", "OFFLINE_THREADS": "32"}
ROUND_SECONDS = 300
UNFINISHED = text("SELECT count(*) FROM jobs WHERE finished_at IS NULL")
RATE = text(
    "SELECT count(*) FILTER (WHERE status = 'completed' AND attempt = 1),"
    " count(*) / extract(epoch FROM max(finished_at) - min(started_at)),"
    " 1000 * percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - started_at))"
    " FROM jobs WHERE id = ANY(:ids)"
)


def main(rounds: int = 5, count: int = 200) -> None:
    print(machine(), flush=True)
    with contextlib.ExitStack() as held:
        systems = {
            name: held.enter_context(Stack.throwaway({**SETTINGS, "N8N_WORKERS": workers}))
            for name, workers in WORKERS.items()
        }
        for stack in systems.values():
            run(stack, count)  # to warm up
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
        for number in range(rounds):
            for name, stack in systems.items():
                figures[name].append(run(stack, count))
                rate, milliseconds = figures[name][-1]
                print(f"round {number + 1}  {name:17} {rate:6.1f} jobs/s  p50 {milliseconds:6.0f} ms", flush=True)
        show(figures, {name: memory(stack) for name, stack in systems.items()})


def run(stack: Stack, count: int) -> tuple[float, float]:
    """(jobs a second, median milliseconds from start to answer) of one round."""
    parts = build_parts(Settings.from_env(stack.app_environment()))
    engine = create_engine(stack.cluster.url())
    with Session(engine) as session:
        ids = make_jobs(session, parts, count)

        def are_done() -> bool:
            unfinished = session.execute(UNFINISHED).scalar_one()
            session.rollback()
            return not unfinished

        await_(are_done, f"the end of {count} jobs", ROUND_SECONDS)
        completed, rate, milliseconds = session.execute(RATE, {"ids": ids}).one()
    engine.dispose()
    assert completed == count, f"{completed} of {count} were completed at the first attempt"
    return float(rate), float(milliseconds)


def make_jobs(session: Session, parts: Parts, count: int) -> list[int]:
    email = f"bench{os.urandom(4).hex()}@example.org"
    user = accounts.register(session, email, "correct horse battery")
    runs = [{"executionMode": "sync", "text": f"Invoice {number} was paid twice."} for number in range(count)]
    return jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="text_classification", runs=runs
    )


def memory(stack: Stack) -> float:
    """MB resident, of n8n, its workers and Redis."""
    names = [name for name in stack.processes if name.startswith("n8n") or name == "redis"]
    return sum(memory_mb("VmRSS", stack.process(name).pid) for name in names)


def show(figures: dict[str, list[tuple[float, float]]], megabytes: dict[str, float]) -> None:
    single = statistics.median(rate for rate, _ in figures["single"])
    print(f"\n{'':17} {'jobs/s':>8} {'least':>7} {'most':>7} {'of single':>10} {'p50 ms':>8} {'n8n MB':>8}")
    for name, pairs in figures.items():
        rates, times = zip(*pairs, strict=True)
        middle = statistics.median(rates)
        print(
            f"{name:17} {middle:8.1f} {min(rates):7.1f} {max(rates):7.1f} {middle / single:10.2f}"
            f" {statistics.median(times):8.0f} {megabytes[name]:8.0f}"
        )


def machine() -> str:
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return f"{os.cpu_count()} CPUs, {model.partition(':')[2].strip()}, load {os.getloadavg()[0]:.1f} at the start"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
