"""One form, both modes, through the real parts."""

from __future__ import annotations

import json
from pathlib import Path
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
Database = psycopg.Connection[Any]


def test_a_document_of_20_pages_is_summarised_now(person: Person, database: Database, history: Path) -> None:
    [job_id] = person.run(history, executionMode="sync")
    page = person.await_status(job_id)
    assert page.count("<li>") >= 5
    moves = database.execute("SELECT to_status FROM job_events WHERE job_id = %s ORDER BY id", (job_id,)).fetchall()
    assert [status for (status,) in moves] == ["created", "processing", "completed"]


def test_tokens_and_cost_equal_usage_times_price(person: Person, database: Database, history: Path) -> None:
    [job_id] = person.run(history, executionMode="sync")
    person.await_status(job_id)
    row = database.execute(
        "SELECT model, input_tokens, output_tokens, cached_input_tokens, amount, answered_at FROM ledger"
        " WHERE job_id = %s", (job_id,),
    ).fetchone()  # fmt: skip
    assert row is not None
    model, *tokens, amount, at = row
    prices = PriceList.load(ROOT / "prices.json").unit_prices(model, ExecutionMode.SYNC, at)
    assert prices is not None
    assert tokens[0] > 10_000
    assert amount == prices.cost(Usage(*tokens))


def test_a_window_opens_when_it_is_full_and_not_before(
    person: Person, database: Database, provider: OpenAI, history: Path
) -> None:
    two = DATA / "two-pages.pdf"
    batches = len(list(provider.batches.list()))
    jobs = person.run(history, two, executionMode="batch")
    assert "2 of 3 jobs wait; a window opens when it is full." in person.page(jobs[0])
    assert len(list(provider.batches.list())) == batches

    jobs += person.run(two, executionMode="batch", audience="expert")
    for job_id in jobs:
        person.await_status(job_id)
    assert len(list(provider.batches.list())) == batches + 1
    assert "Debian" in person.result(jobs[0])
    assert "Debian" not in person.result(jobs[1])
    windows = database.execute(
        "SELECT DISTINCT window_id, outcome FROM batch_items WHERE job_id = ANY(%s)", (jobs,)
    ).fetchall()
    assert [outcome for _, outcome in windows] == ["completed"]


def test_n8n_killed_in_the_middle_of_a_window_costs_nothing(
    stack: Stack, person: Person, database: Database, provider: OpenAI
) -> None:
    batches = len(list(provider.batches.list()))
    jobs = person.run(*[DATA / "two-pages.pdf"] * 3, executionMode="batch")
    await_(lambda: person.status(jobs[0]) == "processing", "the window's submission")
    stack.kill("n8n")
    stack.start_part("n8n")
    for job_id in jobs:
        person.await_status(job_id)
    assert len(list(provider.batches.list())) == batches + 1
    assert database.execute("SELECT count(*) FROM ledger WHERE job_id = ANY(%s)", (jobs,)).fetchone() == (3,)


def test_a_sync_job_waits_while_n8n_is_down_and_goes_on_when_it_is_back(stack: Stack, person: Person) -> None:
    stack.kill("n8n")
    [job_id] = person.run(DATA / "two-pages.pdf", executionMode="sync")
    assert "It was handed to n8n, which has not started it yet." in person.page(job_id)
    stack.start_part("n8n")
    person.await_status(job_id)


def test_a_provider_that_is_down_is_tried_again(stack: Stack, person: Person, database: Database) -> None:
    stack.kill("provider")
    [job_id] = person.run(DATA / "two-pages.pdf", executionMode="sync")
    await_(lambda: "attempt 2" in person.page(job_id), "the second attempt")
    stack.start_part("provider")
    person.await_status(job_id)
    attempts = database.execute("SELECT attempt FROM jobs WHERE id = %s", (job_id,)).fetchone()
    assert attempts in [(2,), (3,)]


def test_each_database_role_is_refused_on_the_other_s_database(stack: Stack) -> None:
    for database, role in (("n8ndb", "sluice"), ("sluice", "n8n")):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            stack.cluster.connect(database, role)


def test_a_classification_gives_json_that_fits_in_both_modes(person: Person) -> None:
    run = {
        "profile": "text_classification",
        "text": "The launch went well and everybody is glad.",
        "labels": "good, bad",
    }
    jobs = person.run(**run, executionMode="sync")
    jobs += [person.run(**run, executionMode="batch")[0] for _ in range(3)]
    for job_id in jobs:
        person.await_status(job_id)
        found = json.loads(person.result(job_id))
        assert found["label"] in ("good", "bad")
        assert 0 <= found["confidence"] <= 1
