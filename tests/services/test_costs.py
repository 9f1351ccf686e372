"""Costs: the sums are those of the ledger, by days of UTC, rolled up or not; what is unknown is in none of them."""

from __future__ import annotations

import csv
import io
import itertools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from tests.factories import make_job, make_user
from webapp.domain.states import ExecutionMode
from webapp.models import CostDay, Job, LedgerEntry
from webapp.parts import Parts
from webapp.services import cost_entries, cost_reports, costs, doctor, heartbeat
from webapp.services.cost_reports import Dimension, Scope

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
MONTH = Scope(date(2026, 11, 1), date(2026, 11, 30))
SYNC, BATCH = ExecutionMode.SYNC, ExecutionMode.BATCH
numbers = itertools.count()


@pytest.fixture
def job(session: Session, parts: Parts) -> Job:
    return make_job(session, parts, make_user(session))


def add(session: Session, job: Job, amount: str | None = "0.01", sync: str | None = None, **values: Any) -> LedgerEntry:
    """An entry of 100 tokens in and 10 out (USD); `sync`: of a batch, and what it would have cost now."""
    entry = LedgerEntry(**{
        "job_id": job.id, "attempt": 1, "answer_key": f"resp_{next(numbers)}", "reason": "answer",
        "user_id": job.user_id, "profile_id": job.profile_id, "execution_mode": BATCH if sync else SYNC,
        "model": "gpt-6-luna", "answered_at": NOON, "recorded_at": NOON, "input_tokens": 100,
        "cached_input_tokens": 20, "output_tokens": 10, "amount": amount and Decimal(amount),
        "sync_amount": sync and Decimal(sync),
    } | values)  # fmt: skip
    session.add(entry)
    session.commit()
    return entry


def lose(session: Session, job: Job, attempt: int = 1) -> LedgerEntry:
    return add(session, job, None, reason="answer_lost", answer_key="lost", attempt=attempt, model=None,
               input_tokens=None, cached_input_tokens=None, output_tokens=None)  # fmt: skip


def amounts(session: Session, dimension: Dimension, scope: Scope = MONTH) -> dict[str, Decimal | None]:
    return {line.label: line.amount for line in cost_reports.report(session, scope).groups[dimension]}


def test_days_end_at_midnight_utc(session: Session, job: Job) -> None:
    midnight = datetime(2026, 11, 11, tzinfo=UTC)
    add(session, job, "1", answered_at=midnight - timedelta(microseconds=1))
    add(session, job, "2", answered_at=midnight)
    session.execute(text("SET LOCAL TIME ZONE 'Asia/Tokyo'"))  # wherever the database is
    assert amounts(session, Dimension.DAY) == {"11 Nov 2026": Decimal(2), "10 Nov 2026": Decimal(1)}


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_a_period_takes_its_first_and_its_last_moment(session: Session, job: Job, is_rolled_up: bool) -> None:
    first, after = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    for amount, at in enumerate((first - timedelta(microseconds=1), first, after - timedelta(microseconds=1), after)):
        add(session, job, str(10**amount), answered_at=at)
    if is_rolled_up:
        costs.roll_up(session)
    assert cost_reports.report(session, MONTH).total.amount == Decimal(110)


def test_long_periods_are_shown_by_months(session: Session, job: Job) -> None:
    add(session, job, "1", answered_at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC))
    add(session, job, "2", answered_at=datetime(2026, 11, 1, tzinfo=UTC))
    year = Scope(date(2026, 1, 1), date(2026, 12, 31))
    assert amounts(session, Dimension.DAY, year) == {"Nov 2026": Decimal(2), "Oct 2026": Decimal(1)}


def test_every_dimension_has_its_groups_the_dearest_first(session: Session, parts: Parts, job: Job) -> None:
    bob = make_job(session, parts, make_user(session, "bob@example.org"))
    add(session, job, "1")
    add(session, bob, "3", sync="6", model="gpt-5", profile_id="other")
    report = cost_reports.report(session, MONTH)
    found: Any = {dimension.value: [(line.label, line.amount, line.share) for line in lines]
             for dimension, lines in report.groups.items()}  # fmt: skip
    assert found == {
        "day": [("10 Nov 2026", 4, 1.0)],
        "mode": [("Batch", 3, 0.75), ("Now", 1, 0.25)],
        "model": [("gpt-5", 3, 0.75), ("gpt-6-luna", 1, 0.25)],
        "profile": [("other", 3, 0.75), (job.profile_id, 1, 0.25)],
        "user": [("bob@example.org", 3, 0.75), ("alice@example.org", 1, 0.25)],
    }
    assert report.by_mode == {NOON.date(): {SYNC: Decimal(1), BATCH: Decimal(3)}}
    assert (report.total.answers, report.total.input_tokens, report.total.output_tokens) == (2, 200, 20)


@pytest.mark.parametrize(("narrowed", "expected"), [
    ({"mode": BATCH}, 2), ({"model": "gpt-5"}, 4), ({"profile_id": "other"}, 8), ({"user_id": 2}, 16), ({}, 31),
    ({"mode": BATCH, "model": "gpt-5"}, None),
])  # fmt: skip
@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_filters_narrow_the_sums(
    session: Session, job: Job, narrowed: dict[str, Any], expected: int | None, is_rolled_up: bool
) -> None:
    make_user(session, "bob@example.org")
    add(session, job, "1")
    add(session, job, "2", sync="4")
    add(session, job, "4", model="gpt-5")
    add(session, job, "8", profile_id="other")
    add(session, job, "16", user_id=2)
    if is_rolled_up:
        costs.roll_up(session)
    total = cost_reports.report(session, Scope(MONTH.first, MONTH.last, **narrowed)).total
    assert (total.amount, total.answers) == (Decimal(expected or 0), 5 if not narrowed else 1 if expected else 0)


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_saved_is_the_sync_price_minus_what_batches_cost(session: Session, job: Job, is_rolled_up: bool) -> None:
    add(session, job, "1", sync="2")
    add(session, job, "1", sync="2", reason="refused")
    add(session, job, "5", execution_mode=BATCH)  # of a time when the sync amount was not noted
    add(session, job, "7")  # now: nothing to save
    add(session, job, None, execution_mode=BATCH, sync_amount=Decimal(9))  # its batch price is not known
    if is_rolled_up:
        costs.roll_up(session)
    assert cost_reports.report(session, MONTH).total.saved == Decimal(2)
    assert costs.totals(session, NOON.date()) == (Decimal(14), Decimal(2), 1)
    assert costs.totals(session, NOON.date() + timedelta(days=1)) == (0, 0, 1)


def test_a_discarded_batch_answer_was_paid_on_top(session: Session, job: Job) -> None:
    add(session, job, "1", sync="2", reason="discarded")
    add(session, job, "0.5", reason="refused")
    report = cost_reports.report(session, MONTH)
    assert (report.total.saved, report.extra_amount) == (Decimal(-1), Decimal("1.5"))
    assert {reason: line.answers for reason, line in report.extra.items()} == {"discarded": 1, "refused": 1}


def test_a_group_of_which_nothing_is_known_is_unknown_not_0(session: Session, job: Job) -> None:
    add(session, job, None, model="mystery")
    add(session, job, None)
    add(session, job, "1")
    lines = cost_reports.report(session, MONTH).groups[Dimension.MODEL]
    assert [(line.label, line.amount, line.unknown, line.answers) for line in lines] == [
        ("gpt-6-luna", Decimal(1), 1, 2), ("mystery", None, 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("is_rolled_up", [False, True])
def test_a_lost_answer_is_unknown_until_it_comes(session: Session, job: Job, is_rolled_up: bool) -> None:
    lose(session, job)
    if is_rolled_up:
        costs.roll_up(session)
    before = cost_reports.report(session, MONTH)
    assert (before.total.amount, before.total.unknown, before.total.answers) == (None, 1, 0)
    add(session, job, "1")
    after = cost_reports.report(session, MONTH)
    assert (after.total.amount, after.total.unknown, after.total.answers) == (Decimal(1), 0, 1)
    assert [line.label for line in after.groups[Dimension.MODEL]] == ["gpt-6-luna"]


def test_an_empty_ledger_makes_an_empty_report(session: Session) -> None:
    report = cost_reports.report(session, MONTH)
    assert (report.total.amount, report.total.answers) == (Decimal(0), 0)
    assert set(map(len, report.groups.values())) == {0}


@pytest.mark.parametrize(("name", "now", "expected"), [
    ("7d", "2026-11-24T12:00:00+00:00", ("2026-11-18", "2026-11-24")),
    ("month", "2026-03-01T00:30:00+01:00", ("2026-02-01", "2026-02-28")),
    ("month", "2026-03-01T00:00:00+00:00", ("2026-03-01", "2026-03-01")),
    ("last_month", "2026-01-31T23:59:59+00:00", ("2025-12-01", "2025-12-31")),
])  # fmt: skip
def test_periods_are_of_utc(name: str, now: str, expected: tuple[str, str]) -> None:
    first, last = cost_reports.period(name, datetime.fromisoformat(now))
    assert (str(first), str(last)) == expected


def test_choices_are_what_the_period_has_and_what_is_chosen(session: Session, job: Job) -> None:
    add(session, job)
    lose(session, job, attempt=2)
    add(session, job, model="gpt-5", answered_at=NOON - timedelta(days=60))
    scope = Scope(MONTH.first, MONTH.last, mode=BATCH, model="gone")
    found = cost_reports.choices(session, scope, cost_reports.report(session, scope))
    assert found.models == ["gone", "gpt-6-luna"]
    assert (found.profiles, found.users) == ([job.profile_id], [(job.user_id, "alice@example.org")])


# --- Roll-ups

STEPS = st.lists(st.one_of(
    st.tuples(st.integers(0, 3), st.sampled_from(["answer", "discarded", "refused", "lost"]), st.integers(0, 3),
              st.sampled_from([None, "0.000000000001", "0.5"]), st.sampled_from([None, "1.25"])),
    st.integers(1, 3),
), min_size=1, max_size=14)  # fmt: skip


@profile(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_rolled_up_or_not_the_report_is_the_same(session: Session, parts: Parts, job: Job, steps: list[Any]) -> None:
    session.execute(text("TRUNCATE ledger, cost_days, roll_ups"))
    session.commit()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            costs.roll_up(session, at_most=step)
            continue
        hours, reason, model, amount, sync = step
        if reason == "lost":
            lose(session, job, attempt=number)
        else:
            add(session, job, amount, sync, attempt=number - hours % 2, reason=reason, model=f"model {model}",
                answered_at=NOON + timedelta(hours=hours * 8, minutes=number))  # fmt: skip
    rolled = (cost_reports.report(session, MONTH), costs.totals(session, MONTH.first))
    assert "roll_ups_are_sums" not in {finding.name for finding in doctor.examine(session, parts.settings)}
    session.execute(text("TRUNCATE cost_days, roll_ups"))
    session.commit()
    assert (cost_reports.report(session, MONTH), costs.totals(session, MONTH.first)) == rolled


def test_an_entry_that_is_committed_late_is_not_lost(
    tables: Engine, session: Session, job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(costs, "LOCK_SECONDS", 0.05)
    with Session(tables) as slow:
        slow.add(LedgerEntry(
            job_id=job.id, attempt=7, answer_key="slow", reason="answer", user_id=job.user_id, amount=Decimal(1),
            profile_id=job.profile_id, execution_mode=SYNC, answered_at=NOON, recorded_at=NOON,
        ))  # fmt: skip
        slow.flush()  # has the lower id
        add(session, job, "2")
        with caplog.at_level(logging.INFO):
            assert costs.roll_up(session) == 0
        slow.commit()
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert costs.roll_up(session) == 2
    assert session.scalars(select(func.sum(CostDay.amount))).one() == Decimal(3)


def test_two_heartbeats_count_each_entry_once(tables: Engine, session: Session, job: Job) -> None:
    for _ in range(9):
        add(session, job, "1", sync="2")
    start = Barrier(4)

    def roll_up() -> int:
        with Session(tables) as own:
            start.wait()
            return sum(costs.roll_up(own, at_most=2) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        done = [future.result() for future in [pool.submit(roll_up) for _ in range(4)]]
    assert sum(done) == 9
    assert session.scalars(select(func.sum(CostDay.entries))).one() == 9


def test_the_heartbeat_rolls_up_and_takes_the_next_portion_at_once(
    session: Session, parts: Parts, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    portions = iter([costs.MOST_AT_ONCE, 5])
    asked: list[int] = []

    def take(_: Session) -> int:
        asked.append(next(portions))
        return asked[-1]

    monkeypatch.setattr(costs, "roll_up", take)
    beat = heartbeat.Beat()
    for _ in range(4):
        heartbeat.tick(session, parts, beat)
    assert asked == [costs.MOST_AT_ONCE, 5]  # then not within the minute


# --- Unknown entries, and CSV


@pytest.mark.parametrize(("values", "why"), [
    ({"answer_key": "lost"}, "the answer was lost"),
    ({"input_tokens": None}, "the provider reported no usage"),
    ({"output_tokens": None}, "the provider reported no usage"),
    ({"service_tier": "priority"}, "no price for tier priority of model gpt-6-luna"),
    ({"service_tier": "default"}, "no price for model gpt-6-luna, or for a kind of its tokens"),
    ({"service_tier": "flex", "execution_mode": BATCH}, "no price for model gpt-6-luna, or for a kind of its tokens"),
])  # fmt: skip
def test_why_an_amount_is_unknown(session: Session, job: Job, values: dict[str, Any], why: str) -> None:
    assert cost_entries.why_unknown(add(session, job, None, **values)) == why


def test_unknown_entries_are_listed_newest_first_in_pages(session: Session, job: Job) -> None:
    made = [add(session, job, None, attempt=number).id for number in range(5)]
    add(session, job, "1")
    add(session, job, None, answered_at=NOON - timedelta(days=60))
    first = cost_entries.list_unknown(session, MONTH, size=3)
    second = cost_entries.list_unknown(session, MONTH, size=3, before=first[-1].id)
    assert [entry.id for entry in (*first, *second)] == made[::-1]


def read_csv(write: Callable[[io.StringIO], None]) -> list[dict[str, str]]:
    file = io.StringIO(newline="")
    write(file)
    return list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))


def test_the_entries_are_there_in_full_precision_and_utc(session: Session, job: Job) -> None:
    add(session, job, "0.000000000001", sync="0.00000012", input_price=Decimal("0.05"), answered_at=NOON)
    lose(session, job, attempt=2)
    add(session, job, "1", answered_at=NOON - timedelta(days=60))
    session.execute(text("SET LOCAL TIME ZONE 'Asia/Tokyo'"))
    found = read_csv(lambda file: cost_entries.write_entries(session, MONTH, file))
    assert [row["unknown_because"] for row in found] == ["", "the answer was lost"]
    assert [row["amount"] for row in found] == ["0.000000000001", ""]
    assert (found[0]["sync_amount"], found[0]["input_price"]) == ("0.000000120000", "0.050000000000")
    assert (found[0]["answered_at"], found[0]["user"]) == ("2026-11-10T12:00:00+00:00", "alice@example.org")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(session: Session, job: Job, start: str) -> None:
    add(session, job, "1", model=f"{start}1+1", sync="0.5")
    [found] = read_csv(lambda file: cost_entries.write_entries(session, MONTH, file))
    assert found["model"] == f"'{start}1+1"
    lines = cost_reports.report(session, MONTH).groups[Dimension.MODEL]
    [group] = read_csv(lambda file: cost_entries.write_groups(lines, Dimension.MODEL, file))
    assert (group["model"], group["saved"]) == (f"'{start}1+1", "-0.500000000000")


def test_groups_are_written_with_their_figures(session: Session, job: Job) -> None:
    add(session, job, "1", sync="3")
    add(session, job, None)
    lines = cost_reports.report(session, MONTH).groups[Dimension.DAY]
    assert read_csv(lambda file: cost_entries.write_groups(lines, Dimension.DAY, file)) == [{
        "day": "2026-11-10", "answers": "2", "input_tokens": "200", "cached_input_tokens": "40", "output_tokens": "20",
        "amount": "1.000000000000", "saved": "2.000000000000", "unknown": "1",
    }]  # fmt: skip
