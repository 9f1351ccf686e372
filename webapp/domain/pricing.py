"""Prices and costs: Decimal USD, never floats. A cost that cannot be known is None ("unknown"), never 0."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic.alias_generators import to_camel

from webapp.domain.answers import Usage
from webapp.domain.states import ExecutionMode

MILLION = Decimal(1_000_000)
PLAIN_TIERS = frozenset({None, "auto", "default", "standard"})  # service tiers that cost the list price
Price = Annotated[Decimal, Field(ge=0)]
# In Python's own UTC: to compare moments of two time zones takes ten times as long, and each job compares several.
Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class UnitPrices(_Part):
    """USD per million tokens. Without a price of their own, cached and cache-written tokens cost what input costs."""

    input: Price
    cached_input: Price | None = None
    cache_write: Price | None = None  # kept for 30 minutes
    long_cache_write: Price | None = None  # kept for 12 hours
    output: Price

    def cost(self, usage: Usage) -> Decimal | None:
        """USD for these tokens, exact; None when a kind of them has no price."""
        long_written = usage.long_cache_write_tokens
        if long_written and self.long_cache_write is None:
            return None
        written = usage.cache_write_tokens - long_written
        plain = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
        return (
            plain * self.input
            + usage.cached_input_tokens * _or(self.cached_input, self.input)
            + written * _or(self.cache_write, self.input)
            + long_written * _or(self.long_cache_write, self.input)
            + usage.output_tokens * self.output
        ) / MILLION

    def cache_write_price(self, usage: Usage) -> Decimal | None:
        """USD per million of this answer's cache-written tokens, both kinds together."""
        if not usage.cache_write_tokens:
            return None
        long_written = usage.long_cache_write_tokens
        short = (usage.cache_write_tokens - long_written) * _or(self.cache_write, self.input)
        return (short + long_written * _or(self.long_cache_write, self.input)) / usage.cache_write_tokens

    def times(self, input_factor: Decimal, output_factor: Decimal) -> UnitPrices:
        """These prices, with everything that is input and everything that is output multiplied."""
        factors = {name: output_factor if name == "output" else input_factor for name in UnitPrices.model_fields}
        prices = self.model_dump(exclude_none=True)
        return UnitPrices.model_validate({name: price * factors[name] for name, price in prices.items()})


def _or(price: Decimal | None, other: Decimal) -> Decimal:
    return other if price is None else price


class LongContext(_Part):
    """A request with more input tokens than `above` costs that many times as much, all of it."""

    above: Annotated[int, Field(ge=1)]
    input: Price
    output: Price


class PriceEntry(_Part):
    """The prices of one model (or Azure deployment) from one moment on, until its next entry.

    `same_as`: a deployment that costs what that model costs.
    """

    model: str
    valid_from: Moment
    same_as: str | None = None
    sync: UnitPrices | None = None
    batch: UnitPrices | None = None
    long_context: LongContext | None = None
    tiers: dict[str, UnitPrices] = {}  # sync answers of another service tier: priority, flex …

    @model_validator(mode="after")
    def _has_prices(self) -> Self:
        if (self.same_as is None) != (self.sync is not None and self.batch is not None):
            raise ValueError("give either sameAs, or prices for sync and for batch")
        return self


class Shutdown(_Part):
    """The provider has announced that it will switch this model off."""

    model: str
    on: date


class PriceFile(_Part):
    """`prices.json`; the overrides have the same shape."""

    currency: str = "USD"
    unit: str = "per million tokens"
    source: str = ""
    prices: list[PriceEntry]
    shutdowns: list[Shutdown] = []


class PriceList:
    """All entries. A price change is a new entry, never an edit."""

    def __init__(self, entries: Iterable[PriceEntry], shutdowns: Iterable[Shutdown] = ()) -> None:
        self._by_model: dict[str, list[PriceEntry]] = {}
        for entry in sorted(entries, key=lambda entry: entry.valid_from, reverse=True):
            self._by_model.setdefault(entry.model, []).append(entry)
        self._shutdowns = {shutdown.model: shutdown.on for shutdown in shutdowns}
        self._entry = lru_cache(maxsize=1024)(self._find)  # all rows of a submission ask for the same moment's

    @classmethod
    def load(cls, path: Path, overrides: Path | None = None) -> PriceList:
        """Read the price list, and above it the operator's own one.

        For a model that the overrides name, the list ends where the first override begins: a later list cannot
        undo what was agreed. Raises pydantic's ValidationError or JSONDecodeError for a wrong file.
        """
        listed, own = _read(path), _read(overrides) if overrides else PriceFile(prices=[])
        begins: dict[str, datetime] = {}
        for entry in own.prices:
            begins[entry.model] = min(entry.valid_from, begins.get(entry.model, entry.valid_from))
        kept = [e for e in listed.prices if e.model not in begins or e.valid_from < begins[e.model]]
        return cls(kept + own.prices, [*listed.shutdowns, *own.shutdowns])

    def __iter__(self) -> Iterator[PriceEntry]:
        """All entries, by model, newest first."""
        return (entry for entries in self._by_model.values() for entry in entries)

    def unit_prices(
        self, model: str, mode: ExecutionMode, at: datetime, *, input_tokens: int = 0, tier: str | None = None
    ) -> UnitPrices | None:
        """The prices valid at `at` (aware) for a request of so many input tokens in this service tier.

        None for a model, or a tier of it, without a price. A batch has no tiers.
        """
        entry = self._entry(model, at)
        if entry is None:
            return None
        if mode is ExecutionMode.BATCH:
            prices = entry.batch
        else:
            prices = entry.sync if tier in PLAIN_TIERS else entry.tiers.get(tier or "")
        long = entry.long_context
        if prices and long and input_tokens > long.above:
            return prices.times(long.input, long.output)
        return prices

    def valid_from(self, model: str, at: datetime) -> datetime | None:
        """Since when the prices of `unit_prices` at `at` have been valid."""
        entry = self._entry(model, at)
        return entry.valid_from if entry else None

    def shutdown_of(self, model: str) -> date | None:
        """The day on which the provider switches this model off, if it has announced one."""
        entry = next(iter(self._by_model.get(model, ())), None)
        return self._shutdowns.get(model) or (self._shutdowns.get(entry.same_as or "") if entry else None)

    def _find(self, model: str, at: datetime) -> PriceEntry | None:
        at = at.astimezone(UTC)
        for _ in range(5):  # sameAs may lead on, but not in a circle
            entry = next((e for e in self._by_model.get(model, ()) if e.valid_from <= at), None)
            if entry is None or entry.same_as is None:
                return entry
            model = entry.same_as
        return None


def _read(path: Path) -> PriceFile:
    data = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    return TypeAdapter(PriceFile).validate_python(data)
