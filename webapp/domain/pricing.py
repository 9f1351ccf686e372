"""Prices and costs: Decimal USD, never floats. A cost that cannot be known is None ("unknown"), never 0."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from webapp.domain.answers import Usage
from webapp.domain.states import ExecutionMode

MILLION = Decimal(1_000_000)


class UnitPrices(BaseModel):
    """USD per million tokens. Without a `cached_input` price, cached tokens cost what input costs."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)
    input: Decimal = Field(ge=0)
    cached_input: Decimal | None = Field(default=None, ge=0)
    output: Decimal = Field(ge=0)

    def cost(self, usage: Usage) -> Decimal:
        """USD for these tokens, exact."""
        cached_price = self.input if self.cached_input is None else self.cached_input
        return (
            (usage.input_tokens - usage.cached_input_tokens) * self.input
            + usage.cached_input_tokens * cached_price
            + usage.output_tokens * self.output
        ) / MILLION


class PriceEntry(BaseModel):
    """The prices of one model from one moment on, until the next entry of the same model."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)
    model: str
    valid_from: AwareDatetime
    sync: UnitPrices
    batch: UnitPrices


class PriceList:
    """All entries. A price change is a new entry, never an edit."""

    def __init__(self, entries: list[PriceEntry]) -> None:
        self._entries = sorted(entries, key=lambda entry: entry.valid_from, reverse=True)

    @classmethod
    def load(cls, path: Path) -> PriceList:
        """Read `prices.json`. Raises pydantic's ValidationError or JSONDecodeError for a wrong file."""
        data = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        return cls(TypeAdapter(list[PriceEntry]).validate_python(data["prices"]))

    def unit_prices(self, model: str, mode: ExecutionMode, at: datetime) -> UnitPrices | None:
        """The prices valid at `at` (aware), or None for a model without a price."""
        for entry in self._entries:
            if entry.model == model and entry.valid_from <= at.astimezone(UTC):
                return entry.sync if mode is ExecutionMode.SYNC else entry.batch
        return None
