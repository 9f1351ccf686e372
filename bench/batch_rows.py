"""Rows of the batch path, in this process: bulk enqueue, claim, the input file, ingest. No network, durable commits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from bench import books
from bench.blob_memory import memory_mb
from bench.floors import CLAIM, INGEST, INPUT, NEW_JOBS
from bench.lean import Lean
from bench.measure import Row, timed
from devstack.postgres import SUPERUSER, Cluster
from tests import factories
from tests.people import PASSWORD
from webapp.domain.errors import InsufficientJobs
from webapp.domain.windows import Step
from webapp.models import BatchWindow, User
from webapp.parts import Parts
from webapp.services import accounts, batch_files, batch_ingest, batches, submissions

ANSWER_BYTES = 2_000


class Bench:
    """The database with a million jobs on the books, and what each row needs of it."""

    def __init__(self, engine: Engine, cluster: Cluster, parts: Parts, folder: Path) -> None:
        self.engine, self.cluster, self.parts, self.folder = engine, cluster, parts, folder
        self.lean = Lean(cluster.url(), self.tidy)
        with Session(engine) as session:
            for number in range(100):
                session.add(User(email=f"user{number}@example.org", password_hash="none"))
            session.commit()
            self.user_id = accounts.register(session, "bench@example.org", PASSWORD).id
            self.version = self._version(session)

    def _version(self, session: Session) -> int:
        user = session.get_one(User, self.user_id)
        factories.make_submission(session, self.parts, user, 2)
        return int(session.execute(text("SELECT max(id) FROM profile_versions")).scalar_one())

    def queue(self, name: str) -> int:
        """A queue of its own for a row, under a model of this name."""
        with self.engine.begin() as connection:
            return int(connection.execute(
                text("INSERT INTO queues (profile_id, endpoint, model, strategy)"
                     " VALUES ('text_classification', '/v1/responses', :name, 'count_only') RETURNING id"),
                {"name": name},
            ).scalar_one())  # fmt: skip

    def fill(self, make: Callable[..., None], *arguments: Any) -> None:
        with self.engine.begin() as connection:
            make(connection, self.version, *arguments)
        self.tidy()

    def tidy(self) -> None:
        """What autovacuum does in time; between measurements, so that none pays for the one before."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        with self.cluster.connect("postgres", SUPERUSER) as server:
            server.execute("CHECKPOINT")


def raw(connection: Connection) -> Any:
    return connection.connection.driver_connection


def claim(bench: Bench, queue: int, queued: int, count: int) -> Row:
    parts = bench.parts
    bench.fill(books.queued_jobs, queue, queued, 300)

    def ours() -> float:
        bench.tidy()
        with Session(bench.engine) as session:
            return timed(lambda: batches.open_window(session, parts.settings, parts.profiles, queue_id=queue,
                                                     max_batch_size=count, actor="bench"))  # fmt: skip

    def floor() -> float:
        bench.tidy()
        with bench.engine.connect() as connection:

            def do() -> None:
                connection.execute(text(CLAIM), {"queue": queue, "take": count})
                connection.commit()

            return timed(do)

    return Row(f"claim {count:,}", "one statement that writes the same rows", 0.66, count, "jobs", ours, floor,
               lean=bench.lean.claim(queued, count))  # fmt: skip


def openers(bench: Bench, queue: int, threads: int = 16, size: int = 100, queued: int = 10_000) -> Row:
    """Each opener opens windows until there is nothing left."""
    parts, notes = bench.parts, dict[str, Any]()

    def one_of_ours() -> int:
        opened = 0
        while True:
            with Session(bench.engine) as session:
                try:
                    batches.open_window(session, parts.settings, parts.profiles, queue_id=queue, max_batch_size=size,
                                        actor="bench")  # fmt: skip
                except InsufficientJobs:
                    return opened
            opened += 1

    def one_of_floor() -> int:
        opened = 0
        with bench.engine.connect() as connection:
            while True:
                connection.execute(text("SELECT pg_advisory_xact_lock(1, :queue)"), {"queue": queue})
                done = connection.execute(text(CLAIM), {"queue": queue, "take": size}).scalar_one()
                connection.commit()
                if not done:
                    return opened
                opened += 1

    def run(opener: Callable[[], int], side: str) -> float:
        bench.fill(books.queued_jobs, queue, queued, 300)
        opened: list[int] = []
        with ThreadPoolExecutor(threads) as pool:
            seconds = timed(lambda: opened.extend(pool.map(lambda _: opener(), range(threads))))
        with bench.engine.connect() as connection:
            twice = connection.execute(text(
                "SELECT count(*) FROM (SELECT job_id FROM batch_items GROUP BY job_id HAVING count(*) > 1) AS twice"
            )).scalar_one()  # fmt: skip
        notes[f"{side}: double, starved"] = f"{twice}, {opened.count(0)}"
        assert sum(opened) == queued // size
        return seconds

    return Row(
        f"{threads} openers of {size} over {queued:,}", "the same in SQL", 0.5, queued // size, "windows",
        lambda: run(one_of_ours, "ours"), lambda: run(one_of_floor, "floor"), notes,
        lean=bench.lean.open_windows(queued, size, threads),
    )  # fmt: skip


def input_file(bench: Bench, queue: int, count: int = 50_000, body_bytes: int = 3_600) -> Row:
    bench.fill(books.queued_jobs, queue, count, body_bytes)
    window_id, notes = _open(bench, queue, count), dict[str, Any]()
    ours_path, floor_path = bench.folder / "ours.jsonl", bench.folder / "floor.jsonl"

    def ours() -> float:
        with Session(bench.engine) as session:
            grown = Growth()
            seconds = timed(lambda: batch_files.write_input(session, window_id, ours_path))
            notes["memory +MB"] = grown.mb()
        notes["file MB"] = round(ours_path.stat().st_size / 1e6)
        return seconds

    def floor() -> float:
        with bench.engine.connect() as connection:

            def do() -> None:
                with raw(connection).cursor().copy(INPUT, (window_id,)) as copy, floor_path.open("wb") as file:
                    for block in copy:
                        file.write(block)

            return timed(do)

    return Row("input file", "COPY … TO a file of the same rows", 0.5, count, "requests", ours, floor, notes,
               lean=bench.lean.input_file(count, body_bytes, floor_path))  # fmt: skip


def ingest(bench: Bench, queue: int, count: int = 50_000) -> Row:
    """Both files: one line in fifty is an error."""
    notes, parts = dict[str, Any](), bench.parts

    def ride() -> tuple[int, int, str, Any]:
        bench.fill(books.queued_jobs, queue, count, 300)
        with Session(bench.engine) as session:
            window = session.get_one(BatchWindow, _open(bench, queue, count))
            later = "UPDATE batch_windows SET due_at = now() + interval '1 year' WHERE id <> :id"
            session.execute(text(later), {"id": window.id})
            lease = factories.take_lease(session, parts, Step.UPLOAD_INPUT)
            batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)
            lease = factories.take_lease(session, parts, Step.CREATE)
            factories.answer_step(session, parts, lease, factories.batch_object(window, "validating"))
            session.refresh(window)
            items = factories.items_of(session, window)
            good = [answer(item) for item in items if item.job_id % 50]
            bad = [refusal(item) for item in items if not item.job_id % 50]
            lease = factories.end_batch(session, parts, window, "completed", output=good, error_lines=bad)
            notes["file MB"] = round(sum(len(json.dumps(line)) for line in good) / 1e6)
            rows = list(floor_rows(items, good, bad))
            return window.id, lease.token, rows

    def ours() -> float:
        window_id, token, _ = ride()
        del _
        bench.tidy()
        with Session(bench.engine) as session:
            grown = Growth()
            seconds = timed(lambda: batch_ingest.ingest_window(
                session, parts.settings, parts.prices, parts.files, window_id=window_id, token=token))  # fmt: skip
            notes["memory +MB"] = grown.mb()
        parts.files.contents.clear()
        return seconds

    def floor() -> float:
        window_id, _, rows = ride()
        parts.files.contents.clear()
        bench.tidy()
        with bench.engine.connect() as connection:

            def do() -> None:
                connection.execute(text(INGEST["table"]))
                with raw(connection).cursor().copy(INGEST["copy"]) as copy:
                    for row in rows:
                        copy.write_row(row)
                for statement in INGEST["apply"]:
                    connection.execute(text(statement), {"window": window_id} if ":window" in statement else {})
                connection.commit()

            return timed(do)

    return Row("ingest", "COPY and set-based upserts of the same rows", 0.5, count, "answers", ours, floor, notes,
               lean=bench.lean.ingest(count, ANSWER_BYTES))  # fmt: skip


def answer(item: Any) -> dict[str, Any]:
    text_ = json.dumps({"label": "a", "confidence": 0.5, "reason": f"{item.job_id} " + "The water ran. " * 90})
    line = factories.output_line(item, factories.response(text_))
    line["response"]["body"] |= {"id": f"resp_{item.job_id}", "metadata": {}, "parallel_tool_calls": True}
    return line


def refusal(item: Any) -> dict[str, Any]:
    return factories.output_line(item, {"error": {"code": "content_filter", "message": "It was stopped."}}, 400)


def floor_rows(items: Any, good: Any, bad: Any) -> Iterator[tuple[Any, ...]]:
    """What `ingest` writes of each line, as if nothing had to be read or judged."""
    jobs = {item.custom_id: item.job_id for item in items}
    for line in (*good, *bad):
        body, is_good = line["response"]["body"], line["response"]["status_code"] == 200
        said = json.dumps(body)
        yield (
            line["custom_id"], jobs[line["custom_id"]], f"resp_{jobs[line['custom_id']]}",
            line["response"]["status_code"], said, body["output"][1]["content"][0]["text"] if is_good else None,
            None if is_good else "content_filter", None if is_good else "It was stopped.",
        )  # fmt: skip


def enqueue(bench: Bench, count: int = 10_000) -> Row:
    """The rows of one submission: each is checked, rendered, estimated and stored."""
    parts = bench.parts
    runs = [{"text": f"Row {number}: the gate was opened and the water ran. " * 4, "labels": "good, bad",
             "executionMode": "batch"} for number in range(count)]  # fmt: skip

    def ours() -> float:
        with Session(bench.engine) as session:
            user = session.get_one(User, bench.user_id)
            return timed(lambda: submissions.submit(
                session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="text_classification",
                runs=runs, source="rows", name="rows.jsonl"))  # fmt: skip

    def floor() -> float:
        with bench.engine.connect() as connection:
            rows = {
                table: raw(connection).execute(query, (count,)).fetchall() for table, query in NEW_JOBS["read"].items()
            }
            first = connection.execute(text("SELECT max(id) + 1 FROM jobs")).scalar_one()

            def do() -> None:
                for table, copy_in in NEW_JOBS["copy"].items():
                    with raw(connection).cursor().copy(copy_in) as copy:
                        for number, row in enumerate(rows[table]):
                            copy.write_row((first + number, *map(_json, row)))
                connection.execute(text("SELECT setval('jobs_id_seq', :last)"), {"last": first + count})
                connection.commit()

            return timed(do)

    return Row("bulk enqueue", "COPY of the same rows", 0.5, count, "jobs", ours, floor,
               lean=bench.lean.enqueue_in_bulk(count))  # fmt: skip


def _json(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict) else value


def _open(bench: Bench, queue: int, count: int) -> int:
    parts = bench.parts
    with Session(bench.engine) as session:
        window = batches.open_window(session, parts.settings, parts.profiles, queue_id=queue, max_batch_size=count,
                                     actor="bench")  # fmt: skip
        assert window.job_count == count, window.job_count
        return window.id


class Growth:
    """The most memory that this process takes from now on, above what it has."""

    def __init__(self) -> None:
        self.before = memory_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew

    def mb(self) -> int:
        return round(memory_mb("VmHWM") - self.before)
