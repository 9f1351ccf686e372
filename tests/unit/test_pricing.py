from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from webapp.config import ROOT
from webapp.domain.answers import Usage
from webapp.domain.pricing import PriceEntry, PriceList, UnitPrices
from webapp.domain.states import ExecutionMode


def entry(model: str, year: int, price: str) -> PriceEntry:
    unit = UnitPrices(input=Decimal(price), output=Decimal(price))
    return PriceEntry(model=model, valid_from=datetime(year, 1, 1, tzinfo=UTC), sync=unit, batch=unit)


def test_cost_is_exact() -> None:
    unit = UnitPrices(input=Decimal("0.10"), cached_input=Decimal("0.01"), output=Decimal("0.50"))
    usage = Usage(input_tokens=1_000_003, output_tokens=7, cached_input_tokens=3)
    assert unit.cost(usage) == Decimal("0.10000353")


def test_without_a_cached_price_cached_tokens_cost_what_input_costs() -> None:
    unit = UnitPrices(input=Decimal("0.40"), output=Decimal("1"))
    assert unit.cost(Usage(1_000_000, 0, cached_input_tokens=400_000)) == Decimal("0.40")


def test_the_price_is_the_one_valid_at_the_time() -> None:
    prices = PriceList([entry("m", 2025, "1"), entry("m", 2026, "2")])
    at = {
        year: prices.unit_prices("m", ExecutionMode.SYNC, datetime(year, 6, 1, tzinfo=UTC))
        for year in (2024, 2025, 2026)
    }
    assert (at[2024], at[2025] and at[2025].input, at[2026] and at[2026].input) == (None, Decimal(1), Decimal(2))


def test_the_bundled_prices_load_and_batch_is_half_of_sync() -> None:
    prices = PriceList.load(ROOT / "prices.json")
    now = datetime(2026, 11, 24, tzinfo=UTC)
    sync, batch = (prices.unit_prices("gpt-6-luna", mode, now) for mode in ExecutionMode)
    assert sync is not None
    assert batch is not None
    assert (sync.input, sync.output) == (2 * batch.input, 2 * batch.output) == (Decimal("0.10"), Decimal("0.50"))
