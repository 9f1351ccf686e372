"""The next step of a batch window, computed from its row: the heart of "level-triggered".

Nothing remembers where a window was. Whoever asks next gets the step that the row calls for, so a crash
anywhere is healed by the next tick. The rules were checked by models (`docs/decisions.md`): do not simplify.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from webapp.domain.states import TERMINAL_AT_PROVIDER, WindowStatus


class Step(StrEnum):
    UPLOAD_INPUT = "upload_input"  # the app spools the JSONL and uploads it
    CREATE = "create"  # n8n creates the provider batch; offered once
    FIND = "find"  # n8n lists provider batches: the outcome of create is unknown
    POLL = "poll"  # n8n reads the provider batch
    CANCEL = "cancel"  # n8n asks the provider to cancel
    INGEST = "ingest"  # the app downloads both files and settles the window


LEASE_SECONDS = {
    Step.UPLOAD_INPUT: 120,  # renewed while bytes move
    Step.CREATE: 120,
    Step.FIND: 60,
    Step.POLL: 60,
    Step.CANCEL: 60,
    Step.INGEST: 120,  # renewed after each chunk
}


class WindowRow(Protocol):
    """The columns that decide (models/batch.py says what each means)."""

    status: WindowStatus
    input_file_id: str | None
    create_offered_at: datetime | None
    provider_batch_id: str | None
    provider_status: str | None
    cancel_requested_at: datetime | None
    cancel_asked_at: datetime | None


def next_step(window: WindowRow) -> Step | None:
    """The step that this row calls for; None when the window has ended."""
    if window.status is WindowStatus.SUBMITTED:
        if window.provider_status in TERMINAL_AT_PROVIDER:
            return Step.INGEST
        if window.cancel_requested_at and not window.cancel_asked_at:
            return Step.CANCEL
        return Step.POLL
    if window.status is WindowStatus.OPEN:
        if window.create_offered_at:
            return Step.FIND
        if window.cancel_requested_at:
            return None  # no create is out: it is ended where the wish is looked after
        return Step.CREATE if window.input_file_id else Step.UPLOAD_INPUT
    return None


# A create that is refused for good so many times in a row will not be taken at the next try either.
MOST_CREATE_REFUSALS = 5
# "There is no such batch" and "no such file" are believed only after so many tries: providers have had incidents
# of hours in which they denied what they had (`docs/decisions.md`).
MOST_DENIALS = 20


def create_is_lost(create_lease_until: datetime, now: datetime, grace_seconds: int) -> bool:
    """True when a create that nobody answered has had its grace, counted from the end of its lease."""
    return now >= create_lease_until + timedelta(seconds=grace_seconds)
