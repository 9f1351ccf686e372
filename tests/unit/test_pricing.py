from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

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


def unit(price: str = "1", **more: str) -> UnitPrices:
    return UnitPrices(
        input=Decimal(price), output=Decimal(price), **{key: Decimal(value) for key, value in more.items()}
    )


NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_cache_writes_cost_more_than_plain_input() -> None:
    prices = unit("1", cached_input="0.1", cache_write="1.25", long_cache_write="2.5")
    usage = Usage(10, 0, cached_input_tokens=2, cache_write_tokens=5, long_cache_write_tokens=1)
    # 3 plain, 2 read from the cache, 4 written for 30 minutes, 1 for 12 hours
    assert prices.cost(usage) == (3 + Decimal("0.2") + 4 * Decimal("1.25") + Decimal("2.5")) / 1_000_000
    assert prices.cache_write_price(usage) == Decimal("1.5")


def test_a_kind_of_tokens_without_a_price_is_unknown() -> None:
    assert unit("1").cost(Usage(10, 0, cache_write_tokens=5, long_cache_write_tokens=1)) is None


def test_a_long_request_costs_more_all_of_it() -> None:
    prices = PriceList([
        PriceEntry(model="m", valid_from=datetime(2026, 1, 1, tzinfo=UTC), sync=unit("1", cached_input="0.1"),
                   batch=unit("0.5"), long_context={"above": 272_000, "input": 2, "output": Decimal("1.5")})
    ])  # fmt: skip
    found = {
        tokens: prices.unit_prices("m", ExecutionMode.SYNC, NOW, input_tokens=tokens) for tokens in (272_000, 272_001)
    }
    assert found[272_000] == unit("1", cached_input="0.1")
    assert found[272_001] == UnitPrices(input=Decimal(2), cached_input=Decimal("0.2"), output=Decimal("1.5"))


@pytest.mark.parametrize(("tier", "price"), [("default", "1"), (None, "1"), ("priority", "3"), ("flex", None)])
def test_a_service_tier_has_its_own_price_or_none(tier: str | None, price: str | None) -> None:
    prices = PriceList([
        PriceEntry(model="m", valid_from=datetime(2026, 1, 1, tzinfo=UTC), sync=unit("1"), batch=unit("0.5"),
                   tiers={"priority": unit("3")})
    ])  # fmt: skip
    found = prices.unit_prices("m", ExecutionMode.SYNC, NOW, tier=tier)
    assert found == (unit(price) if price else None)
    assert prices.unit_prices("m", ExecutionMode.BATCH, NOW, tier=tier) == unit("0.5")


def price_file(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"prices": entries}))
    return path


def listed(model: str, since: str, price: float) -> dict[str, Any]:
    return {"model": model, "validFrom": f"{since}T00:00:00Z", "sync": {"input": price, "output": price},
            "batch": {"input": price, "output": price}}  # fmt: skip


def test_an_override_ends_the_list_for_its_model_from_its_first_entry_on(tmp_path: Path) -> None:
    bundled = price_file(tmp_path / "list.json", listed("a", "2026-01-01", 1), listed("a", "2026-09-01", 9),
                         listed("b", "2026-01-01", 1))  # fmt: skip
    own = price_file(tmp_path / "own.json", listed("a", "2026-06-01", 5))
    prices = PriceList.load(bundled, own)

    def price(model: str, month: int) -> Decimal:
        found = prices.unit_prices(model, ExecutionMode.SYNC, datetime(2026, month, 2, tzinfo=UTC))
        assert found
        return found.input

    assert [price("a", month) for month in (1, 6, 10)] == [1, 5, 5]
    assert price("b", 10) == 1


def test_a_deployment_costs_what_its_model_costs_also_after_a_change(tmp_path: Path) -> None:
    same = {"model": "my-deployment", "validFrom": "2026-01-01T00:00:00Z", "sameAs": "a"}
    prices = PriceList.load(
        price_file(tmp_path / "p", listed("a", "2026-01-01", 1), listed("a", "2026-09-01", 9), same)
    )
    found = [
        prices.unit_prices("my-deployment", ExecutionMode.BATCH, datetime(2026, month, 2, tzinfo=UTC))
        for month in (2, 10)
    ]
    assert [unit and unit.input for unit in found] == [1, 9]


def test_two_names_for_each_other_have_no_price(tmp_path: Path) -> None:
    circle = [{"model": a, "validFrom": "2026-01-01T00:00:00Z", "sameAs": b} for a, b in ("xy", "yx")]
    prices = PriceList.load(price_file(tmp_path / "p", *circle))
    assert prices.unit_prices("x", ExecutionMode.SYNC, NOW) is None


def test_an_entry_has_prices_or_the_name_of_one_that_has(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="either sameAs, or prices"):
        PriceList.load(price_file(tmp_path / "p", {"model": "a", "validFrom": "2026-01-01T00:00:00Z"}))


def test_an_announced_shutdown_is_known_by_model_and_by_deployment() -> None:
    prices = PriceList.load(ROOT / "prices.json")
    assert prices.shutdown_of("gpt-5-mini") == date(2026, 12, 11)
    assert prices.shutdown_of("gpt-6-luna") is None
