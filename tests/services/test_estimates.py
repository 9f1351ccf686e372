"""Before submit: tokens, costs and when a batch is back, calibrated by what really happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from tests.conftest import ROOT
from tests.factories import (
    end_batch,
    items_of,
    make_document,
    make_job,
    make_submitted_window,
    make_user,
    output_line,
    response,
)
from webapp.domain.answers import read_answer
from webapp.domain.estimates import MOST_COUNTED, TOKENS_PER_BYTE, Calibration, Estimate, Size, cost, estimate, size_of
from webapp.domain.pricing import PriceList
from webapp.domain.rendering import to_json
from webapp.domain.states import BatchStrategy, ExecutionMode
from webapp.models import Job, JobRequest, Queue, User
from webapp.parts import Parts
from webapp.services import batch_ingest, estimates, jobs, runs
from webapp.services.clock import clock, move_clock
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


def answer(session: Session, parts: Parts, job: Job, input_tokens: int, output_tokens: int) -> None:
    body = response(f"- Job {job.id}.", usage={"input_tokens": input_tokens, "output_tokens": output_tokens})
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id=f"e{job.id}")
    record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=1, execution_id=f"e{job.id}",
        answer=read_answer(200, body), raw={}, elapsed_ms=1,
    )  # fmt: skip


def prepared(session: Session, parts: Parts, user: User, **values: object) -> runs.Run:
    profile = parts.profiles.get("pdf_summary")
    document = make_document(session, user)
    [run] = runs.prepare(session, parts.settings, profile, [{"document": document.id, **values}], user, clock(session))
    return run


def quoted(session: Session, parts: Parts, run: runs.Run) -> estimates.Quote:
    calibration = estimates.calibrate(session, "pdf_summary")
    return estimates.quote(parts.settings, parts.prices, run, calibration, clock(session))


def test_without_experience_the_likely_cost_is_unknown_and_the_ceiling_is_known(
    session: Session, parts: Parts, user: User
) -> None:  # fmt: skip
    run = prepared(session, parts, user)
    found = quoted(session, parts, run)
    assert found.estimate.input_tokens == round(run.size.body_bytes * TOKENS_PER_BYTE)
    assert (found.now.likely, found.batch.likely) == (None, None)
    assert found.now.ceiling == 2 * found.batch.ceiling
    # counted high: a token for every two bytes, as if written to the cache, and all the output that is allowed
    assert found.now.ceiling == (run.size.most_input_tokens * Decimal("0.125") + 1500 * Decimal("0.50")) / 1_000_000


def test_recorded_usage_calibrates_tokens_and_cost(session: Session, parts: Parts, user: User) -> None:
    run = prepared(session, parts, user)
    size = run.size.body_bytes
    for tokens, output in ((size, 100), (2 * size, 300), (2 * size, 200)):
        answer(session, parts, make_job(session, parts, user), tokens, output)
    found = quoted(session, parts, run)
    assert (found.estimate.input_tokens, found.estimate.output_tokens) == (2 * size, 200)
    assert found.now.likely == (2 * size * Decimal("0.10") + 200 * Decimal("0.50")) / 1_000_000
    assert found.batch.likely == found.now.likely / 2


def test_the_page_can_say_how_good_estimates_have_been(session: Session, parts: Parts, user: User) -> None:
    size = prepared(session, parts, user).size.body_bytes
    for _ in range(3):
        answer(session, parts, make_job(session, parts, user), size, 100)
    assert estimates.calibrate(session, "pdf_summary").judged == 0  # these had no experience to be estimated by
    for factor in (1, 1, 2):
        answer(session, parts, make_job(session, parts, user), factor * size, factor * 100)
    calibration = estimates.calibrate(session, "pdf_summary")
    assert calibration.judged == 3
    assert calibration.typical_error == pytest.approx(0, abs=0.01)
    assert calibration.high_error == pytest.approx(0.4, abs=0.02)  # between right and half of what it was


def test_what_was_said_is_kept_with_the_job(session: Session, parts: Parts, user: User) -> None:
    size = prepared(session, parts, user).size.body_bytes
    for _ in range(3):
        answer(session, parts, make_job(session, parts, user), size, 100)
    request = session.get_one(JobRequest, make_job(session, parts, user).id)
    assert (request.estimated_input_tokens, request.estimated_output_tokens) == (size, 100)
    assert request.estimated_amount == (size * Decimal("0.10") + 100 * Decimal("0.50")) / 1_000_000
    assert request.max_output_tokens == 1500


def test_another_profile_s_answers_calibrate_nothing(session: Session, parts: Parts, user: User) -> None:
    for _ in range(3):
        answer(session, parts, make_job(session, parts, user), 5000, 100)
    assert estimates.calibrate(session, "text_classification") == Calibration()


def test_a_batch_is_back_when_it_opens_plus_a_usual_ride(session: Session, parts: Parts, user: User) -> None:
    window = make_submitted_window(session, parts, user, 3)
    move_clock(session, ahead=timedelta(minutes=30))
    lease = end_batch(session, parts, window, "completed", output=[output_line(i) for i in items_of(session, window)])
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    joining = [prepared(session, parts, user, executionMode="batch")] * 3
    found = outlook(session, parts, joining)
    assert found.windows == 1
    assert found.ride is not None
    assert timedelta(minutes=30) <= found.ride < timedelta(minutes=31)
    assert found.opens_at is not None  # three fill a window: it opens at once
    assert found.back_at == found.opens_at + found.ride


def outlook(session: Session, parts: Parts, joining: list[runs.Run]) -> estimates.Outlook:
    first, count, now = joining[0], len(joining), clock(session)
    return estimates.outlook(session, parts.settings, parts.profiles, first, count, "pdf_summary", now)


def test_when_nobody_knows_when_a_window_opens_nobody_says_when_it_is_back(
    session: Session, parts: Parts, user: User
) -> None:  # fmt: skip
    run = prepared(session, parts, user, executionMode="batch")
    found = outlook(session, parts, [run])
    assert (found.state.queued, found.state.size, found.opens_at, found.ride, found.back_at) == (1, 3, None, None, None)
    waits = prepared(session, parts, user, executionMode="batch", batchStrategy="count_or_wait")
    found = outlook(session, parts, [waits])
    assert found.opens_at is not None
    assert timedelta(minutes=59) < found.opens_at - clock(session) <= timedelta(hours=1)
    assert found.back_at is None  # no window of this queue has come back yet


def test_a_held_queue_promises_nothing(session: Session, parts: Parts, user: User) -> None:
    make_job(session, parts, user, executionMode="batch")
    session.query(Queue).update({"held_at": clock(session)})
    session.commit()
    joining = [prepared(session, parts, user, executionMode="batch")] * 3
    assert outlook(session, parts, joining).opens_at is None


def test_a_profile_that_names_its_model_is_priced_by_it(session: Session, parts: Parts, user: User) -> None:
    parts.profiles.get("pdf_summary").request.body["model"] = "gpt-6-astra"
    run = prepared(session, parts, user)
    assert run.model == "gpt-6-astra"
    found = quoted(session, parts, run)
    assert found.now.ceiling == (run.size.most_input_tokens * Decimal("12.5") + 1500 * Decimal(50)) / 1_000_000


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"max_output_tokens": 700}, 700), ({"max_completion_tokens": 50}, 50), ({"max_tokens": 60}, 60),
        ({"max_tokens": 60, "n": 3}, 180), ({}, None), ({"max_output_tokens": "700"}, None),
        ({"max_output_tokens": 0}, None), ({"max_output_tokens": True}, None), ({"max_output_tokens": 10**12}, None),
    ],
)  # fmt: skip
def test_the_limit_of_the_output_is_read_from_either_kind_of_request(body: dict[str, object], most: int | None) -> None:
    assert size_of(body, to_json(body), 0).max_output_tokens == most


def test_the_estimate_never_says_more_output_than_the_limit() -> None:
    size = Size(body_bytes=400, file_pages=2, most_input_tokens=6200, max_output_tokens=50)
    found = estimate(size, Calibration(10, 0.5, 1000.0, 90))
    assert (found.input_tokens, found.output_tokens) == (2200, 50)
    unlimited = Size(400, 0, 200, None)
    assert (
        cost(PriceList([]), "m", ExecutionMode.SYNC, datetime(2026, 11, 24, tzinfo=UTC), unlimited, found).ceiling
        is None
    )


def test_a_deadline_keeps_its_strategy_in_the_quote(session: Session, parts: Parts, user: User) -> None:
    need_by = (clock(session) + timedelta(hours=8)).isoformat()
    run = prepared(session, parts, user, executionMode="batch", batchStrategy="deadline", needBy=need_by)
    found = quoted(session, parts, run)
    assert run.strategy is BatchStrategy.DEADLINE
    assert found.own.ceiling == found.now.ceiling != found.batch.ceiling


def test_a_service_tier_that_the_request_asks_for_is_not_quoted_at_the_list_price() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    prices = PriceList.load(ROOT / "prices.json")
    body = {"model": "gpt-6-luna", "service_tier": "priority", "max_output_tokens": 50}
    size = size_of(body, to_json(body), 0)
    sync, batch = (
        cost(prices, "gpt-6-luna", mode, now, size, Estimate(100, 50))
        for mode in (ExecutionMode.SYNC, ExecutionMode.BATCH)
    )
    assert (sync.likely, sync.ceiling) == (None, None)  # prices.json has no priority prices
    assert batch.ceiling is not None  # a batch has no tiers


def test_what_a_provider_claims_makes_no_figure_that_cannot_be_stored(
    session: Session, parts: Parts, user: User
) -> None:  # fmt: skip
    for _ in range(3):
        answer(session, parts, make_job(session, parts, user), 9_999_999_999, 9_999_999_999)
    document = make_document(session, user, "x" * 30_000_000)
    [job_id] = jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="pdf_summary",
        runs=[{"document": document.id}],
    )  # fmt: skip
    assert session.get_one(JobRequest, job_id).estimated_input_tokens == MOST_COUNTED
