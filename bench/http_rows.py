"""Rows over HTTP: the web app and a bare Flask app, each in a gunicorn like `make run`'s, asked in turns by `wrk`."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
from flask import Flask
from pypdf import PdfReader, PdfWriter
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from bench import books
from bench.batch_rows import Bench
from bench.measure import Measure, Row
from devstack.errors import StackError
from devstack.ports import free_ports
from devstack.processes import Process, status_of, wait_until
from devstack.stack import Stack
from tests.conftest import DATA
from tests.people import PASSWORD
from tests.statements import heard
from webapp import create_app
from webapp.config import Settings
from webapp.extensions import db
from webapp.models import User
from webapp.services import accounts

SECONDS = 5  # of each side in a round
LOOKS_AT_HEALTH_EVERY = 0.05  # seconds
READER, ADMIN = "user0@example.org", "bench@example.org"  # the first has jobs on the books
# A request of wrk, and at the end a line of figures: count, microseconds, p50, p95, and four kinds of errors.
SCRIPT = """
wrk.method = %(method)s
wrk.body = %(body)s
for name, value in pairs(%(headers)s) do wrk.headers[name] = value end
request = function()
  return wrk.format(nil, (string.gsub(%(path)s, "{job}", tostring(%(first)d + %(step)d * math.random(0, %(last)d)))))
end
done = function(summary, latency)
  local wrong = summary.errors
  io.write(string.format("FIGURES %%d %%d %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(95), wrong.status, wrong.connect, wrong.read, wrong.timeout))
end
"""


@dataclass(frozen=True)
class Jobs:
    """Ids of one person's jobs: every `step`-th from the first on."""

    first: int = 0
    count: int = 1
    step: int = 1

    @property
    def middle(self) -> int:
        return self.first + self.step * (self.count // 2)


@dataclass(frozen=True)
class Call:
    """One request, again and again. `{job}` in the path becomes one of these jobs."""

    url: str
    headers: Mapping[str, str]
    body: str | None = None
    connections: int = 1
    jobs: Jobs = Jobs()


@dataclass(frozen=True)
class Load:
    per_second: float
    p50_ms: float
    p95_ms: float


class Servers:
    """The web app and the bare app on the bench's database, and who may ask the first."""

    def __init__(self, bench: Bench, stack: Stack, workers: list[int], bare_url: str, folder: Path) -> None:
        self.bench, self.stack, self.workers, self.bare_url, self.folder = bench, stack, workers, bare_url, folder
        with Session(bench.engine) as session:
            # The reader signs in with the admin's password; `bench` is the admin.
            session.execute(text(
                "UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = :admin)"
                " WHERE email = :reader"), {"admin": ADMIN, "reader": READER})  # fmt: skip
            session.execute(text("UPDATE users SET role = 'admin' WHERE email = :admin"), {"admin": ADMIN})
            session.commit()
            reader = session.scalars(select(User).where(User.email == READER)).one()
            self.reader_id = reader.id
            self.token = accounts.create_token(session, reader, "bench")
        self.finished = self.jobs_of_reader("finished_at IS NOT NULL")

    def jobs_of_reader(self, condition: str) -> Jobs:
        """Those of the books that meet this: the reader has every hundredth."""
        counted = "min(id), count(*), (max(id) - min(id)) / greatest(1, count(*) - 1)"
        with self.bench.engine.connect() as connection:
            found = connection.execute(text(
                f"SELECT {counted} FROM jobs WHERE user_id = :reader AND {condition}"), {"reader": self.reader_id},
            ).one()  # fmt: skip
        return Jobs(*map(int, found))

    def sign_in(self, email: str) -> dict[str, str]:
        """The headers of a browser in which this person has signed in."""
        with httpx2.Client(base_url=self.stack.web_url) as http:
            found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', http.get("/login").text)
            assert found
            form = {"email": email, "password": PASSWORD, "csrf_token": found[1]}
            assert http.post("/login", data=form).status_code == 303
            return {"Cookie": "; ".join(f"{name}={value}" for name, value in http.cookies.items())}

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def load(self, call: Call) -> Load:
        """What wrk makes of it in a second. Every answer must be a good one.

        Each second has connections of its own, because chance decides which process gets which: with all of them in
        one process the other CPU would rest.
        """
        script = self.folder / "call.lua"
        headers = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in call.headers.items())
        path = call.url.removeprefix(self.stack.web_url).removeprefix(self.bare_url)
        script.write_text(SCRIPT % {
            "method": '"POST"' if call.body else '"GET"', "body": json.dumps(call.body) if call.body else "nil",
            "headers": f"{{{headers}}}", "path": json.dumps(path), "first": call.jobs.first, "step": call.jobs.step,
            "last": call.jobs.count - 1,
        })  # fmt: skip
        said = subprocess.run(
            [_wrk(), "-t1", f"-c{call.connections}", "-d1s", "-s", str(script), call.url],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip
        found = re.search(r"FIGURES (.*)", said)
        assert found, said
        count, microseconds, p50, p95, *wrong = map(int, found[1].split())
        assert not any(wrong), (
            f"Of {count} answers of {call.url} were wrong by status {wrong[0]}, not connected {wrong[1]},"
            f" cut off {wrong[2]}, too late {wrong[3]}; the web app's last errors: {self._errors()}"
        )
        return Load(count / microseconds * 1e6, p50 / 1000, p95 / 1000)

    def _errors(self) -> list[str]:
        lines = (self.folder / "web.log").read_text().splitlines()
        return [line for line in lines if '"level":"info"' not in line or re.search(r'"status":[45]', line)][-5:]


@contextmanager
def servers(bench: Bench, stack: Stack) -> Iterator[Servers]:
    folder = bench.folder / "http"
    folder.mkdir(exist_ok=True)
    bare_url = f"http://127.0.0.1:{free_ports(1)[0]}"
    command = stack.command("web")
    argv = list(command.argv)
    argv[argv.index("--workers") + 1] = str(os.cpu_count())  # as terraform/app.tf has it
    argv.insert(argv.index("--workers"), "--reuse-port")
    command = replace(command, argv=argv)
    argv = [bare_url[7:] if one == stack.web_url[7:] else one for one in argv]
    argv[argv.index("wsgi:app")] = "bench.bare_app:app"
    env = {"BARE_DATABASE_URL": stack.cluster.url().replace("+psycopg", ""), "BARE_FOLDER": str(folder)}
    web = Process(command, folder / "web.log")
    bare = Process(replace(command, name="bare", argv=argv, env={**command.env, **env}), folder / "bare.log")
    try:
        for process, url in ((web, stack.web_url), (bare, bare_url)):
            process.start()
            wait_until(lambda url=url: status_of(f"{url}/healthz") == 200, what=f"An answer of {process.command.name}",
                       seconds=60, processes=[process])  # type: ignore[misc]  # fmt: skip
        workers = Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()
        yield Servers(bench, stack, [int(worker) for worker in workers], bare_url, folder)
    finally:
        for process in (web, bare):
            process.stop()


def api_enqueue(http: Servers, amount: int = 1_000) -> Row:
    inputs = {"text": "The gate was opened and the water ran. " * 4, "labels": "good, bad", "executionMode": "batch"}
    queue = http.bench.queue("api-floor")
    json_type = {"Content-Type": "application/json"}
    ours = Call(f"{http.stack.web_url}/api/v1/jobs", http.bearer | json_type,
                json.dumps({"profile": "text_classification", "inputs": inputs}), 8)  # fmt: skip
    bare = Call(f"{http.bare_url}/jobs/{http.reader_id}/{http.bench.version}/{queue}", json_type, json.dumps(inputs), 8)
    row = _in_turns(http, "single enqueue by API, 8 connections", "bare Flask, one INSERT", 0.35, amount, ours, bare)

    def floor() -> float:
        seconds = row.floor()
        with http.bench.engine.begin() as connection:  # half a job each: pages would look for their requests
            connection.execute(text("DELETE FROM jobs WHERE queue_id = :queue"), {"queue": queue})
        return seconds

    return replace(row, floor=floor, lean=http.bench.lean.enqueue_one_by_one(amount, 8))


class Seen:
    """What the seconds of one side showed, to be noted as medians."""

    def __init__(self, notes: dict[str, Any], name: str, ending: str = "") -> None:
        self.notes, self.name, self.ending, self.loads = notes, name, ending, list[Load]()

    def add(self, load: Load) -> None:
        self.loads.append(load)
        p50, p95 = (statistics.median(getattr(one, name) for one in self.loads) for name in ("p50_ms", "p95_ms"))
        self.notes[self.name] = f"{p50:.1f}, {p95:.1f}{self.ending}"


def status_poll(http: Servers, amount: int = 1_000) -> Row:
    """As the pages of jobs that wait in a queue poll: mostly there is nothing new."""
    bench, who = http.bench, http.sign_in(READER)
    queue = bench.queue("poll")
    bench.fill(books.queued_jobs, queue, 10_000, 300)
    waiting = http.jobs_of_reader(f"queue_id = {queue}")
    page = httpx2.get(f"{http.stack.web_url}/jobs/{waiting.first}", headers=who).raise_for_status().text
    found = re.search(r'hx-get="/jobs/\d+/status\?([^"]+)"', page)
    assert found
    path = f"/jobs/{{job}}/status?{html.unescape(found[1])}"
    ours = Call(f"{http.stack.web_url}{path}", who | {"HX-Request": "true"}, None, 16, waiting)
    bare = Call(f"{http.bare_url}/jobs/{http.reader_id}/{{job}}", {}, None, 16, waiting)
    row = _in_turns(http, "job status poll, 16 connections", "bare Flask, one SELECT", 0.4, amount, ours, bare)
    return replace(row, lean=bench.lean.poll(amount, 16))


def _in_turns(
    http: Servers, name: str, floor_is: str, wanted: float, amount: int, ours: Call, bare: Call
) -> Row:  # fmt: skip
    notes, taken = dict[str, Any](), count()

    def side(name: str, call: Call) -> Measure:
        seen = Seen(notes, f"{name} p50, p95 ms")
        http.load(call)  # the first second warms up

        def take() -> float:
            if next(taken) % (2 * SECONDS) == 0:
                http.bench.tidy()
            found = http.load(call)
            seen.add(found)
            return amount / found.per_second

        return take

    return Row(name, floor_is, wanted, amount, "requests", side("ours", ours), side("floor", bare), notes,
               turns=SECONDS)  # fmt: skip


PAGES = {
    "history": (READER, "/jobs"),
    "a page of the history far back": (READER, "/jobs?before={middle}"),
    "a job": (READER, "/jobs/{middle}"),
    "admin": (ADMIN, "/admin"),
    "windows": (ADMIN, "/admin/windows"),
    "a window": (ADMIN, "/admin/windows/1"),
    "costs": (ADMIN, "/admin/costs"),
}  # fmt: skip


def page(http: Servers, name: str, amount: int = 100) -> Row:
    """One page, asked by one connection. Its floor: the same statements, asked of PostgreSQL and nothing else."""
    email, path = PAGES[name]
    path = path.format(middle=http.finished.middle)
    headers, notes = http.sign_in(email), dict[str, Any]()
    asked, call = statements(http, path, headers), Call(f"{http.stack.web_url}{path}", headers)
    seen = Seen(notes, "p50, p95 ms", " (wanted: p95 under 40)")
    http.bench.tidy()
    http.load(call)

    def ours() -> float:
        found = http.load(call)
        seen.add(found)
        return amount / found.per_second

    def floor() -> float:
        times = []
        with http.bench.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            for _ in range(amount):
                started = time.monotonic()
                for statement, values in asked:
                    driver.execute(statement, values).fetchall()
                times.append(time.monotonic() - started)
            connection.rollback()
        return sum(times)

    notes["statements"] = len(asked)
    return Row(f"page: {name}", "its own statements in SQL", 0.0, amount, "pages", ours, floor, notes, turns=SECONDS)


def statements(http: Servers, path: str, headers: Mapping[str, str]) -> list[tuple[str, Any]]:
    """What a page asks of PostgreSQL: (SQL, values) in order. In this process, with the web app's own settings."""
    app: Flask = create_app(settings=Settings.from_env(http.stack.app_environment()))
    client = app.test_client(use_cookies=False)
    with app.app_context():
        engine = db.engine
    client.get(path, headers=dict(headers))  # the first asks for more: caches are empty
    with heard() as found:
        answer = client.get(path, headers=dict(headers))
    assert answer.status_code == 200, f"{path}: {answer.status}"
    engine.dispose()
    return [one for one in found if one[0].lstrip().upper().startswith(("SELECT", "WITH"))]


def upload(http: Servers, files: int = 8, megabytes: int = 20) -> Row:
    """So many PDFs at once, each in a request of its own, while somebody looks at `/healthz`."""
    notes, contents = dict[str, Any](), [_pdf(megabytes) for _ in range(files)]

    def send(url: str, headers: Mapping[str, str]) -> float:
        before, is_over, waits, peak = _memory(http.workers), threading.Event(), list[float](), [0.0]

        def look() -> None:
            with httpx2.Client(base_url=url, timeout=120) as client:
                while not is_over.wait(LOOKS_AT_HEALTH_EVERY):
                    started = time.monotonic()
                    client.get("/healthz").raise_for_status()
                    waits.append(time.monotonic() - started)
                    peak.append(_memory(http.workers))

        path = "/api/v1/documents" if headers else "/documents"

        def one(content: bytes) -> None:
            with httpx2.Client(base_url=url, timeout=120) as client:
                part = {"file": ("a.pdf", content, "application/pdf")}
                answer = client.post(path, headers=dict(headers), files=part)
                assert answer.status_code == 201, answer.text

        watcher = threading.Thread(target=look)
        watcher.start()
        started = time.monotonic()
        try:
            with ThreadPoolExecutor(files) as pool:
                list(pool.map(one, contents))
        finally:
            seconds = time.monotonic() - started
            is_over.set()
            watcher.join()
        if headers:
            notes["memory +MB"] = round(max(peak) - before)
            p95 = statistics.quantiles(waits, n=20)[18] * 1000 if len(waits) > 1 else float("nan")
            notes["healthz p95 ms"] = f"{p95:.0f} of {len(waits)} looks"
        return seconds

    return Row(
        f"upload {files} × {megabytes} MB at once", "bare Flask multipart", 0.7, files * megabytes, "MB",
        lambda: send(http.stack.web_url, http.bearer), lambda: send(http.bare_url, {}), notes,
    )  # fmt: skip


def _pdf(megabytes: int) -> bytes:
    """A PDF of about that size: two pages, and an attachment that does not compress."""
    writer = PdfWriter(clone_from=PdfReader(DATA / "two-pages.pdf"))
    writer.add_attachment("noise.bin", os.urandom(megabytes * 2**20 - 200_000))
    written = BytesIO()
    writer.write(written)
    return written.getvalue()


def _memory(pids: list[int]) -> float:
    """Megabytes, of all together."""
    said = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in said) / 1000


def _wrk() -> str:
    program = shutil.which("wrk")
    if program is None:
        raise StackError("wrk is missing, which makes the requests: apt install wrk")
    return program
