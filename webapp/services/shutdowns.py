"""Models that the provider will switch off, and the profiles that they answer.

The provider's own list counts; `prices.json` names what is announced for providers that do not say (Azure).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.answers import MAX_ID, storable
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import Profile
from webapp.domain.states import ExecutionMode
from webapp.gateways.provider_models import ProviderModels
from webapp.models import ProviderModel
from webapp.services.clock import clock
from webapp.services.prepared import prepared

TELL_AHEAD = timedelta(days=180)


@dataclass(frozen=True)
class Shutdown:
    profile: Profile
    model: str
    on: date
    days: int  # from today; below 0 when it has happened

    @property
    def has_happened(self) -> bool:
        return self.days < 0


def refresh(session: Session, models: ProviderModels) -> int:
    """Take over the provider's list of models. Commits. Returns how many there are. Raises UnavailableService."""
    session.commit()  # no transaction waits for the provider
    found = models.shutdowns()
    now = clock(session)
    session.execute(delete(ProviderModel))
    rows = [
        {"model": model, "shutdown_on": on, "seen_at": now}
        for model, on in found.items() if len(model) <= MAX_ID and storable(model) == model
    ]  # fmt: skip
    if rows:
        session.execute(insert(ProviderModel), rows)
    session.commit()
    return len(rows)


_announced = prepared(select(ProviderModel.model, ProviderModel.shutdown_on))


def shutdowns(
    session: Session, settings: Settings, prices: PriceList, profiles: Iterable[Profile], now: datetime
) -> list[Shutdown]:  # fmt: skip
    """The active profiles whose model goes within half a year, or has gone; the most urgent first."""
    today = now.date()
    announced = {row.model: row.shutdown_on for row in _announced(session)}
    found = []
    for profile in profiles:
        for model in sorted(set(models_of(profile, settings).values())) if profile.is_active else ():
            on = announced.get(model) or prices.shutdown_of(model)
            if on and on - today <= TELL_AHEAD:
                found.append(Shutdown(profile, model, on, (on - today).days))
    return sorted(found, key=lambda shutdown: shutdown.on)


def models_of(profile: Profile, settings: Settings) -> dict[ExecutionMode, str]:
    """{mode: the model that answers this profile there}, as far as its request names one without a template."""
    own = profile.request.body.get("model")
    named = own if isinstance(own, str) and "{" not in own else None
    default = {ExecutionMode.SYNC: settings.sync_model, ExecutionMode.BATCH: settings.batch_model}
    return {ExecutionMode(mode): named or default[ExecutionMode(mode)] for mode in profile.execution_modes}
