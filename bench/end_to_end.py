"""Text jobs in one submission by the API, through the real n8n and the offline provider, and back.

    python3 -m devstack tool python -m bench.end_to_end [--jobs 50000] [--window 50000] [--to FOLDER]

The whole system as `make run` starts it (durable commits), in a folder of its own. Each text has a number; what the
offline provider must say to it is worked out again here, and every answer and every entry of the ledger is compared.
Prints a table and writes it to FOLDER with all figures. Exit status 1, with the words what is wrong, when an answer or
an amount is, or when n8n does more for more jobs: executions or memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from bench.processes import forget_peaks, memory_of_parts
from bench.queue_mode import machine
from bench.report import table, write_report
from devstack.errors import StackError
from devstack.stack import Stack
from offline_provider import models, responses
from offline_provider.generation import generate
from tests.people import Person, await_
from webapp.config import Settings
from webapp.domain.answers import Usage
from webapp.domain.states import ExecutionMode
from webapp.parts import build_parts

PATIENCE_SECONDS = 3600
POLL_SECONDS = 10  # between two looks at the provider's batch; each is one of n8n's executions
MOST_EXECUTIONS, MOST_EXECUTIONS_A_MINUTE = 20, 1
MOST_N8N_GROWTH_MB = 100
REST_SECONDS, REST_MB = 30, 5  # n8n is at rest when its memory has changed by no more for so long; 10 s came too early
MOST_SAID = 20  # of the things that are wrong, one by one
USAGE_PAGE = 10_000
STEPS = {
    "claim": "/api/internal/batches/open",
    "input file": "/api/internal/batches/<int:window_id>/input-file",
    "provider's answers (create, polls)": "/api/internal/batches/<int:window_id>/answer",
    "ingest": "/api/internal/batches/<int:window_id>/ingest",
}


@dataclass(frozen=True)
class Outcome:
    """What became of one job, as the database has it."""

    number: int | None  # of the text that it was made with; None when the text is none of ours
    status: str
    attempt: int
    ends: int  # events that tell an end
    said: str | None  # its result
    body: dict[str, Any]  # its request


def main() -> None:
    wish = argparse.ArgumentParser(prog="bench.end_to_end", description=__doc__)
    wish.add_argument("--jobs", type=int, default=50_000)
    wish.add_argument("--window", type=int, help="jobs in a window; without it as many as there are, at most 50,000")
    wish.add_argument("--to", type=Path, default=Path(".sluice/bench/end_to_end"))
    wanted = wish.parse_args()
    size = wanted.window or min(wanted.jobs, 50_000)
    settings = {
        "MAX_BATCH_SIZE": str(size), "MAX_ROWS": str(wanted.jobs), "MAX_UPLOAD_MB": "512",
        "MAX_WAIT_SECONDS": "1",  # so that a last window which is not full opens, too
        "POLL_SECONDS": str(POLL_SECONDS),
        **dict.fromkeys((f"OFFLINE_{name}_SECONDS" for name in ("VALIDATING", "IN_PROGRESS", "FINALIZING")), "0"),
    }  # fmt: skip
    facts: dict[str, Any] = {"machine": machine(), "jobs": wanted.jobs, "jobs in a window": size}
    with Stack.throwaway(settings, durable=True) as stack, stack.cluster.connect("sluice") as database:
        database.autocommit = True
        figures, faults = ride(stack, database, wanted.jobs)
    report = table(("", "value", "wanted"), figures)
    write_report(wanted.to, facts, {"figures": figures, "wrong": faults}, report)
    for fault in faults:
        print(f"WRONG: {fault}")
    sys.exit(1 if faults else 0)


def ride(stack: Stack, database: psycopg.Connection[Any], jobs: int) -> tuple[list[tuple[Any, ...]], list[str]]:
    """([(what, value, wanted)], [what is wrong]) of so many jobs there and back."""
    person = Person(stack, "bench@example.org")
    head = {"Authorization": f"Bearer {person.make_token()}"}
    with httpx2.Client(base_url=stack.web_url, headers=head, timeout=PATIENCE_SECONDS) as api:
        submit_and_wait(api, database, 1)  # the first window loads what every later one needs
        await_rest(stack)
        usage_before = last_usage(stack)
        log_before, executions_before, began = len(stack.logs("internal")), executions(stack), time.time()
        before = memory_of_parts(stack)
        forget_peaks(stack)
        submission, submitted = submit_and_wait(api, database, jobs)
        total, peaks = time.time() - began, memory_of_parts(stack, "VmHWM")
        made = executions(stack) - executions_before
        await_rest(stack)
        after = memory_of_parts(stack)
    person.http.close()
    steps = seconds_of_steps(stack.logs("internal")[log_before:])
    [at_provider] = row_of(database, """
        SELECT sum(extract(epoch FROM settled.at - submitted_at)) FROM batch_windows w
        JOIN window_events settled ON settled.window_id = w.id AND settled.event = 'settled'
        WHERE w.id > 1""")  # fmt: skip
    at_provider = float(at_provider) - steps["ingest"]
    most = MOST_EXECUTIONS + MOST_EXECUTIONS_A_MINUTE * total / 60
    figures = [
        ("submit, s", round(submitted, 1), ""),
        *((f"{name}, s", round(seconds, 1), "") for name, seconds in steps.items()),
        (f"at the provider (looked at each {POLL_SECONDS} s), s", round(at_provider, 1), ""),
        ("total, s", round(total, 1), ""),
        ("jobs/s", round(jobs / total), ""),
        ("n8n executions", made, f"at most {most:.0f}"),
        *((f"memory of {part} before, at most, at the end, MB",
           f"{before[part]:.0f}, {peaks[part]:.0f}, {after[part]:.0f}",
           f"at most {before[part] + MOST_N8N_GROWTH_MB:.0f}" if part == "n8n" else "")
          for part in ("n8n", "internal", "web", "heartbeat", "provider")),
    ]  # fmt: skip
    faults = []
    if made > most:
        faults.append(f"n8n made {made} executions in {total:.0f} s, more than {most:.0f}")
    if peaks["n8n"] > before["n8n"] + MOST_N8N_GROWTH_MB:
        faults.append(f"n8n's memory grew from {before['n8n']:.0f} to {peaks['n8n']:.0f} MB")
    faults += in_short(wrong_answers(outcomes(database, submission), jobs))
    faults += money_faults(stack, database, submission, usage_before)
    try:
        stack.run_flask("doctor", "doctor", "--provider")
    except StackError as error:
        faults.append(str(error))
    return figures, faults


def submit_and_wait(api: httpx2.Client, database: psycopg.Connection[Any], jobs: int) -> tuple[int, float]:
    """Submit jobs and wait until all have ended: (submission, seconds until the API had them)."""
    common = {"executionMode": "batch", "batchStrategy": "count_or_wait"}
    body = "".join(json.dumps(common | {"text": text_of(number)}) + "\n" for number in range(jobs))
    started = time.monotonic()
    answer = api.post(
        "/api/v1/submissions?profile=text_classification", content=body,
        headers={"Content-Type": "application/jsonl"},
    )  # fmt: skip
    assert answer.status_code == 202, answer.text[:3000]
    seconds, submission = time.monotonic() - started, answer.json()["id"]

    def is_over() -> bool:
        # First what is quick to see: no window is under way. Only then whether all jobs have ended.
        [is_under_way] = row_of(database, "SELECT EXISTS (SELECT FROM batch_windows WHERE finished_at IS NULL)")
        return not is_under_way and not row_of(
            database, "SELECT EXISTS (SELECT FROM jobs WHERE submission_id = %s AND finished_at IS NULL)", submission
        )[0]  # fmt: skip

    await_(is_over, f"the end of {jobs} jobs", PATIENCE_SECONDS)
    return submission, seconds


def await_rest(stack: Stack) -> None:
    """Until n8n's memory does not change: its start leaves much to collect."""
    seen: list[tuple[float, float]] = []  # (moment, MB)

    def is_at_rest() -> bool:
        now = time.monotonic()
        seen.append((now, memory_of_parts(stack)["n8n"]))
        lately = [mb for moment, mb in seen if moment >= now - REST_SECONDS]
        return seen[0][0] < now - REST_SECONDS and max(lately) - min(lately) < REST_MB

    await_(is_at_rest, "rest of n8n", PATIENCE_SECONDS)


def text_of(number: int) -> str:
    return f"Letter {number} is about the gate. The keeper opened it, the water ran, and {number} people were glad."


def row_of(database: psycopg.Connection[Any], query: str, *values: Any) -> tuple[Any, ...]:
    row = database.execute(query.encode(), values).fetchone()
    assert row is not None
    return row


def executions(stack: Stack) -> int:
    """How many executions n8n has begun. It deletes what ended well, so its own numbers are counted."""
    last = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM execution_entity_id_seq"
    with stack.cluster.connect("n8ndb") as database:
        return int(row_of(database, last)[0])


def seconds_of_steps(log: str) -> dict[str, float]:
    """{step: seconds that the internal API took for it}, from its log."""
    routes = {route: step for step, route in STEPS.items()}
    found = dict.fromkeys(STEPS, 0.0)
    for line in log.splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if step := routes.get(entry.get("route")):
            found[step] += entry["duration_ms"] / 1000
    return found


def outcomes(database: psycopg.Connection[Any], submission: int) -> Iterator[Outcome]:
    """Every job of the submission, in the order in which they were made."""
    query = """
        SELECT j.inputs ->> 'text', j.status, j.attempt,
               (SELECT count(*) FROM job_events e WHERE e.job_id = j.id AND e.to_status IN
                ('completed', 'failed', 'expired', 'cancelled')),
               r.text, q.body
        FROM jobs j JOIN job_requests q ON q.job_id = j.id LEFT JOIN job_results r ON r.job_id = j.id
        WHERE j.submission_id = %s ORDER BY j.id"""
    with database.transaction(), database.cursor("outcomes") as cursor:
        cursor.execute(query, (submission,))
        for text, status, attempt, ends, said, body in cursor:
            number = int(text.split()[1])
            yield Outcome(number if text == text_of(number) else None, status, attempt, ends, said, json.loads(body))


def wrong_answers(found: Iterable[Outcome], jobs: int) -> Iterator[str]:
    """What is wrong: each number from 0 on is to be there once, completed once, with the answer to its own text."""
    models.offer(models.MODELS)
    missing = set(range(jobs))
    for outcome in found:
        if outcome.number not in missing:
            yield f"a job that nobody asked for, or twice: {outcome.number}"
            continue
        missing.remove(outcome.number)
        if outcome.body["input"] != text_of(outcome.number):
            yield f"job {outcome.number} asked for something else: {outcome.body['input']}"
        if (outcome.status, outcome.attempt, outcome.ends) != ("completed", 1, 1):
            yield f"job {outcome.number} is {outcome.status}, attempt {outcome.attempt}, with {outcome.ends} ends"
        elif outcome.said != (right := right_answer(outcome.body)):
            yield f"job {outcome.number} has the answer {outcome.said}, not {right}"
    yield from (f"job {number} is missing" for number in sorted(missing))


def right_answer(body: dict[str, Any]) -> str:
    """What the offline provider says to this request; it always says the same."""
    return str(generate(responses.read_prompt(body, documents=None)).text)


def money_faults(
    stack: Stack, database: psycopg.Connection[Any], submission: int, usage_before: int
) -> list[str]:  # fmt: skip
    """The ledger against the provider's own log: the same answers, the same tokens, and what those cost."""
    rows = database.execute(
        "SELECT answer_key, input_tokens, cached_input_tokens, output_tokens, amount, model, answered_at, reason"
        " FROM ledger JOIN jobs ON jobs.id = ledger.job_id WHERE submission_id = %s", (submission,),
    ).fetchall()  # fmt: skip
    ours = [(key, *tokens) for key, *tokens, _, _, _, reason in rows if reason == "answer"]
    log = list(usage(stack, usage_before))
    theirs = [
        (row["response_id"], row["input_tokens"], row["cached_tokens"], row["output_tokens"])
        for row in log if row["billed"]
    ]  # fmt: skip
    faults = in_short(differences(ours, theirs))
    if len(ours) != len(rows):
        faults.append(f"{len(rows) - len(ours)} entries of the ledger are not for an answer that was used")
    prices = build_parts(Settings.from_env(stack.app_environment())).prices
    now = datetime.now(UTC)
    cost = Decimal()
    for row in log:
        unit = prices.unit_prices(row["model"], ExecutionMode.BATCH, now, input_tokens=row["input_tokens"])
        assert unit is not None
        cost += unit.cost(Usage(row["input_tokens"], row["output_tokens"], row["cached_tokens"])) or 0
    if (amount := sum((row[4] for row in rows), Decimal())) != cost:
        faults.append(f"the ledger says {amount} USD, the provider's log {cost} USD")
    return faults


def differences(ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]) -> Iterator[str]:
    """(answer, its tokens) as the ledger has them, and as the provider has: what only one has, or one has twice."""
    for name, rows in (("ledger", ours), ("provider's log", theirs)):
        if len(rows) != len({key for key, *_ in rows}):
            yield f"the {name} has an answer twice"
    yield from (f"only in the ledger: {row}" for row in sorted(set(ours) - set(theirs)))
    yield from (f"only in the provider's log: {row}" for row in sorted(set(theirs) - set(ours)))


def usage(stack: Stack, after: int) -> Iterator[dict[str, Any]]:
    """The provider's log behind the row `after`."""
    while True:
        page = stack.ask_provider("GET", f"/admin/usage?after={after}&limit={USAGE_PAGE}")
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["last_id"]


def last_usage(stack: Stack) -> int:
    return max((int(row["id"]) for row in usage(stack, 0)), default=0)


def in_short(faults: Iterable[str]) -> list[str]:
    """The first of them, and how many there are."""
    found = list(faults)
    return found[:MOST_SAID] + ([f"and {len(found) - MOST_SAID} more like these"] if len(found) > MOST_SAID else [])


if __name__ == "__main__":
    main()
