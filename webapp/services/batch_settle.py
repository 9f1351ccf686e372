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
from webapp.domain.batch_objects import request_counts, validation_errors
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import Output
from webapp.domain.states import ItemOutcome, JobStatus, ProviderStatus, WindowStatus
from webapp.domain.windows import Step
from webapp.models import BatchItem, BatchWindow, Job, JobAnswer
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
    lines: int = 0  # in both files
    strange: list[str] = field(default_factory=list)  # lines that are not ours, or cannot be read
    lost_files: list[str] = field(default_factory=list)  # the provider no longer has them: answers may have been paid


def settle(run: Ingest) -> dict[str, int]:
    """The one commit that ends the window. What has no answer goes back to its queue, or ends."""
    session = run.session
    window = hold_lease(session, run.window_id, run.token, Step.INGEST)
    now = clock(session)
    end = ProviderStatus(window.provider_status or "")
    errors, why = [], None
    if end is ProviderStatus.FAILED:
        errors = validation_errors(window.provider_batch)
        why = _sentence(errors) or "The provider did not say why."
    window_end, item_end = ENDS[end]
    if run.lost_files:
        item_end = ItemOutcome.MISSING  # its line may be there, so nobody can say that it never ran
    _refuse_named_lines(run, errors, now)
    lifecycle.close_open_items(session, run.window_id, item_end)
    if run.lost_files or end is ProviderStatus.GONE:
        ledger.record_lost_batch_answers(session, run.window_id, now)
    _return_or_end(run, window, errors, now, why=why)
    if end is ProviderStatus.FAILED:
        _pause_queue(window, errors, now)
    else:
        window.queue.pauses = 0
    counts = _outcomes(session, run.window_id)
    window.needs_attention = _attention(run, window, counts)
    session.flush()
    lifecycle.move_window(
        session, run.window_id, window_end, now=now, actor="app", event="settled", detail=counts,
        values={"failure_message": why},
    )  # fmt: skip
    session.commit()
    return counts


def _refuse_named_lines(run: Ingest, errors: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Validation names bad lines by number (1-based): those items fail with the provider's words."""
    named = {e["line"]: e for e in errors if type(e.get("line")) is int}  # a bool is an int, too
    if not named:
        return
    numbered = (
        select(BatchItem.custom_id, BatchItem.job_id, func.row_number().over(order_by=BatchItem.job_id).label("line"))
        .where(BatchItem.window_id == run.window_id)
        .subquery()
    )
    rows = run.session.execute(select(numbered).where(numbered.c.line == func.any(list(named)))).all()
    refused: list[int] = []
    for row in rows:
        error = named[row.line]
        code, message = error.get("code") or "invalid_line", error.get("message") or "The provider did not say why."
        refused += run.session.scalars(
            text("""UPDATE batch_items SET outcome = 'failed', error_code = :code, error_message = :message
                    WHERE custom_id = :id AND outcome IS NULL RETURNING job_id"""),
            {"id": row.custom_id, "code": str(code)[:100], "message": str(message)[:2000]},
        )
    fail_with_item_error(run, refused, now, reason="validation refused its line")


def _return_or_end(
    run: Ingest, window: BatchWindow, errors: Sequence[Mapping[str, Any]], now: datetime, *, why: str | None
) -> None:  # fmt: skip
    actor, settings = f"window:{run.window_id}", run.settings
    jobs = lifecycle.unsettled_jobs(run.session, run.window_id)
    if window.cancels_jobs:
        lifecycle.cancel_unrun_jobs(run.session, run.window_id, jobs, now=now)
        return
    released: list[Any] = []
    used: list[int] = []
    exhausted: list[int] = []
    expired: list[int] = []
    refused: list[int] = []
    for job in jobs:
        if job.outcome is ItemOutcome.RELEASED:
            released.append(job)
        elif job.attempt < settings.max_attempts:
            used.append(job.job_id)
        else:
            ends = {ItemOutcome.EXPIRED: expired, ItemOutcome.FAILED: refused}
            ends.get(job.outcome, exhausted).append(job.job_id)
    is_blameless = window.cancel_requested_at is not None or _has_no_room(errors)
    lifecycle.return_unrun_jobs(run.session, run.window_id, released, now=now, is_blameless=is_blameless, why=why)
    lifecycle.return_jobs(run.session, used, now=now, counter="attempt")
    fail_with_item_error(run, refused, now, reason=f"an error in each of {settings.max_attempts} windows")
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
    if _has_no_room(errors) or "cannot find file" in _said(errors):
        pauses = window.queue.pauses
        window.queue.pauses = pauses + 1
        window.queue.not_before = now + timedelta(seconds=PAUSE_SECONDS[min(pauses, len(PAUSE_SECONDS) - 1)])


def _has_no_room(errors: Sequence[Mapping[str, Any]]) -> bool:
    """Its enqueued tokens are used up: on Azure until a batch ends, which may take days."""
    return "token_limit_exceeded" in _said(errors)


def _said(errors: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(f"{e.get('code')} {e.get('message')}" for e in errors).lower()


def _outcomes(session: Session, window_id: int) -> dict[str, int]:
    rows = session.execute(
        select(BatchItem.outcome, func.count()).where(BatchItem.window_id == window_id).group_by(BatchItem.outcome)
    )
    return {outcome.value: count for outcome, count in rows if outcome}


def _attention(run: Ingest, window: BatchWindow, counts: Mapping[str, int]) -> str | None:
    strange = _doubled(run) + run.strange
    faults = strange[:20]
    if len(strange) > 20:
        faults.append(f"and {len(strange) - 20} more")
    faults += [f"the provider no longer has {file_id}: what it answered there is lost" for file_id in run.lost_files]
    if window.provider_status == ProviderStatus.GONE:
        faults.append(f"the provider no longer knows {window.provider_batch_id}: what it answered is lost")
    answered = _counted_as_answered(window)
    if counts.get(ItemOutcome.MISSING) and run.lines < answered and not run.lost_files:
        faults.append(f"the provider counts {answered} answers, its files have {run.lines} lines")
    if sum(counts.values()) != window.job_count:
        faults.append(f"{sum(counts.values())} of {window.job_count} items have an outcome")
    return "; ".join(faults) or None


def _counted_as_answered(window: BatchWindow) -> int:
    """Of a completed batch. A hint only: it may say that all went well while the error file has ten lines."""
    if window.provider_status != ProviderStatus.COMPLETED:
        return 0  # the others count what they never ran
    said = request_counts(window.provider_batch)
    return said.get("completed", 0) + said.get("failed", 0)


def _doubled(run: Ingest) -> list[str]:
    """Asked of the evidence: the run that saw the second answer may have died before its settling commit."""
    doubled = run.session.scalars(
        select(BatchItem.custom_id)
        .join(JobAnswer, and_(JobAnswer.job_id == BatchItem.job_id, JobAnswer.attempt == BatchItem.attempt))
        .where(BatchItem.window_id == run.window_id)
        .group_by(BatchItem.custom_id, BatchItem.job_id)
        .having(func.count() > 1)
        .order_by(BatchItem.job_id)
    )
    return [f"{custom_id} has two different answers" for custom_id in doubled]


def _sentence(errors: Sequence[Mapping[str, Any]]) -> str | None:
    messages = Counter(str(error.get("message") or error.get("code") or "")[:300] for error in errors)
    return "; ".join(filter(None, messages)) or None


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
