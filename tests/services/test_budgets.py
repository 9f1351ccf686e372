"""Budgets: what is reserved is settled or released by the commit that ends the job; no race admits too much."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session

from tests.factories import (
    empty_tables,
    end_batch,
    items_of,
    make_document,
    make_job,
    make_jobs,
    make_submitted_window,
    make_user,
    output_line,
    response,
)
from webapp.domain.answers import read_answer, transport_error
from webapp.domain.errors import InvalidInput, OverBudget
from webapp.domain.pricing import PriceList
from webapp.models import AuditEvent, Budget, Job, JobRequest, User
from webapp.parts import Parts
from webapp.services import batch_ingest, budgets, control, costs, jobs
from webapp.services.clock import clock, move_clock
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer


def give(session: Session, user: User, amount: Decimal) -> Budget:
    budget = Budget(user_id=user.id, monthly_amount=amount)
    session.add(budget)
    session.commit()
    return budget


def state(session: Session, user: User) -> budgets.BudgetState:
    [found] = budgets.budgets_of(session, user_id=user.id)
    session.rollback()
    return found


def ceiling_of(session: Session, job: Job) -> Decimal:
    ceiling = session.get_one(JobRequest, job.id).ceiling
    assert ceiling
    return ceiling


def finish(session: Session, parts: Parts, job: Job, answer: Any) -> None:
    start_attempt(session, parts.settings, job_id=job.id, attempt=job.attempt, execution_id=f"e{job.id}")
    record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=job.attempt, execution_id=f"e{job.id}",
        answer=answer, raw={}, elapsed_ms=1,
    )  # fmt: skip


def in_parallel(engine: Engine, work: Callable[[Session], Any], count: int) -> list[Any]:
    """What each of `count` sessions got from `work`, all at the same time; an OverBudget is a result."""
    barrier = Barrier(count)

    def one(_: int) -> Any:
        with Session(engine) as session:
            session.execute(text("SELECT 1"))
            session.rollback()
            barrier.wait()
            try:
                return work(session)
            except OverBudget as error:
                return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


def submit(session: Session, parts: Parts, user_id: int, document_id: int) -> list[int]:
    return jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=session.get_one(User, user_id),
        profile_id="pdf_summary", runs=[{"document": document_id}],
    )  # fmt: skip


def test_of_fifty_parallel_submits_a_budget_for_ten_admits_ten_and_one_more_after_a_cancel(
    tables: Engine, session: Session, parts: Parts, user: User
) -> None:
    price = ceiling_of(session, make_job(session, parts, user))  # before there is a limit
    jobs.cancel_job(session, session.scalars(select(Job)).one(), actor="test")
    give(session, user, 10 * price)
    document_id, user_id = make_document(session, user).id, user.id
    with Session(tables) as wide:
        wide.execute(text("SELECT 1"))
    got = in_parallel(tables, lambda own: submit(own, parts, user_id, document_id), 16)
    got += in_parallel(tables, lambda own: submit(own, parts, user_id, document_id), 18)
    got += in_parallel(tables, lambda own: submit(own, parts, user_id, document_id), 16)
    admitted = [one for one in got if isinstance(one, list)]
    assert (len(got), len(admitted)) == (50, 10)
    assert state(session, user).left == 0
    jobs.cancel_job(session, session.get_one(Job, admitted[0][0]), actor="test")
    got = in_parallel(tables, lambda own: submit(own, parts, user_id, document_id), 5)
    assert sum(isinstance(one, list) for one in got) == 1
    session.expire_all()
    assert session.scalar(select(func.count()).where(Job.finished_at.is_(None))) == 10


def test_the_refusal_says_what_is_left(session: Session, parts: Parts, user: User) -> None:
    give(session, user, Decimal("0.000001"))
    with pytest.raises(OverBudget, match=r"\$0\.000001 is left of the budget of alice@example.org") as refused:
        make_job(session, parts, user)
    assert refused.value.detail["left"] == "0.000001000000"
    assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_an_answer_settles_the_reservation(session: Session, parts: Parts, user: User) -> None:
    give(session, user, Decimal(1))
    job = make_job(session, parts, user)
    before = state(session, user)
    assert (before.spent, before.reserved) == (0, ceiling_of(session, job))
    finish(session, parts, job, read_answer(200, response()))
    after = state(session, user)
    assert (after.spent, after.reserved) == (Decimal("0.0002"), 0)
    assert before.left < after.left


@pytest.mark.parametrize("end", ["cancel", "refused", "lost"])
def test_an_end_without_an_answer_releases_it(session: Session, parts: Parts, user: User, end: str) -> None:
    give(session, user, Decimal(1))
    job = make_job(session, parts, user)
    if end == "cancel":
        jobs.cancel_job(session, job, actor="test")
    elif end == "refused":
        finish(session, parts, job, read_answer(400, {"error": {"message": "no"}}))
    else:
        session.execute(update(Job).values(attempt=3))
        session.commit()
        finish(session, parts, session.get_one(Job, job.id, populate_existing=True), transport_error("timed out"))
    now = state(session, user)
    assert (now.spent, now.reserved) == (0, 0)
    # What got lost may have been paid: until somebody knows, it may have cost as much as its ceiling.
    uncertain = ceiling_of(session, job) if end == "lost" else Decimal()
    assert (now.unknown, now.uncertain, now.left) == (1 if end == "lost" else 0, uncertain, 1 - uncertain)


def test_answers_of_unknown_cost_do_not_slip_past_a_budget(session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    price = ceiling_of(session, job)
    give(session, user, 2 * price)
    finish(session, parts, job, read_answer(200, response(usage=None)))
    assert state(session, user).left == price
    finish(session, parts, make_job(session, parts, user), read_answer(200, response("- Two.", usage=None)))
    with pytest.raises(OverBudget, match="2 answers of unknown cost may be"):
        make_job(session, parts, user)


def test_a_window_settles_what_was_answered_and_keeps_what_returns(
    session: Session, parts: Parts, user: User
) -> None:  # fmt: skip
    give(session, user, Decimal(1))
    window = make_submitted_window(session, parts, user)
    price = state(session, user).reserved / 3
    items = items_of(session, window)
    lease = end_batch(session, parts, window, "expired", output=[output_line(items[0])])
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    now = state(session, user)
    assert (now.spent, now.reserved) == (Decimal("0.0001"), 2 * price)


def test_a_profile_s_budget_holds_for_everybody(session: Session, parts: Parts, user: User) -> None:
    price = ceiling_of(session, make_job(session, parts, user))
    session.add(Budget(profile_id="pdf_summary", monthly_amount=2 * price))
    session.commit()
    other = make_user(session, "bob@example.org")
    make_job(session, parts, other)
    with pytest.raises(OverBudget, match="the budget of the profile pdf_summary"):
        make_job(session, parts, other)
    jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=other, profile_id="text_classification",
        runs=[{"text": "Good."}],
    )  # fmt: skip


def test_what_was_spent_last_month_is_not_this_month_s(session: Session, parts: Parts, user: User) -> None:
    give(session, user, Decimal(1))
    finish(session, parts, make_job(session, parts, user), read_answer(200, response()))
    move_clock(session, ahead=timedelta(days=32))
    assert state(session, user).spent == 0


def test_months_begin_at_midnight_utc() -> None:
    start, end = budgets.month_of(datetime(2026, 12, 31, 23, 30, tzinfo=UTC))
    assert (start, end) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    east = datetime.fromisoformat("2027-01-01T00:30:00+01:00")  # still December there where the money is counted
    assert budgets.month_of(east)[0] == start


def test_an_overrun_is_shown_and_nothing_more_is_admitted(session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    finish(session, parts, job, read_answer(200, response()))
    give(session, user, Decimal("0.00005"))
    now = state(session, user)
    assert (now.overrun, now.left) == (Decimal("0.00015"), Decimal("-0.00015"))
    with pytest.raises(OverBudget, match=r"\$0\.000000 is left"):
        make_job(session, parts, user)


@pytest.mark.parametrize("lacks", ["price", "limit"])
def test_what_has_no_ceiling_is_refused_under_a_budget_and_only_there(
    session: Session, parts: Parts, user: User, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    document = make_document(session, user)
    prices = PriceList([]) if lacks == "price" else parts.prices
    if lacks == "limit":
        del parts.profiles.get("pdf_summary").request.body["max_output_tokens"]

    def run() -> list[int]:
        return jobs.create_jobs(
            session, parts.settings, parts.profiles, prices, user=user, profile_id="pdf_summary",
            runs=[{"document": document.id}],
        )  # fmt: skip

    [job_id] = run()
    assert session.get_one(JobRequest, job_id).ceiling is None
    give(session, user, Decimal(1000))
    with pytest.raises(OverBudget, match="nobody can say what this may cost"):
        run()


def test_a_deadline_job_reserves_what_it_costs_when_it_has_to_run_now(
    session: Session, parts: Parts, user: User
) -> None:  # fmt: skip
    need_by = (clock(session) + timedelta(hours=8)).isoformat()
    now, batch, deadline = (
        ceiling_of(session, make_job(session, parts, user, **values))
        for values in (
            {},
            {"executionMode": "batch"},
            {"executionMode": "batch", "batchStrategy": "deadline", "needBy": need_by},
        )
    )
    assert now == 2 * batch == deadline


def test_an_administrator_sets_changes_and_removes_a_budget(session: Session, parts: Parts, user: User) -> None:
    admin = make_user(session, "admin@example.org", role="admin")
    for amount in ("25", "$1,000.50"):
        budget = budgets.set_budget(
            session,
            parts.profiles,
            email=" ALICE@example.org",
            profile_id="",
            amount=amount,
            user=admin,
            reason="trial",
        )
    assert (budget.user_id, budget.monthly_amount) == (user.id, Decimal("1000.5"))
    budgets.remove_budget(session, budget.id, user=admin, reason="over")
    assert budgets.list_budgets(session) == []
    deeds = session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
    assert deeds == ["set_budget", "set_budget", "remove_budget"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"email": "nobody@example.org"}, "email"), ({"profile_id": "nothing"}, "profile"), ({}, "email"),
        ({"email": "alice@example.org", "profile_id": "pdf_summary"}, "email"),
        ({"email": "alice@example.org", "amount": "much"}, "amount"),
        ({"email": "alice@example.org", "amount": "NaN"}, "amount"),
        ({"email": "alice@example.org", "amount": "-1"}, "amount"),
        ({"email": "alice@example.org", "amount": "2,50"}, "amount"),  # a decimal comma is no 250
        ({"email": "alice@example.org", "amount": "1e-99999"}, "amount"),
        ({"email": "alice@example.org", "amount": "10000000.01"}, "amount"),
        ({"email": "alice@example.org", "reason": " "}, "reason"),
    ],
)  # fmt: skip
def test_a_budget_that_makes_no_sense_is_refused_at_its_field(
    session: Session, parts: Parts, user: User, given: dict[str, str], field: str
) -> None:
    values = {"email": "", "profile_id": "", "amount": "10", "reason": "why"} | given
    with pytest.raises(InvalidInput) as refused:
        budgets.set_budget(session, parts.profiles, user=user, **values)
    assert list(refused.value.errors) == [field]
    assert budgets.list_budgets(session) == []


def test_repeating_a_job_reserves_as_the_first_time_did(session: Session, parts: Parts, user: User) -> None:
    admin = make_user(session, "admin@example.org", role="admin")
    job = make_job(session, parts, user)
    jobs.cancel_job(session, job, actor="test")
    give(session, user, ceiling_of(session, job))
    control.retry_job(session, job.id, user=admin, reason="again")
    assert state(session, user).left == 0
    other = make_user(session, "bob@example.org")
    theirs = make_job(session, parts, other)
    jobs.cancel_job(session, theirs, actor="test")
    give(session, other, Decimal(0))
    with pytest.raises(OverBudget, match=r"the budget of bob@example\.org"):
        control.retry_job(session, theirs.id, user=admin, reason="again")
    session.rollback()
    assert session.scalar(select(func.count()).where(Job.retry_of == theirs.id)) == 0


STEPS = st.lists(
    st.tuples(st.sampled_from(["submit", "cancel", "answer", "refuse", "roll_up"]), st.integers(0, 5)), max_size=14
)


@settings(
    max_examples=30, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(steps=STEPS, room=st.integers(1, 4))
def test_whatever_happens_no_more_is_admitted_than_fits(
    tables: Engine, parts: Parts, steps: list[tuple[str, int]], room: int
) -> None:
    """Spent, reserved and left always add up, and a submit is admitted exactly when its ceiling fits."""
    with Session(tables) as session:
        empty_tables(session, parts)
        user = make_user(session)
        document_id = make_document(session, user).id
        price = ceiling_of(session, make_jobs_then_cancel(session, parts, user))
        give(session, user, room * price)
        open_jobs: list[int] = []
        answered = 0
        for step, which in steps:
            if step == "submit":
                fits = answered * Decimal("0.0002") + (len(open_jobs) + 1) * price <= room * price
                try:
                    open_jobs += submit(session, parts, user.id, document_id)
                    assert fits
                except OverBudget:
                    session.rollback()
                    assert not fits
            elif step == "roll_up":
                costs.roll_up(session)
            elif open_jobs:
                job = session.get_one(Job, open_jobs.pop(which % len(open_jobs)), populate_existing=True)
                if step == "cancel":
                    jobs.cancel_job(session, job, actor="test")
                elif step == "answer":
                    finish(session, parts, job, read_answer(200, response(f"- Answer {job.id}.")))
                    answered += 1
                else:
                    finish(session, parts, job, read_answer(400, {"error": {"message": f"no {job.id}"}}))
            now = state(session, user)
            assert (now.spent, now.reserved) == (answered * Decimal("0.0002"), len(open_jobs) * price)


def make_jobs_then_cancel(session: Session, parts: Parts, user: User) -> Job:
    job = session.get_one(Job, make_jobs(session, parts, user, 1)[0])
    jobs.cancel_job(session, job, actor="test")
    return job
