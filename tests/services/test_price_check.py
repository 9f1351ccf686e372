"""`flask prices check`, and the models that the provider will switch off."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import end_batch, items_of, make_job, make_submitted_window, make_user, output_line, response
from tests.fakes import FakeProviderModels
from webapp.domain.answers import read_answer
from webapp.domain.errors import UnavailableService
from webapp.domain.pricing import PriceEntry, PriceList, Shutdown, UnitPrices
from webapp.models import LedgerEntry
from webapp.parts import Parts
from webapp.services import batch_ingest, shutdowns
from webapp.services.clock import clock
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer
from webapp.services.price_check import check_prices

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def entry(price: str, since: datetime = LONG_AGO, model: str = "gpt-6-luna", **more: object) -> PriceEntry:
    unit = UnitPrices(input=Decimal(price), output=Decimal(price))
    return PriceEntry(model=model, valid_from=since, sync=unit, batch=unit, **more)


def said(session: Session, parts: Parts, prices: PriceList) -> list[str]:
    return [finding.sentence for finding in check_prices(session, parts.settings, parts.profiles, prices)]


def pay(session: Session, parts: Parts, prices: PriceList, **body: object) -> None:
    job = make_job(session, parts, make_user(session))
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e1")
    record_answer(
        session, parts.settings, prices, job_id=job.id, attempt=1, execution_id="e1",
        answer=read_answer(200, response(**body)), raw={}, elapsed_ms=1,
    )  # fmt: skip


def test_the_bundled_list_is_right(session: Session, parts: Parts) -> None:
    assert said(session, parts, parts.prices) == []


def test_an_edited_price_is_noticed_and_a_new_entry_is_not(session: Session, parts: Parts) -> None:
    pay(session, parts, PriceList([entry("1")]))
    [sentence] = said(session, parts, PriceList([entry("2")]))
    assert "1 answers of gpt-6-luna (sync) were paid at 1" in sentence
    assert "it was edited" in sentence
    assert said(session, parts, PriceList([entry("1"), entry("2", clock(session) + timedelta(seconds=1))])) == []


def test_a_long_request_was_not_paid_at_an_edited_price(session: Session, parts: Parts) -> None:
    prices = PriceList([entry("1", long_context={"above": 100, "input": 2, "output": 2})])
    pay(session, parts, prices)
    assert session.scalars(select(LedgerEntry.input_price)).one() == 2
    assert said(session, parts, prices) == []


def test_two_entries_for_one_moment_and_a_name_without_a_price_are_named(session: Session, parts: Parts) -> None:
    alias = PriceEntry(model="mine", valid_from=LONG_AGO, same_as="theirs")
    found = said(session, parts, PriceList([entry("1"), entry("2"), alias]))
    assert any("gpt-6-luna has 2 entries" in sentence for sentence in found)
    assert any("mine shall cost the same as theirs, which has no price" in sentence for sentence in found)


def test_a_profile_without_a_price_is_named(session: Session, parts: Parts) -> None:
    found = said(session, parts, PriceList([]))
    assert "gpt-6-luna, which answers pdf_summary in batch, has no price: its costs are unknown." in found


def test_answers_of_unknown_cost_are_counted(session: Session, parts: Parts) -> None:
    pay(session, parts, PriceList([]))
    found = said(session, parts, parts.prices)
    assert found == ["1 answers of gpt-6-luna have an unknown cost."]


@pytest.mark.parametrize("tier", ["priority", "default"])
def test_a_tier_without_a_price_is_unknown_never_the_list_price(session: Session, parts: Parts, tier: str) -> None:
    pay(session, parts, parts.prices, service_tier=tier)
    amount = session.scalars(select(LedgerEntry.amount)).one()
    assert amount == (None if tier == "priority" else Decimal("0.0002"))


def test_each_entry_of_a_window_has_the_price_of_its_answer_s_own_time(session: Session, parts: Parts) -> None:
    """The price changes while the provider works on the window; the answers say when they were made."""
    window = make_submitted_window(session, parts, make_user(session))
    now = clock(session)
    change = now - timedelta(seconds=30)
    prices = PriceList([entry("1"), entry("3", change)])
    items = items_of(session, window)
    seconds = [int((change + timedelta(seconds=offset)).timestamp()) for offset in (-20, 20)]
    lines = [
        output_line(items[0], response("- One.", created_at=seconds[0])),
        output_line(items[1], response("- Two.", created_at=seconds[1])),
        output_line(items[2], response("- Three.")),  # it does not say: the time of the ingest counts
    ]
    lease = end_batch(session, parts, window, "completed", output=lines)
    batch_ingest.ingest_window(session, parts.settings, prices, parts.files, window_id=window.id, token=lease.token)
    paid = session.execute(
        select(LedgerEntry.input_price, LedgerEntry.answered_at).order_by(LedgerEntry.job_id)
    ).all()  # fmt: skip
    assert [price for price, _ in paid] == [1, 3, 3]
    assert [at.timestamp() for _, at in paid[:2]] == seconds
    assert paid[2].answered_at >= now


@pytest.mark.parametrize("created_at", [0, 1, 4_000_000_000, "soon", None, -5, 1e300])
def test_a_time_that_cannot_be_the_answer_s_is_not_believed(session: Session, parts: Parts, created_at: object) -> None:
    before = clock(session)
    pay(session, parts, parts.prices, created_at=created_at)
    assert session.scalars(select(LedgerEntry.answered_at)).one() >= before


def test_the_provider_s_own_word_for_a_shutdown_counts(session: Session, parts: Parts) -> None:
    today = clock(session).date()
    models = FakeProviderModels()
    models.announced = {"gpt-6-luna": today + timedelta(days=17), "other": None}
    assert shutdowns.refresh(session, models) == 2
    found = shutdowns.shutdowns(session, parts.settings, parts.prices, parts.profiles, clock(session))
    assert {(one.profile.id, one.model, one.days) for one in found} == {
        ("pdf_summary", "gpt-6-luna", 17), ("text_classification", "gpt-6-luna", 17),
    }  # fmt: skip
    assert any("will be switched off on" in sentence for sentence in said(session, parts, parts.prices))
    models.announced = {"gpt-6-luna": None}
    shutdowns.refresh(session, models)
    assert shutdowns.shutdowns(session, parts.settings, parts.prices, parts.profiles, clock(session)) == []


def test_a_provider_that_does_not_say_leaves_it_to_the_price_list(session: Session, parts: Parts) -> None:
    today = clock(session).date()
    prices = PriceList([entry("1")], [Shutdown(model="gpt-6-luna", on=today - timedelta(days=1))])
    found = shutdowns.shutdowns(session, parts.settings, prices, parts.profiles, clock(session))
    assert {one.has_happened for one in found} == {True}
    far = PriceList([entry("1")], [Shutdown(model="gpt-6-luna", on=date(2099, 1, 1))])
    assert shutdowns.shutdowns(session, parts.settings, far, parts.profiles, clock(session)) == []


def test_a_provider_that_is_down_takes_nothing_away(session: Session, parts: Parts) -> None:
    models = FakeProviderModels()
    models.announced = {"gpt-6-luna": clock(session).date()}
    shutdowns.refresh(session, models)
    models.is_down = True
    with pytest.raises(UnavailableService):
        shutdowns.refresh(session, models)
    assert shutdowns.shutdowns(session, parts.settings, parts.prices, parts.profiles, clock(session))


def test_a_model_whose_name_cannot_be_stored_takes_no_other_away(session: Session, parts: Parts) -> None:
    models = FakeProviderModels()
    models.announced = {"gpt-6-luna": clock(session).date(), "nul\x00": None, "long" * 1000: None}
    assert shutdowns.refresh(session, models) == 1
    assert shutdowns.shutdowns(session, parts.settings, parts.prices, parts.profiles, clock(session))
    models.announced = {"nul\x00": None}
    assert shutdowns.refresh(session, models) == 0


def test_on_azure_each_mode_is_looked_at_by_its_deployment(session: Session, parts: Parts) -> None:
    settings = parts.settings.model_copy(update={"batch_model": "my-batch"})
    prices = PriceList([
        entry("1"), PriceEntry(model="my-batch", valid_from=LONG_AGO, same_as="gpt-6-luna"),
    ], [Shutdown(model="gpt-6-luna", on=clock(session).date())])  # fmt: skip
    found = shutdowns.shutdowns(session, settings, prices, parts.profiles, clock(session))
    assert {one.model for one in found} == {"gpt-6-luna", "my-batch"}
