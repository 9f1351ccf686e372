"""What large submissions take, through a real gunicorn: seconds, and memory of the web process.

    python3 -m devstack tool python -m bench.submissions [FILES [ROWS]]

FILES (200) PDFs in one form, which is what a browser without JavaScript sends, and ROWS (10,000) in one JSONL file:
the dry run, then the submission. The heartbeat, n8n and the provider are not there; nothing here asks them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from bench.processes import memory_mb
from bench.queue_mode import machine
from devstack import layout
from devstack.processes import Process, wait_until
from devstack.stack import Stack
from tests.people import Person, csrf_token

DATA = Path(__file__).parent.parent / "tests" / "data"
SAMPLE_SECONDS = 0.05


def main(files: int = 200, rows: int = 10_000) -> None:
    print(machine())
    with _web() as (stack, pid):
        person = Person(stack, "bench@example.org")
        person.http.timeout = httpx2.Timeout(600)
        person.submit(DATA / "two-pages.pdf", executionMode="batch")  # the first call loads what every later one needs
        size, sent = _documents(files)
        what = f"{files} files ({size / 1e6:.1f} MB)"
        _measure(f"{what}, submitted in one form", pid, lambda: _submit(person, sent, "pdf_summary"))
        _measure(f"{what}, stored as the page sends them", pid, lambda: _store(person, sent))
        content = "".join(
            json.dumps({"text": f"Row {number}: the gate was opened and the water ran. " * 4}) + "\n"
            for number in range(rows)
        ).encode()
        sent = [("rows-file", ("rows.jsonl", content, "application/x-ndjson"))]
        for what, path in (("dry run", "/jobs/estimate"), ("submitted", "/jobs/new")):
            _measure(
                f"{rows:,} rows ({len(content) / 1e6:.1f} MB), {what}", pid,
                lambda path=path: _submit(person, sent, "text_classification", path),  # type: ignore[misc]
            )  # fmt: skip
        _measure("their page, once", pid, lambda: person.http.get("/submissions/2").raise_for_status())
        _measure("their results as CSV", pid, lambda: person.http.get("/submissions/2/results.csv").raise_for_status())
        person.http.close()


@contextmanager
def _web() -> Iterator[tuple[Stack, int]]:
    """PostgreSQL and the web app alone, as `make run` starts it: (its stack, the pid of the one worker)."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        stack = Stack(layout.for_folder(Path(folder)), env={"PATH": os.environ["PATH"]})
        stack.claim_and_start_postgres()
        web = Process(stack.command("web"), Path(folder) / "web.log")
        try:
            stack.run_flask("migrate", "db", "upgrade")
            web.start()
            wait_until(lambda: stack.is_ready("web"), what="An answer of web", seconds=60, processes=[web])
            [worker] = Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()
            yield stack, int(worker)
        finally:
            web.stop()
            stack.stop()


def _documents(count: int) -> tuple[int, list[Any]]:
    """(bytes, files of a form): real PDFs, each a little different."""
    long, short = ((DATA / name).read_bytes() for name in ("debian-history.pdf", "two-pages.pdf"))  # 20 pages and 2
    contents = [(short if number % 10 else long) + b"\n%% copy %d\n" % number for number in range(count)]
    files = [("document", (f"{number}.pdf", content, "application/pdf")) for number, content in enumerate(contents)]
    return sum(map(len, contents)), files


def _store(person: Person, files: list[Any]) -> None:
    """As upload.js does: ten files in a request, three requests at a time."""
    token = _token(person, "/jobs/new?profile=pdf_summary")
    form = {"profile": "pdf_summary", "csrf_token": token, "field": "document"}

    def send(first: int) -> None:
        portion = [("file", file) for _, file in files[first : first + 10]]
        assert person.http.post("/jobs/documents", data=form, files=portion).status_code == 201

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(send, range(0, len(files), 10)))


def _token(person: Person, path: str) -> str:
    return csrf_token(person.http.get(path).text)


def _submit(person: Person, files: list[Any], profile: str, path: str = "/jobs/new") -> None:
    is_rows = profile == "text_classification"
    token = _token(person, f"/jobs/new?profile={profile}{'&rows=1' if is_rows else ''}")
    own = {"for-rows": "1", "labels": "good, bad"} if is_rows else {"audience": "general", "bullets": "5"}
    form = {"profile": profile, "csrf_token": token, "executionMode": "batch", **own}
    answer = person.http.post(path, data=form, files=files)
    assert answer.status_code == (303 if path == "/jobs/new" else 200), answer.text[:3000]


def _measure(what: str, pid: int, do: Callable[[], Any]) -> None:
    """Print the seconds, and how far the worker's memory (without the processes that read PDFs) rose meanwhile."""
    before, peak, is_over = memory_mb("VmRSS", pid), [memory_mb("VmRSS", pid)], threading.Event()

    def watch() -> None:
        while not is_over.wait(SAMPLE_SECONDS):
            peak.append(memory_mb("VmRSS", pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    try:
        do()
    finally:
        seconds = time.monotonic() - started
        is_over.set()
        watcher.join()
    after = memory_mb("VmRSS", pid)
    print(
        f"{what:56} {seconds:6.1f} s; memory {before:.0f} MB before, {max(peak):.0f} MB at most, {after:.0f} MB after",
        flush=True,
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
