"""`make bench`: every row beside its floor, on a cluster of its own.

python3 -m devstack tool python -m bench [--rows claim,ingest] [--scale 0.1] [--rounds 3] [--to FOLDER]
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from bench import batch_rows, books, http_rows
from bench.batch_rows import Bench
from bench.measure import Figures, Row, measure, write
from bench.queue_mode import machine
from devstack import layout
from devstack.ports import free_ports
from devstack.stack import Stack
from tests.fakes import FakeProviderFiles
from webapp.config import Settings
from webapp.parts import build_parts
from webapp.services import costs
from wsgi import settle

B = TypeVar("B", bound=Bench)
ON_THE_BOOKS = 1_000_000
# No limits on how often somebody may ask: here one person asks for all.
SETTINGS = {
    "MAX_BATCH_SIZE": "50000",
    "API_CALLS_PER_MINUTE": "0",
    "UPLOADS_PER_MINUTE": "0",
    "SIGN_INS_PER_MINUTE": "0",
}


def rows_of(bench: Bench, scale: float) -> Iterator[tuple[str, Callable[[], Row]]]:
    """(name, what makes the row); at `scale` 1 with the full sizes."""

    def sized(count: int) -> int:
        return max(100, round(count * scale))

    def claims(count: int) -> Row:
        return batch_rows.claim(bench, bench.queue(f"claim-{count}"), sized(ON_THE_BOOKS), count)

    yield "enqueue-bulk", lambda: batch_rows.enqueue(bench, sized(10_000))
    yield "openers", lambda: batch_rows.openers(bench, bench.queue("openers"), queued=sized(10_000))
    yield "input-file", lambda: batch_rows.input_file(bench, bench.queue("input"), sized(50_000))
    yield "ingest", lambda: batch_rows.ingest(bench, bench.queue("ingest"), sized(50_000))
    yield "claim-1000", lambda: claims(1_000)
    yield "claim-50000", lambda: claims(sized(50_000))


def http_rows_of(http: http_rows.Servers) -> Iterator[tuple[str, Callable[[], Row]]]:
    yield "api-enqueue", lambda: http_rows.api_enqueue(http)
    yield "status-poll", lambda: http_rows.status_poll(http)
    for name in http_rows.PAGES:
        yield "pages", partial(http_rows.page, http, name)
    yield "upload", lambda: http_rows.upload(http)


@contextmanager
def started(kind: type[B]) -> Iterator[tuple[B, Stack]]:
    """A cluster of its own with the tables and a hundred users, and the stack that it belongs to; nothing is served."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        stack = Stack(
            layout.for_folder(Path(name)),
            env={"PATH": os.environ["PATH"], "WEB_PORT": str(free_ports(1)[0]), **SETTINGS},
        )
        stack.claim_and_start_postgres()
        try:
            stack.run_flask("migrate", "db", "upgrade")
            settings = Settings.from_env(stack.app_environment())
            engine = create_engine(stack.cluster.url(), pool_size=20)
            parts = replace(build_parts(settings), files=FakeProviderFiles())
            yield kind(engine, stack.cluster, parts, Path(name)), stack
            engine.dispose()
        finally:
            stack.stop()


def fill_books(bench: Bench, count: int) -> None:
    """So many more jobs that ended."""
    bench.fill(books.finished_jobs, bench.queue("books"), count)
    roll_up(bench)


def roll_up(bench: Bench) -> None:
    with Session(bench.engine) as session:
        while costs.roll_up(session):  # as the heartbeat does each minute
            pass


def main() -> None:
    wish = argparse.ArgumentParser(prog="bench", description=__doc__)
    wish.add_argument("--rows", help="names, separated by commas; without it: all")
    wish.add_argument("--scale", type=float, default=1.0)
    wish.add_argument("--rounds", type=int, default=3)
    wish.add_argument("--to", type=Path, default=Path(".sluice/bench"))
    wanted = wish.parse_args()
    chosen = set(wanted.rows.split(",")) if wanted.rows else None
    with started(Bench) as (bench, stack):
        fill_books(bench, round(ON_THE_BOOKS * wanted.scale))
        settle()  # some rows are measured in this process

        figures: list[Figures] = []
        with bench.engine.connect() as connection:
            postgresql = connection.execute(text("SHOW server_version")).scalar_one()
        facts = {
            "machine": machine(), "jobs on the books": round(ON_THE_BOOKS * wanted.scale),
            "versions": f"PostgreSQL {postgresql}, Python {platform.python_version()}, Flask {version('flask')},"
                        f" SQLAlchemy {version('sqlalchemy')}, psycopg {version('psycopg')}",
        }  # fmt: skip

        def take(rows: Iterator[tuple[str, Callable[[], Row]]]) -> None:
            for row, make in rows:
                if chosen is None or row in chosen:
                    figures.append(measure(make(), wanted.rounds))
                    write(wanted.to, facts, figures)  # after each: what was measured is kept, whatever comes

        with http_rows.servers(bench, stack) as http:
            take(http_rows_of(http))
        take(rows_of(bench, wanted.scale))


if __name__ == "__main__":
    main()
