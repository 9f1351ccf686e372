"""What a run will take and cost, before it is run: calibrated by what earlier runs of its profile took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from webapp.domain.answers import Usage
from webapp.domain.pricing import MILLION, PriceList
from webapp.domain.rendering import most_input_tokens
from webapp.domain.states import ExecutionMode

TOKENS_PER_BYTE = 0.25  # English prose, until the profile's own answers say better
TOKENS_PER_PAGE = 1500.0  # of a document that is sent as a file: its text and its image
MOST_COUNTED = 2_000_000_000  # what is larger is no limit at all
ENOUGH_ANSWERS = 3  # before these, nothing is calibrated


@dataclass(frozen=True)
class Size:
    """What a rendered request says of itself."""

    body_bytes: int
    file_pages: int  # of documents that are sent as files
    most_input_tokens: int
    max_output_tokens: int | None  # None: the request sets no limit
    service_tier: str | None = None  # that the request asks for; it counts in sync only


@dataclass(frozen=True)
class Calibration:
    """What the last answers of a profile took (medians), and how far their estimates were off."""

    answers: int = 0
    tokens_per_byte: float = TOKENS_PER_BYTE
    tokens_per_page: float = TOKENS_PER_PAGE
    output_tokens: int | None = None
    judged: int = 0  # answers that had an estimate
    typical_error: float | None = None  # of the cost, as a share: 0.1 is 10 %; median
    high_error: float | None = None  # … 90th percentile


@dataclass(frozen=True)
class Estimate:
    """Tokens of one request; `output_tokens` None while nobody knows."""

    input_tokens: int
    output_tokens: int | None


@dataclass(frozen=True)
class Cost:
    """USD of one request in one mode; None = unknown: no price, no experience, or no limit."""

    likely: Decimal | None
    ceiling: Decimal | None


def size_of(body: Mapping[str, Any], body_json: str, file_pages: int) -> Size:
    """Measure a rendered request body (`body_json` is the text that is sent)."""
    tier, body_bytes = body.get("service_tier"), len(body_json.encode())
    return Size(
        body_bytes, file_pages, most_input_tokens(body_bytes, file_pages), _max_output_tokens(body),
        tier if isinstance(tier, str) else None,
    )  # fmt: skip


def _max_output_tokens(body: Mapping[str, Any]) -> int | None:
    """The limit that the request sets: Responses and Chat name it differently; Chat may ask for `n` answers."""
    answers = body.get("n", 1)
    for name in ("max_output_tokens", "max_completion_tokens", "max_tokens"):
        most = body.get(name)
        if type(most) is int and 0 < most < MOST_COUNTED:
            return min(most * (answers if type(answers) is int and 1 < answers < 1000 else 1), MOST_COUNTED)
    return None


def estimate(size: Size, calibration: Calibration) -> Estimate:
    """The tokens that this request will likely take; the output never more than its limit.

    At most MOST_COUNTED: what a provider claims of other answers must not make a figure that cannot be stored.
    """
    tokens = size.body_bytes * calibration.tokens_per_byte + size.file_pages * calibration.tokens_per_page
    output = calibration.output_tokens
    if output is not None and size.max_output_tokens is not None:
        output = min(output, size.max_output_tokens)
    return Estimate(min(round(tokens), MOST_COUNTED), None if output is None else min(output, MOST_COUNTED))


def cost(prices: PriceList, model: str, mode: ExecutionMode, at: datetime, size: Size, estimated: Estimate) -> Cost:
    """What a request will likely cost in this mode at the prices of `at`, and what it cannot exceed in one attempt.

    Cached input is never promised. The ceiling counts the input high, as if all of it were written to a cache.
    """
    likely = ceiling = None
    unit = prices.unit_prices(model, mode, at, input_tokens=estimated.input_tokens, tier=size.service_tier)
    if unit and estimated.output_tokens is not None:
        likely = unit.cost(Usage(estimated.input_tokens, estimated.output_tokens))
    most = size.most_input_tokens
    unit = prices.unit_prices(model, mode, at, input_tokens=most, tier=size.service_tier)
    if unit and size.max_output_tokens is not None:
        written = max(unit.cache_write or unit.input, unit.input)
        ceiling = (most * written + size.max_output_tokens * unit.output) / MILLION
    if likely is not None and ceiling is not None:
        likely = min(likely, ceiling)  # the experience may be of requests that were all much shorter
    return Cost(likely, ceiling)
