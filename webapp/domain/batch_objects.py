"""The provider's Batch object, read tolerantly (OpenAI and Azure: capitalised states, ISO or unix times, "" for
no file). A body that is no batch gives None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from webapp.domain.answers import MOST_COUNTED, storable
from webapp.domain.states import TERMINAL_AT_PROVIDER

SLUICE_KEY, WINDOW_KEY = "sluice", "sluice_window"  # of a batch's metadata


@dataclass(frozen=True)
class BatchObject:
    id: str
    status: str  # lower case; normally a ProviderStatus
    input_file_id: str | None
    output_file_id: str | None
    error_file_id: str | None
    created_at: datetime | None
    expires_at: datetime | None
    raw: dict[str, Any]

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_AT_PROVIDER

    @classmethod
    def read(cls, body: Any) -> BatchObject | None:
        if not isinstance(body, Mapping):
            return None
        body = _scrubbed(body)
        batch_id, status = _id(body.get("id")), body.get("status")
        if batch_id is None or not isinstance(status, str):
            return None
        return cls(
            id=batch_id, status=status.lower().replace(" ", "_")[:40], input_file_id=_id(body.get("input_file_id")),
            output_file_id=_id(body.get("output_file_id")), error_file_id=_id(body.get("error_file_id")),
            created_at=_time(body.get("created_at")), expires_at=_time(body.get("expires_at")), raw=dict(body),
        )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One page of the provider's list, searched: the batch, or where the next page starts (None = the end)."""

    batch: BatchObject | None = None
    twins: tuple[BatchObject, ...] = ()  # others of the same input file
    after: str | None = None


def find_batch(body: Any, input_file_id: str) -> Found | None:
    """Look for the batch of this input file in a page of `GET /batches`; None when the body is no list.

    Should there be more than one, the oldest on the page is ours (the list is newest first).
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("data"), list):
        return None
    batches = [batch for item in body["data"] if (batch := BatchObject.read(item))]
    ours = [batch for batch in batches if batch.input_file_id == input_file_id]
    if ours:
        *twins, oldest = ours
        return Found(batch=oldest, twins=tuple(twins))
    return Found(after=batches[-1].id if body.get("has_more") is True and batches else None)


def make_mark(public_url: str, window_id: int) -> dict[str, str]:
    """The metadata of a batch that this Sluice makes: others may use the same key."""
    return {SLUICE_KEY: public_url, WINDOW_KEY: str(window_id)}


def read_mark(raw: Any) -> tuple[str | None, int] | None:
    """(the Sluice, its window) that this batch was made for, as its metadata says; a hint, never the truth.

    The Sluice is None where an older version made it; all is None where no Sluice did.
    """
    metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
    metadata = metadata if isinstance(metadata, Mapping) else {}
    sluice, window = metadata.get(SLUICE_KEY), metadata.get(WINDOW_KEY)
    if not isinstance(window, str) or not window.isdecimal() or len(window) >= 19:
        return None
    return (None if sluice is None else str(sluice)), int(window)


def worked_ms(raw: Any) -> int | None:
    """How long the provider worked, by its own clock: in_progress until completed (OpenAI tells whole seconds)."""
    raw = raw if isinstance(raw, Mapping) else {}
    start, end = _time(raw.get("in_progress_at")), _time(raw.get("completed_at") or raw.get("finalizing_at"))
    milliseconds = round((end - start).total_seconds() * 1000) if start and end else -1
    return milliseconds if 0 <= milliseconds < MOST_COUNTED else None


def request_counts(raw: Any) -> dict[str, int]:
    """{total, completed, failed} as the provider says; a hint for people, never the truth."""
    counts = raw.get("request_counts") if isinstance(raw, Mapping) else None
    counts = counts if isinstance(counts, Mapping) else {}
    return {k: v for k in ("total", "completed", "failed") if isinstance(v := counts.get(k), int)}


def validation_errors(raw: Any) -> list[dict[str, Any]]:
    """The entries of `errors.data`: {code, message, param, line}, whatever else is there."""
    errors = raw.get("errors") if isinstance(raw, Mapping) else None
    data = errors.get("data") if isinstance(errors, Mapping) else None
    return [dict(item) for item in data if isinstance(item, Mapping)] if isinstance(data, list) else []


def _scrubbed(value: Any) -> Any:
    """Without the characters that PostgreSQL's JSONB refuses."""
    match value:
        case str():
            return storable(value)
        case Mapping():
            return {storable(str(key)): _scrubbed(item) for key, item in value.items()}
        case list():
            return [_scrubbed(item) for item in value]
    return value


def _id(value: Any) -> str | None:
    """A provider id; "" means none."""
    return value if isinstance(value, str) and 0 < len(value) <= 200 else None


def _time(value: Any) -> datetime | None:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            parsed = datetime.fromisoformat(value)
            return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None
