"""The one commit that ends a window: named lines fail, what has no answer goes back to its queue, the sum closes.

submitted = completed + failed + missing + expired + released; what does not add up is written on the window.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, select, text
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.batch_objects import validation_errors
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import Output
from webapp.domain.states import ItemOutcome, JobStatus, ProviderStatus, WindowStatus
from webapp.domain.windows import Step
from webapp.models import BatchItem, BatchWindow, Job
from webapp.services import ledger, lifecycle
from webapp.services.clock import clock
from webapp.services.windows import hold_lease

PAUSE_SECONDS = (30, 60, 120, 300)  # after "token limit" and "cannot find file", by how often the jobs came back
ENDS = {
    # how the provider ended: how the window ends, and what became of an item without a line
    ProviderStatus.COMPLETED: (WindowStatus.COMPLETED, ItemOutcome.MISSING),
    ProviderStatus.EXPIRED: (WindowStatus.EXPIRED, ItemOutcome.EXPIRED),
    ProviderStatus.CANCELLED: (WindowStatus.CANCELLED, ItemOutcome.RELEASED),
    ProviderStatus.FAILED: (WindowStatus.FAILED, ItemOutcome.RELEASED),
    ProviderStatus.GONE: (WindowStatus.FAILED, ItemOutcome.MISSING),
}


@dataclass
class Ingest:
    """One run of the step: what it needs everywhere, and what it noticed."""

    session: Session
    settings: Settings
    prices: PriceList
    window_id: int
    token: str
    provider_ms: int | None
    provider_got_it_at: datetime
    outputs: dict[int, Output] = field(default_factory=dict)  # by profile version
    strange: list[str] = field(default_factory=list)  # lines that are not ours, second answers
    has_lost_file: bool = False  # the provider no longer has a result file: answers in it may have been paid


def settle(run: Ingest) -> dict[str, int]:
    """The one commit that ends the window. What has no answer goes back to its queue, or ends."""
    session = run.session
    window = hold_lease(session, run.window_id, run.token, Step.INGEST)
    now = clock(session)
    end = ProviderStatus(window.provider_status or "")
    errors = validation_errors(window.provider_batch) if end is ProviderStatus.FAILED else []
    window_end, item_end = ENDS[end]
    _refuse_named_lines(run, errors, now)
    lifecycle.close_open_items(session, run.window_id, item_end)
    if run.has_lost_file or end is ProviderStatus.GONE:
        ledger.record_lost_batch_answers(session, run.window_id, now)
    _return_or_end(run, window, now, why=_sentence(errors))
    if end is ProviderStatus.FAILED:
        _pause_queue(window, errors, now)
    else:
        window.queue.pauses = 0
    counts = _outcomes(session, run.window_id)
    window.needs_attention = _attention(run, window, counts)
    session.flush()
    lifecycle.move_window(
        session, run.window_id, window_end, now=now, actor="app", event="settled", detail=counts,
        values={"failure_message": _sentence(errors)},
    )  # fmt: skip
    session.commit()
    return counts


def _refuse_named_lines(run: Ingest, errors: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Validation names bad lines by number (1-based): those items fail with the provider's words."""
    named = {e["line"]: e for e in errors if isinstance(e.get("line"), int)}
    if not named:
        return
    numbered = (
        select(BatchItem.custom_id, BatchItem.job_id, func.row_number().over(order_by=BatchItem.job_id).label("line"))
        .where(BatchItem.window_id == run.window_id)
        .subquery()
    )
    rows = run.session.execute(select(numbered).where(numbered.c.line == func.any(list(named)))).all()
    for row in rows:
        error = named[row.line]
        run.session.execute(
            text("""UPDATE batch_items SET outcome = 'failed', error_code = :code, error_message = :message
                    WHERE custom_id = :id AND outcome IS NULL"""),
            {"id": row.custom_id, "code": str(error.get("code"))[:100], "message": str(error.get("message"))[:2000]},
        )
    fail_with_item_error(run, [row.job_id for row in rows], now, reason="validation refused its line")


def _return_or_end(run: Ingest, window: BatchWindow, now: datetime, *, why: str | None) -> None:
    actor, settings = f"window:{run.window_id}", run.settings
    jobs = lifecycle.unsettled_jobs(run.session, run.window_id)
    if window.cancels_jobs:
        lifecycle.cancel_unrun_jobs(run.session, run.window_id, jobs, now=now)
        return
    released: list[Any] = []
    used: list[int] = []
    exhausted: list[int] = []
    expired: list[int] = []
    for job in jobs:
        if job.outcome is ItemOutcome.RELEASED:
            released.append(job)
        elif job.attempt < settings.max_attempts:
            used.append(job.job_id)
        else:
            (expired if job.outcome is ItemOutcome.EXPIRED else exhausted).append(job.job_id)
    lifecycle.return_unrun_jobs(run.session, run.window_id, released, now=now, why=why)
    lifecycle.return_jobs(run.session, used, now=now, uses_attempt=True)
    for job_ids, target, code, message in (
        (exhausted, JobStatus.FAILED, "no_answer",
         f"The provider gave no answer in {settings.max_attempts} windows."),
        (expired, JobStatus.EXPIRED, "batch_expired",
         f"The provider did not get to it within its time in {settings.max_attempts} windows."),
    ):  # fmt: skip
        lifecycle.finish_jobs(
            run.session, job_ids, target, now=now, actor=actor, reason=message,
            values={"failure_code": code, "failure_message": message},
        )  # fmt: skip


def _pause_queue(window: BatchWindow, errors: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """The provider has no room, or cannot see our file yet: do not open the next window at once."""
    said = " ".join(f"{e.get('code')} {e.get('message')}" for e in errors).lower()
    if "token_limit_exceeded" in said or "cannot find file" in said:
        pauses = window.queue.pauses
        window.queue.pauses = pauses + 1
        window.queue.not_before = now + timedelta(seconds=PAUSE_SECONDS[min(pauses, len(PAUSE_SECONDS) - 1)])


def _outcomes(session: Session, window_id: int) -> dict[str, int]:
    rows = session.execute(
        select(BatchItem.outcome, func.count()).where(BatchItem.window_id == window_id).group_by(BatchItem.outcome)
    )
    return {outcome.value: count for outcome, count in rows if outcome}


def _attention(run: Ingest, window: BatchWindow, counts: Mapping[str, int]) -> str | None:
    faults = list(run.strange[:20])
    if window.provider_status == ProviderStatus.GONE:
        faults.append(f"the provider no longer knows {window.provider_batch_id}: what it answered is lost")
    if len(run.strange) > 20:
        faults.append(f"and {len(run.strange) - 20} more")
    if sum(counts.values()) != window.job_count:
        faults.append(f"{sum(counts.values())} of {window.job_count} items have an outcome")
    return "; ".join(faults) or None


def _sentence(errors: Sequence[Mapping[str, Any]]) -> str | None:
    messages = Counter(str(error.get("message") or error.get("code"))[:300] for error in errors)
    return "; ".join(messages) or None


def fail_with_item_error(run: Ingest, job_ids: Sequence[int], now: datetime, *, reason: str) -> None:
    own_item = and_(BatchItem.job_id == Job.id, BatchItem.window_id == run.window_id)
    own_attempt = select(BatchItem.attempt).where(own_item).scalar_subquery()
    lifecycle.finish_jobs(
        run.session, job_ids, JobStatus.FAILED, now=now, actor=f"window:{run.window_id}", reason=reason,
        conditions=[Job.attempt == own_attempt],  # an error of an earlier attempt ends nothing
        values={
            "failure_code": select(BatchItem.error_code).where(own_item).scalar_subquery(),
            "failure_message": select(BatchItem.error_message).where(own_item).scalar_subquery(),
        },
    )  # fmt: skip
