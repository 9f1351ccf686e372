"""Azure OpenAI through the real parts; the offline provider speaks its dialect (offline_provider/README.md)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from openai import OpenAI

from devstack.stack import Stack
from tests.conftest import DATA
from tests.people import Person, await_
from webapp.config import ROOT
from webapp.domain.answers import Usage
from webapp.domain.pricing import PriceList
from webapp.domain.states import ExecutionMode

pytestmark = pytest.mark.e2e

SYNC, BATCH, MODEL = "luna", "luna-batch", "gpt-6-luna"
TWO_PAGES = DATA / "two-pages.pdf"
QUOTA = "The number of enqueued tokens has surpassed the configured limit"
AMPLE = 10**9


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    overrides = tmp_path_factory.mktemp("prices") / "overrides.json"
    same = [{"model": name, "validFrom": "2026-01-01T00:00:00Z", "sameAs": MODEL} for name in (SYNC, BATCH)]
    overrides.write_text(json.dumps({"prices": same}))
    env = {
        "OFFLINE_FLAVOUR": "azure", "OFFLINE_DEPLOYMENTS": f"{SYNC}={MODEL}:Standard,{BATCH}={MODEL}:GlobalBatch",
        "OFFLINE_AZURE_FAIL_FAST": "1", "SYNC_MODEL": SYNC, "BATCH_MODEL": BATCH, "MAX_BATCH_SIZE": "2",
        "POLL_SECONDS": "1", "PRICE_OVERRIDES_FILE": str(overrides), "TEST_CLOCK": "1",
    }  # fmt: skip
    with Stack.throwaway(env) as stack:
        yield stack


def window_of(database: psycopg.Connection[Any], job_id: int) -> Any:
    """(provider_batch_id, input_file_id, provider_status) of the job's last window."""
    return database.execute(
        "SELECT provider_batch_id, input_file_id, provider_status FROM batch_windows w JOIN batch_items i"
        " ON i.window_id = w.id WHERE i.job_id = %s ORDER BY w.id DESC LIMIT 1", (job_id,),
    ).fetchone()  # fmt: skip


def test_each_mode_asks_its_own_deployment_and_costs_what_its_model_costs(
    person: Person, database: psycopg.Connection[Any], provider: OpenAI
) -> None:
    [now] = person.run(TWO_PAGES, executionMode="sync")
    later = person.run(TWO_PAGES, TWO_PAGES, executionMode="batch")
    for job_id in (now, *later):
        person.await_status(job_id)

    _, input_file_id, status = window_of(database, later[0])
    assert status == "completed"  # Azure says "Completed"
    lines = [json.loads(line) for line in provider.files.content(input_file_id).text.splitlines()]
    assert [line["body"]["model"] for line in lines] == [BATCH, BATCH]

    rows = database.execute(
        "SELECT job_id, model, input_tokens, output_tokens, cached_input_tokens, amount, answered_at FROM ledger"
    ).fetchall()
    prices = PriceList.load(ROOT / "prices.json")
    assert len(rows) == 3
    for job_id, model, *tokens, amount, at in rows:
        mode = ExecutionMode.SYNC if job_id == now else ExecutionMode.BATCH
        price = prices.unit_prices(MODEL, mode, at)
        assert price and amount == price.cost(Usage(*tokens)) > 0
        assert model == (SYNC if job_id == now else BATCH)
    timed = database.execute("SELECT provider_ms FROM job_results WHERE job_id = ANY(%s)", (later,)).fetchall()
    assert all(milliseconds is not None for (milliseconds,) in timed)  # Azure's times are in ISO


def test_the_price_check_and_the_list_of_models_know_deployments(
    stack: Stack, database: psycopg.Connection[Any]
) -> None:
    check = [sys.executable, "-m", "flask", "--app", "wsgi", "prices", "check"]
    done = subprocess.run(check, cwd=ROOT, env=stack.app_environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, "0 things wrong" in done.stdout) == (0, True), done.stdout + done.stderr
    listed = "SELECT model FROM provider_models ORDER BY model"
    assert database.execute(listed).fetchall() == [(SYNC,), (BATCH,)]


def test_a_create_that_the_quota_refuses_says_so_and_comes_through_when_there_is_room(
    stack: Stack, person: Person, database: psycopg.Connection[Any]
) -> None:
    stack.ask_provider("PUT", "/admin/limits", {"enqueued_tokens": 1})
    jobs = person.run(TWO_PAGES, TWO_PAGES, executionMode="batch")
    await_(lambda: QUOTA in person.page(jobs[0]), "the reason on the job's page")
    assert "could not be handed to the provider yet" in person.page(jobs[0])
    stack.ask_provider("PUT", "/admin/limits", {"enqueued_tokens": AMPLE})
    stack.move_clock(600)
    for job_id in jobs:
        person.await_status(job_id)
    assert all(person.result(job_id) for job_id in jobs)
    windows = database.execute("SELECT count(DISTINCT window_id) FROM batch_items WHERE job_id = ANY(%s)", (jobs,))
    assert windows.fetchone() == (1,)


def test_a_batch_that_the_quota_fails_later_returns_its_jobs_which_wait_for_room(
    stack: Stack, person: Person, database: psycopg.Connection[Any]
) -> None:
    fault = {"kind": "validation_error", "code": "token_limit_exceeded", "message": f"{QUOTA}.", "times": 1}
    stack.ask_provider("POST", "/admin/faults", fault)
    jobs = person.run(TWO_PAGES, TWO_PAGES, executionMode="batch")
    await_(lambda: "the provider asked for a pause until" in person.page(jobs[0]), "the pause on the job's page")
    first = database.execute("SELECT failure_message FROM batch_windows ORDER BY id DESC LIMIT 1").fetchone()
    assert first == (f"{QUOTA}.",)
    stack.move_clock(1200)
    stack.ask_provider("DELETE", "/admin/faults")
    for job_id in jobs:
        person.await_status(job_id)
    spent = database.execute("SELECT attempt, free_returns FROM jobs WHERE id = ANY(%s)", (jobs,)).fetchall()
    assert spent == [(1, 0), (1, 0)]


def test_a_batch_that_azure_does_not_expire_goes_on_and_people_are_told(stack: Stack, person: Person) -> None:
    stack.ask_provider("POST", "/admin/faults", {"kind": "stall", "at_line": 1})
    jobs = person.run(TWO_PAGES, TWO_PAGES, executionMode="batch")
    await_(lambda: "(it says: in progress)" in person.page(jobs[0]), "the provider's work")
    stack.move_clock(25 * 3600)
    await_(lambda: "Its time is over, but the provider goes on" in person.page(jobs[0]), "the sentence")
    stack.ask_provider("DELETE", "/admin/faults")
    for job_id in jobs:
        person.await_status(job_id)
