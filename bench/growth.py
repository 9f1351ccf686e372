"""What a hundred times as many jobs on the books cost: each row of the benchmark with work of one size, as they grow.

python3 -m devstack tool python -m bench.growth [--books 10000,100000,1000000] [--rounds 3] [--rows claim] [--to FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import text

from bench import batch_rows, http_rows
from bench.__main__ import fill_books, http_rows_of, roll_up, started
from bench.batch_rows import Bench
from bench.measure import Row
from bench.queue_mode import machine

Table = dict[str, dict[int, list[float]]]  # {row: {jobs on the books: milliseconds of one job, request or page}}
FLAT = 1.5  # times as long: less is chance on a busy machine
# Why a row may grow, where it does.
WHY = {
    "page: history": "it counts a user's newest jobs, up to 10,000: with 10,000 on the books a user has a hundred",
    "page: a page of the history far back": "the same",
    "page: admin": "it counts the jobs that wait, up to 50,000 in each queue (the rows before leave more), and"
    " those that ended within a day, up to 10,000",
}


class Growing(Bench):
    """At each size every row has queues of its own."""

    size = 0

    def queue(self, name: str) -> int:
        return super().queue(f"{name} at {self.size}")


def rows_of(bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
    """(name, what makes the row): those that make few jobs first."""

    yield "claim", lambda: batch_rows.claim(bench, bench.queue("claim"), 10_000, 1_000)
    yield "openers", lambda: batch_rows.openers(bench, bench.queue("openers"), queued=2_000)
    yield "input-file", lambda: batch_rows.input_file(bench, bench.queue("input"), 5_000)
    yield "ingest", lambda: batch_rows.ingest(bench, bench.queue("ingest"), 5_000)
    yield "enqueue-bulk", lambda: batch_rows.enqueue(bench, 10_000)


def fill_up(bench: Growing, size: int) -> None:
    """So many jobs on the books, with those that the measurements before have made."""
    bench.size = size
    with bench.engine.connect() as connection:
        there = connection.execute(text("SELECT count(*) FROM jobs")).scalar_one()
    if there < size:
        fill_books(bench, size - there)
    roll_up(bench)  # what the rows before have answered, too


def job_in_the_middle(http: http_rows.Servers) -> http_rows.Jobs:
    """One of the reader's: the books were filled in several goes, so her jobs are in no regular distance."""
    with http.bench.engine.connect() as connection:
        return http_rows.Jobs(connection.execute(text(
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM jobs"
            " WHERE user_id = :reader AND finished_at IS NOT NULL"), {"reader": http.reader_id},
        ).scalar_one())  # fmt: skip


def take(table: Table, rows: Iterator[tuple[str, Callable[[], Row]]], size: int, rounds: int, chosen: set[str]) -> None:
    for name, make in rows:
        if chosen and name not in chosen:
            continue
        row = make()
        times = [row.ours() / row.amount * 1000 for _ in range(rounds * row.turns)]
        table.setdefault(row.name, {})[size] = times
        print(f"{size:,}: {row.name}: {statistics.median(times):.3f} ms", flush=True, file=sys.stderr)


def grown(times: dict[int, list[float]]) -> float:
    """How many times as long it takes at the last size as at the first."""
    medians = [statistics.median(found) for found in times.values()]
    return medians[-1] / medians[0]


def markdown(table: Table, sizes: list[int]) -> str:
    head = ["ms each, with so many jobs on the books", *(f"{size:,}" for size in sizes), "last / first", "why it grows"]
    lines = [head, ["---"] * len(head)]
    for name, times in table.items():
        share = grown(times)
        medians = (f"{statistics.median(times[size]):.3f}" for size in sizes)
        lines.append([name, *medians, f"**{share:.2f}**", WHY.get(name, "?") if share > FLAT else ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    wish = argparse.ArgumentParser(prog="bench.growth", description=__doc__)
    wish.add_argument("--books", default="10000,100000,1000000", help="jobs on the books, separated by commas")
    wish.add_argument("--rows", default="", help="names, separated by commas; without it: all")
    wish.add_argument("--rounds", type=int, default=3)
    wish.add_argument("--to", type=Path, default=Path(".sluice/bench"))
    wanted = wish.parse_args()
    sizes, chosen = [int(size) for size in wanted.books.split(",")], set(filter(None, wanted.rows.split(",")))
    table: Table = {}
    with started(Growing) as (bench, stack):
        for size in sizes:
            fill_up(bench, size)
            with http_rows.servers(bench, stack) as http:
                http.finished = job_in_the_middle(http)
                take(table, http_rows_of(http), size, wanted.rounds, chosen)
            take(table, rows_of(bench), size, wanted.rounds, chosen)
    wanted.to.mkdir(parents=True, exist_ok=True)
    (wanted.to / "growth.json").write_text(json.dumps({"machine": machine(), "milliseconds": table}, indent=1) + "\n")
    (wanted.to / "growth.md").write_text(f"machine: {machine()}\n\n{markdown(table, sizes)}\n")


if __name__ == "__main__":
    main()
