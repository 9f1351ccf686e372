"""The provider's list of models, for the day on which it will switch one off."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from openai import OpenAI, OpenAIError

from webapp.domain.errors import UnavailableService

TIMEOUT_SECONDS = 10.0
MOST_MODELS = 5000


class ProviderModels:
    def __init__(self, client: OpenAI) -> None:
        self._client = client.with_options(timeout=TIMEOUT_SECONDS)

    def shutdowns(self) -> dict[str, date | None]:
        """{model: the day on which it is switched off, None if none is announced}. Raises UnavailableService.

        `shutdown_date` is a string or null on each model (openai 3.54, types/model.py).
        """
        try:
            listed = self._client.models.list().data[:MOST_MODELS]
        except OpenAIError as error:
            raise UnavailableService(f"The provider did not list its models: {error}") from error
        found: dict[str, date | None] = {}
        for model in listed:
            said = model.to_dict()
            if isinstance(name := said.get("id"), str):
                found[name] = _day(said.get("shutdown_date"))
        return found


def _day(value: Any) -> date | None:
    """A date, or a moment of it; what cannot be read is not announced."""
    try:
        return datetime.fromisoformat(value).date() if isinstance(value, str) else None
    except ValueError:
        return None
