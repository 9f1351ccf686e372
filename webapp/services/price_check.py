"""Is the price list right? What `flask prices check` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.pricing import PriceList, UnitPrices
from webapp.domain.states import ExecutionMode
from webapp.models import LedgerEntry
from webapp.services.clock import clock
from webapp.services.ledger import LOST_KEY, is_unknown
from webapp.services.registry import Profiles
from webapp.services.shutdowns import models_of, shutdowns


@dataclass(frozen=True)
class Finding:
    is_wrong: bool  # False: worth knowing
    sentence: str


def check_prices(session: Session, settings: Settings, profiles: Profiles, prices: PriceList) -> list[Finding]:
    """What is wrong with the price list, or will be."""
    now = clock(session)
    return [
        *(Finding(True, sentence) for sentence in _doubled(prices)),
        *(Finding(True, sentence) for sentence in _dangling(prices, now)),
        *(Finding(True, sentence) for sentence in _missing(settings, profiles, prices, now)),
        *(Finding(True, sentence) for sentence in _edited(session, prices)),
        *(Finding(False, sentence) for sentence in _unknown(session)),
        *_going(session, settings, profiles, prices),
    ]


def _doubled(prices: PriceList) -> Iterator[str]:
    for (model, moment), count in Counter((entry.model, entry.valid_from) for entry in prices).items():
        if count > 1:
            yield f"{model} has {count} entries from {moment.isoformat()} on: which of them is meant?"


def _dangling(prices: PriceList, now: datetime) -> Iterator[str]:
    for entry in prices:
        since = max(now, entry.valid_from)
        if entry.same_as and prices.unit_prices(entry.model, ExecutionMode.SYNC, since) is None:
            yield f"{entry.model} shall cost the same as {entry.same_as}, which has no price."


def _missing(settings: Settings, profiles: Profiles, prices: PriceList, now: datetime) -> Iterator[str]:
    for profile in profiles:
        for mode, model in models_of(profile, settings).items():
            if prices.unit_prices(model, mode, now) is None:
                yield f"{model}, which answers {profile.id} in {mode}, has no price: its costs are unknown."


def _edited(session: Session, prices: PriceList) -> Iterator[str]:
    """Entries of the ledger that the list of today would price otherwise: it was edited, not continued."""
    kinds = (LedgerEntry.model, LedgerEntry.execution_mode, LedgerEntry.service_tier, LedgerEntry.input_price,
             LedgerEntry.cached_input_price, LedgerEntry.output_price)  # fmt: skip
    rows = session.execute(
        select(*kinds, func.count(), func.min(LedgerEntry.answered_at), func.max(LedgerEntry.answered_at))
        .where(LedgerEntry.amount.is_not(None))
        .group_by(*kinds)
        .order_by(*kinds)
    )
    for model, mode, tier, *paid, count, first, last in rows:
        for at in dict.fromkeys((first, last)):
            listed = [prices.unit_prices(model or "", mode, at, tier=tier, input_tokens=most) for most in (0, 10**9)]
            if tuple(paid) not in [_figures(unit) for unit in listed if unit]:
                yield (
                    f"{count} answers of {model} ({mode}) were paid at {paid[0]:f} / {paid[2]:f} USD per million "
                    f"tokens (in / out), but the list says something else for {at.isoformat()}: it was edited. "
                    "Add an entry with a later validFrom instead."
                )
                break


def _figures(unit: UnitPrices) -> tuple[Any, ...]:
    return unit.input, unit.cached_input, unit.output


def _unknown(session: Session) -> Iterator[str]:
    rows = session.execute(
        select(LedgerEntry.model, func.count(), func.count(LedgerEntry.input_tokens))
        .where(is_unknown(), LedgerEntry.answer_key != LOST_KEY)
        .group_by(LedgerEntry.model)
        .order_by(LedgerEntry.model)
    )
    for model, count, with_usage in rows:
        without = f", {count - with_usage} because the provider reported no tokens" if count > with_usage else ""
        yield f"{count} answers of {model} have an unknown cost{without}."


def _going(session: Session, settings: Settings, profiles: Profiles, prices: PriceList) -> Iterator[Finding]:
    for one in shutdowns(session, settings, prices, profiles, clock(session)):
        when = "was switched off on" if one.has_happened else "will be switched off on"
        yield Finding(one.has_happened, f"{one.model}, which answers {one.profile.id}, {when} {one.on:%d %b %Y}.")
