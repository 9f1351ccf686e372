"""The provider's list of batches, for `flask doctor`: it compares it with ours and can stop what nobody knows.

Everything else about batches is n8n's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from openai import OpenAI, OpenAIError

from webapp.domain.batch_objects import BatchObject
from webapp.domain.errors import UnavailableService

PAGE_SIZE = 100
TIMEOUT_SECONDS = 30.0


class ProviderBatches:
    def __init__(self, client: OpenAI) -> None:
        self._client = client.with_options(timeout=TIMEOUT_SECONDS)

    def list_since(self, moment: datetime | None) -> Iterator[BatchObject]:
        """Newest first, down to those that were made before `moment` (None: nothing). Raises UnavailableService."""
        if moment is None:
            return
        try:
            for item in self._client.batches.list(limit=PAGE_SIZE):
                batch = BatchObject.read(item.to_dict())
                if batch is None:
                    continue
                if batch.created_at and batch.created_at.timestamp() < moment.timestamp() - 1:  # whole seconds there
                    return
                yield batch
        except OpenAIError as error:
            raise UnavailableService(f"The provider did not list its batches: {error}") from error

    def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop it. Raises UnavailableService."""
        try:
            self._client.batches.cancel(batch_id)
        except OpenAIError as error:
            raise UnavailableService(f"The provider did not cancel {batch_id}: {error}") from error
