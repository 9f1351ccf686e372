"""Half an hour of ordinary use, and what it does to memory, latency and errors.

    python3 -m devstack tool python -m bench.soak [--minutes 30] [--to FOLDER]

The whole system as `make run` starts it (durable commits), in a folder of its own. 200 pages are open and ask every 5 s
for what their `hx-get` says, each with a session of its own: jobs that wait, histories, the newest submission. Two sync
jobs a second and 1,000 rows a minute come in by the API, and an administrator looks around. All of that comes from this
one process. Every 10 s there is a line in FOLDER/samples.jsonl; at the end a table, and all figures in FOLDER.
Exit status 1, with the words what is wrong, when memory grows, answers get slower, or a request or a job fails.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import itertools
import json
import re
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from bench.end_to_end import executions, row_of
from bench.processes import memory_of_parts
from bench.queue_mode import machine
from bench.report import table, write_report
from devstack.errors import StackError
from devstack.stack import ADMIN_EMAIL, Stack
from tests.people import PASSWORD, Person, await_, csrf_token

PEOPLE, PAGES = 20, 200
POLL_SECONDS, LOOK_AROUND_SECONDS, SAMPLE_SECONDS = 5.0, 3.0, 10.0
SYNC_JOBS_PER_SECOND, ROWS = 2, 1_000  # rows: of the submission of each minute
SIGN_INS_AT_ONCE = 4
SETTLED_MINUTES = SPAN_MINUTES = 5.0  # in a run of half an hour; in a shorter one as much less
PATIENCE_SECONDS = 300  # for what is under way at the end
MOST_MB_PER_MINUTE, MOST_SLOWER = 1.0, 1.5
# Full windows open at once; a job that waits for others waits for all of the run.
SETTINGS = {"MAX_BATCH_SIZE": str(ROWS), "MAX_WAIT_SECONDS": "86400"}
PROFILE, WAITS, RIDES = "text_classification", "count_or_wait", "count_only"
A_WINDOW = "a window"
ADMIN_PAGES = ("/admin", "/admin/windows", A_WINDOW, "/admin/costs", "/admin/health")
WINDOW = re.compile(r"/admin/windows/\d+")
POLL = re.compile(r'data-poll hx-get="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    at: float  # when it was answered, seconds since the start
    what: str
    ms: float
    error: str | None  # None for 2xx and 304


@dataclass
class Load:
    """What is asked of the system, and what came of it."""

    stack: Stack
    transport: httpx2.AsyncHTTPTransport
    began: float = 0.0  # monotonic
    asked: list[Asked] = field(default_factory=list)
    newest_submission: int | None = None

    def submission_address(self) -> str:
        return f"/submissions/{self.newest_submission}" if self.newest_submission else "/submissions"

    def browser(self, token: str | None = None) -> httpx2.AsyncClient:
        """Somebody's browser with cookies of its own, or a program with a token. All share their connections."""
        head = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.AsyncClient(base_url=self.stack.web_url, transport=self.transport, headers=head, timeout=30)

    async def ask(
        self, http: httpx2.AsyncClient, what: str, path: str, method: str = "GET", **more: Any
    ) -> httpx2.Response | None:
        """Ask once, and note how long it took. None when it failed."""
        started, answer, error = time.monotonic(), None, None
        try:
            answer = await http.request(method, path, **more)
        except httpx2.HTTPError as fault:
            error = type(fault).__name__
        else:
            if not (answer.is_success or answer.status_code == 304):
                answer, error = None, str(answer.status_code)
        now = time.monotonic()
        self.asked.append(Asked(now - self.began, what, (now - started) * 1000, error))
        return answer


def main() -> None:
    wish = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    wish.add_argument("--minutes", type=float, default=30)
    wish.add_argument("--to", type=Path, default=Path(".sluice/bench/soak"))
    wanted = wish.parse_args()
    wanted.to.mkdir(parents=True, exist_ok=True)
    facts = {"machine": machine(), "minutes": wanted.minutes}
    with Stack.throwaway(SETTINGS, durable=True) as stack:
        load, samples = asyncio.run(use(stack, wanted.minutes, wanted.to / "samples.jsonl"))
        facts["the processor's time that this script took"] = f"{time.process_time() / (wanted.minutes * 60):.0%}"
        faults = list(wrong_jobs(stack))
        facts["n8n executions"] = executions(stack)
    settled, span = (minutes * min(1, wanted.minutes / 30) for minutes in (SETTLED_MINUTES, SPAN_MINUTES))
    growth = list(growth_of(samples, settled))
    faults += [f"{one.part}: memory grows by {one.per_minute} MB/min" for one in growth
               if one.per_minute >= MOST_MB_PER_MINUTE]  # fmt: skip
    before, after = slowdown(load.asked, wanted.minutes, settled, span)
    facts[f"p95, ms: {span:g} minutes from minute {settled:g} on, and the last ones"] = f"{before:.0f}, {after:.0f}"
    if after > MOST_SLOWER * before:
        faults.append(f"p95 became {after / before:.2f} times as long")
    errors = Counter(f"{one.what}: {one.error}" for one in load.asked if one.error)
    faults += [f"{count} times {error}" for error, count in errors.most_common()]
    rows = list(request_rows(load.asked))
    report = "\n".join((
        table(("requests", "count", "p50 ms", "p95 ms", "most ms", "errors"), rows),
        table(("memory", "MB at first", "at the end", "at most", f"MB/min after minute {settled:g}"),
              map(astuple, growth)),
    ))  # fmt: skip
    found = {"requests": rows, "memory": [asdict(one) for one in growth], "samples": samples, "wrong": faults}
    write_report(wanted.to, facts, found, report)
    for fault in faults:
        print(f"WRONG: {fault}")
    sys.exit(1 if faults else 0)


async def use(stack: Stack, minutes: float, samples_file: Path) -> tuple[Load, list[dict[str, Any]]]:
    """Let everybody use the system for so long: (what was asked, a sample for every 10 s)."""
    people = [Person(stack, f"p{number}@example.org") for number in range(PEOPLE)]
    # Connections end before gunicorn ends them (2 s): a request on one that has just ended would be an error of ours.
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=1)
    load = Load(stack, httpx2.AsyncHTTPTransport(limits=limits))
    pages = list(pages_of(load, people, [await park(load, person) for person in people]))
    browsers = await sign_in_all(load, [page.email for page in pages], PASSWORD)
    [admin] = await sign_in_all(load, [ADMIN_EMAIL], stack.secrets.admin_password)
    api = load.browser(people[0].make_token())
    for person in people:
        person.http.close()
    samples: list[dict[str, Any]] = []
    load.asked, load.began = [], time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(minutes * 60):
            await asyncio.gather(
                take_samples(load, samples, samples_file), make_jobs(load, api), submit_rows(load, api),
                look_around(load, admin),
                *(keep_open(load, page, browser) for page, browser in zip(pages, browsers, strict=True)),
            )  # fmt: skip
    return load, samples


@dataclass(frozen=True)
class Page:
    """One that somebody has open."""

    what: str
    email: str
    address: Callable[[], str]
    first_at: float  # seconds after the start


def pages_of(load: Load, people: Sequence[Person], waiting: Sequence[int]) -> Iterator[Page]:
    """Half of them show a job that waits, three in ten a history, two in ten the newest submission, which is the first
    person's. They do not ask all at once."""
    for number in range(PAGES):
        person, job = people[number % PEOPLE], waiting[number % PEOPLE]
        first_at = number * POLL_SECONDS / PAGES
        match number // PEOPLE % 10:  # so that each person has some of each
            case 0 | 1 | 2 | 3 | 4:
                yield Page("a waiting job", person.email, lambda job=job: f"/jobs/{job}", first_at)  # type: ignore[misc]
            case 5 | 6 | 7:
                yield Page("a history", person.email, lambda: "/jobs", first_at)
            case _:
                yield Page("the newest submission", people[0].email, load.submission_address, first_at)


async def park(load: Load, person: Person) -> int:
    """A job of this person that waits as long as the run: its id."""
    inputs = {"text": "It can wait.", "executionMode": "batch", "batchStrategy": WAITS}
    answer = await load.browser(person.make_token()).post("/api/v1/jobs", json={"profile": PROFILE, "inputs": inputs})
    return int(answer.raise_for_status().json()["id"])


async def sign_in_all(load: Load, emails: Sequence[str], password: str) -> list[httpx2.AsyncClient]:
    """A browser for each, in which this person has signed in."""
    turn = asyncio.Semaphore(SIGN_INS_AT_ONCE)

    async def sign_in(email: str) -> httpx2.AsyncClient:
        browser = load.browser()
        async with turn:
            page = await browser.get("/login")
            form = {"email": email, "password": password, "csrf_token": csrf_token(page.text)}
            answer = await browser.post("/login", data=form)
        assert answer.status_code == 303, answer.text[:1000]
        return browser

    return await asyncio.gather(*map(sign_in, emails))


async def keep_open(load: Load, page: Page, browser: httpx2.AsyncClient) -> None:
    """Open a page and ask for what it says, again and again; one that has come to rest is opened anew."""
    polled: str | None = None
    async for _ in ticks(POLL_SECONDS, page.first_at):
        if polled is None:
            answer = await load.ask(browser, f"{page.what}, opened", page.address())
        else:
            answer = await load.ask(browser, f"{page.what}, polled", polled, headers={"HX-Request": "true"})
        if answer is not None and answer.status_code == 200:
            polled = poll_address(answer.text)


def poll_address(page: str) -> str | None:
    """What this page, or the part of one that came in its place, asks for; None when it has come to rest."""
    found = POLL.search(page)
    return html.unescape(found[1]) if found else None


async def make_jobs(load: Load, api: httpx2.AsyncClient) -> None:
    """So many sync jobs a second, whether or not the ones before are answered."""
    async with asyncio.TaskGroup() as group:
        async for number in ticks(1 / SYNC_JOBS_PER_SECOND):
            inputs = {"text": f"Letter {number} was kind.", "executionMode": "sync"}
            body = {"profile": PROFILE, "inputs": inputs}
            group.create_task(load.ask(api, "a sync job, made", "/api/v1/jobs", "POST", json=body))


async def submit_rows(load: Load, api: httpx2.AsyncClient) -> None:
    head, batch = {"Content-Type": "application/jsonl"}, {"executionMode": "batch", "batchStrategy": RIDES}
    async for minute in ticks(60):
        texts = (f"Letter {number} of minute {minute} was kind." for number in range(ROWS))
        lines = "".join(json.dumps({"text": text, **batch}) + "\n" for text in texts)
        address = f"/api/v1/submissions?profile={PROFILE}"
        answer = await load.ask(api, f"{ROWS:,} rows, submitted", address, "POST", content=lines, headers=head)
        if answer is not None:
            load.newest_submission = answer.json()["id"]


async def look_around(load: Load, admin: httpx2.AsyncClient) -> None:
    """An administrator opens one page after the other; the window is the newest of the list."""
    newest = "/admin/windows"
    async for turn in ticks(LOOK_AROUND_SECONDS):
        what = ADMIN_PAGES[turn % len(ADMIN_PAGES)]
        answer = await load.ask(admin, f"administrator: {what}", newest if what == A_WINDOW else what)
        if answer is not None and (found := WINDOW.search(answer.text)):
            newest = found[0]


async def take_samples(load: Load, samples: list[dict[str, Any]], file: Path) -> None:
    counted = 0
    with file.open("w") as lines:
        async for _ in ticks(SAMPLE_SECONDS, SAMPLE_SECONDS):
            new, counted = load.asked[counted:], len(load.asked)
            times = [one.ms for one in new]
            samples.append({
                "minute": round((time.monotonic() - load.began) / 60, 3), "requests": len(new),
                "p50": round(quantile(times, 50)), "p95": round(quantile(times, 95)),
                "errors": sum(one.error is not None for one in new),
                "memory": {part: round(mb, 1) for part, mb in memory_of_parts(load.stack).items()},
            })  # fmt: skip
            lines.write(json.dumps(samples[-1]) + "\n")
            lines.flush()


async def ticks(seconds: float, first: float = 0) -> AsyncIterator[int]:
    """0, 1, 2 … at equal distances, the first so many seconds from now. One that comes late makes no later one late."""
    began = time.monotonic() + first
    for number in itertools.count():
        await asyncio.sleep(max(0, began + number * seconds - time.monotonic()))
        yield number


def wrong_jobs(stack: Stack) -> Iterator[str]:
    """Wait for what is under way. Then: what has not ended or has failed, and what the doctor says."""
    with stack.cluster.connect("sluice") as database:
        database.autocommit = True
        unfinished = "SELECT count(*) FROM jobs WHERE finished_at IS NULL AND batch_strategy IS DISTINCT FROM %s"
        try:
            await_(lambda: row_of(database, unfinished, WAITS) == (0,), "the end of all jobs", PATIENCE_SECONDS)
        except AssertionError as error:
            yield f"{error}: {row_of(database, unfinished, WAITS)[0]} are left"
        ends = database.execute(
            "SELECT execution_mode, status, failure_message, count(*) FROM jobs"
            " WHERE finished_at IS NOT NULL AND status <> 'completed' GROUP BY 1, 2, 3"
        )
        yield from (f"{count} {mode} jobs are {status}: {why}" for mode, status, why, count in ends)
        repeated = database.execute("SELECT count(*), max(attempt) FROM jobs WHERE attempt > 1").fetchall()
        yield from (f"{count} jobs took up to {most} attempts" for count, most in repeated if count)
    try:
        stack.run_flask("doctor", "doctor", "--provider")
    except StackError as error:
        yield str(error)


@dataclass(frozen=True)
class Growth:
    """The memory of one part, MB."""

    part: str
    first: float
    last: float
    most: float
    per_minute: float  # when it had settled


def growth_of(samples: Sequence[Mapping[str, Any]], settled: float) -> Iterator[Growth]:
    """Of each part. The slope after minute `settled` is the median of those between any two samples (Theil and Sen): a
    garbage collection, which takes a hundred megabytes at once and now and then, does not tilt it."""
    for part in samples[0]["memory"]:
        points = [(sample["minute"], sample["memory"][part]) for sample in samples]
        late = [point for point in points if point[0] >= settled]
        slope = statistics.median((b - a) / (at_b - at_a) for (at_a, a), (at_b, b) in itertools.combinations(late, 2))
        sizes = [mb for _, mb in points]
        yield Growth(part, sizes[0], sizes[-1], max(sizes), round(slope, 2))


def slowdown(asked: Sequence[Asked], minutes: float, settled: float, span: float) -> tuple[float, float]:
    """p95 (ms) of the `span` minutes from minute `settled` on, and of the last ones of the run."""
    first = [one.ms for one in asked if settled <= one.at / 60 < settled + span]
    last = [one.ms for one in asked if one.at / 60 >= minutes - span]
    return quantile(first, 95), quantile(last, 95)


def quantile(values: Sequence[float], percent: int) -> float:
    """0 of nothing."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else sum(values)


def request_rows(asked: Sequence[Asked]) -> Iterator[tuple[Any, ...]]:
    by_what = defaultdict[str, list[Asked]](list)
    for one in asked:
        by_what[one.what].append(one)
    for what, some in (*sorted(by_what.items()), ("all", asked)):
        times = [one.ms for one in some]
        figures = (quantile(times, 50), quantile(times, 95), max(times))
        yield what, len(some), *(f"{ms:.0f}" for ms in figures), sum(one.error is not None for one in some)


if __name__ == "__main__":
    main()
