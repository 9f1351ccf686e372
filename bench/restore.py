"""How long a backup and its restore take: dump, a new cluster, restore, migrate, doctor; and that no row is missing.

    python3 -m devstack tool python -m bench.restore [JOBS]

PostgreSQL alone, with durable commits. The jobs are one real window of 1,000 that came back, copied in the database.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.orm import Session

from bench.queue_mode import machine
from devstack import backup, layout
from devstack.stack import Stack
from tests import factories
from tests.fakes import FakeProviderFiles
from webapp.config import Settings
from webapp.models import Base
from webapp.parts import build_parts
from webapp.services import batch_ingest, costs

WINDOW = 1_000
ANSWER = "- The keeper opened the gate, and the water ran to the mill as it had every evening. " * 10
# Each column that names a job or a window, or that must not be there twice; {n} is the number of the copy.
COPIED = {
    "batch_windows": {"id": "id + {n}", "input_file_id": "input_file_id || '-{n}'",
                      "provider_batch_id": "provider_batch_id || '-{n}'"},
    "window_events": {"id": None, "window_id": "window_id + {n}"},
    "jobs": {"id": "id + {n} * 1000"},
    "job_requests": {"job_id": "job_id + {n} * 1000"},
    "job_documents": {"job_id": "job_id + {n} * 1000"},
    "job_events": {"id": None, "job_id": "job_id + {n} * 1000"},
    "batch_items": {"custom_id": "custom_id || '-{n}'", "window_id": "window_id + {n}",
                    "job_id": "job_id + {n} * 1000"},
    "job_results": {"job_id": "job_id + {n} * 1000", "answer_key": "answer_key || '-{n}'"},
    "job_answers": {"id": None, "job_id": "job_id + {n} * 1000", "answer_key": "answer_key || '-{n}'"},
    "ledger": {"id": None, "job_id": "job_id + {n} * 1000", "answer_key": "answer_key || '-{n}'"},
}  # fmt: skip


def main(jobs: int = 100_000) -> None:
    print(machine())
    home = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
    old, new = stack_in(home / "old"), stack_in(home / "new")
    try:
        old.claim_and_start_postgres()
        old.run_flask("migrate", "db", "upgrade")
        timed("make the population", lambda: populate(old, jobs))
        before = count_rows(old)
        timed("doctor before", lambda: old.run_flask("doctor", "doctor"))
        timed("backup", lambda: backup.save(old, home / "saved"))
        size = sum(file.stat().st_size for file in (home / "saved").rglob("*.dump"))
        print(f"{'dumps':24} {size / 1e6:8.1f} MB of {database_mb(old):.0f} MB in the database")
        old.stop()
        timed("restore", lambda: backup.restore(new, home / "saved"))
        timed("doctor after", lambda: new.run_flask("doctor", "doctor"))
        after = count_rows(new)
        assert after == before, {name: (before[name], after[name]) for name in before if before[name] != after[name]}
        print(f"{'rows':24} {sum(after.values()):8,} in {len(after)} tables, the same before and after:")
        print("   ", ", ".join(f"{name} {count:,}" for name, count in after.items() if count >= WINDOW))
    finally:
        for stack in (old, new):
            stack.stop()
            shutil.rmtree(stack.layout.postgres_dir.parent, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def stack_in(folder: Path) -> Stack:
    folder.mkdir()
    return Stack(layout.for_folder(folder), env={"PATH": os.environ["PATH"], "MAX_BATCH_SIZE": str(WINDOW)})


def timed(what: str, do: Callable[[], None]) -> None:
    started = time.monotonic()
    do()
    print(f"{what:24} {time.monotonic() - started:8.1f} s", flush=True)


def populate(stack: Stack, jobs: int) -> None:
    engine = create_engine(stack.cluster.url())
    with Session(engine) as session:
        one_real_window(stack, session)
    with engine.begin() as connection:
        for number in range(1, jobs // WINDOW):
            for table, changes in COPIED.items():
                copy_rows(connection, table, changes, number)
        for table in ("jobs", "batch_windows"):
            connection.execute(text(f"SELECT setval('{table}_id_seq', max(id)) FROM {table}"))
    with Session(engine) as session:
        while costs.roll_up(session):
            pass
    engine.dispose()


def one_real_window(stack: Stack, session: Session) -> None:
    settings = Settings.from_env(stack.app_environment())
    parts = replace(build_parts(settings), files=FakeProviderFiles())
    window = factories.make_submitted_window(session, parts, factories.make_user(session), WINDOW)
    items = factories.items_of(session, window)
    lines = [factories.output_line(item, factories.response(f"{ANSWER}{item.job_id}")) for item in items]
    lease = factories.end_batch(session, parts, window, "completed", output=lines)
    batch_ingest.ingest_window(
        session, settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )  # fmt: skip


def copy_rows(connection: Connection, table: str, changes: dict[str, str | None], number: int) -> None:
    """The rows of the first window once more. An id that is left out (None) is given by the database."""
    own = [column.name for column in Base.metadata.tables[table].columns if changes.get(column.name, "") is not None]
    values = [(changes.get(name) or name).format(n=number) for name in own]
    job = "id" if table == "jobs" else "job_id"
    only = f"{job} <= {WINDOW}" if job in own else f"{'id' if table == 'batch_windows' else 'window_id'} = 1"
    connection.execute(
        text(
            f"INSERT INTO {table} ({', '.join(own)}) OVERRIDING SYSTEM VALUE"
            f" SELECT {', '.join(values)} FROM {table} WHERE {only}"
        )
    )


def count_rows(stack: Stack) -> dict[str, int]:
    with connected(stack) as connection:
        return {
            name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in Base.metadata.tables
        }


def database_mb(stack: Stack) -> float:
    with connected(stack) as connection:
        return float(connection.execute(text("SELECT pg_database_size(current_database()) / 1e6")).scalar_one())


def connected(stack: Stack) -> Connection:
    engine: Engine = create_engine(stack.cluster.url())
    return engine.connect()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
