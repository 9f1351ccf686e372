"""Ingest a provider batch that has ended: both files, in chunks, and then one settling commit.

A chunk may be applied any number of times: what is there stays. Only the settling commit sends back what has no
answer, and it closes the sum: submitted = completed + failed + missing + expired + released.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import and_, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.batch_lines import Line, read_line
from webapp.domain.batch_objects import validation_errors
from webapp.domain.outputs import output_fault
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import Output, Profile
from webapp.domain.states import (
    TERMINAL_JOBS,
    ExecutionMode,
    ItemOutcome,
    JobStatus,
    ProviderStatus,
    WindowStatus,
)
from webapp.domain.windows import Step
from webapp.gateways.provider_files import ProviderFiles
from webapp.models import BatchItem, BatchWindow, Job, JobAnswer, JobRequest, JobResult, ProfileVersion
from webapp.services import ledger, lifecycle
from webapp.services.batch_files import LeaseKeeper
from webapp.services.clock import clock
from webapp.services.ingest import milliseconds, result_row
from webapp.services.windows import hold_lease

CHUNK_LINES = 1000
MAX_FREE_RETURNS = 10
PAUSE_SECONDS = (30, 60, 120, 300)  # after "token limit" and "cannot find file", by how often the jobs came back
ITEMS_LEFT_OPEN = {
    # how the provider ended: what became of an item without a line
    ProviderStatus.COMPLETED: ItemOutcome.MISSING,
    ProviderStatus.EXPIRED: ItemOutcome.EXPIRED,
    ProviderStatus.CANCELLED: ItemOutcome.RELEASED,
    ProviderStatus.FAILED: ItemOutcome.RELEASED,
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


def ingest_window(
    session: Session, settings: Settings, prices: PriceList, files: ProviderFiles, *,
    window_id: int, token: str, items: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, int]:  # fmt: skip
    """Step ingest: apply the output and error files (or the `items` given inline) and settle. Commits.

    Returns {outcome: count}. Raises NotFound, StaleLease or UnavailableService (a file was cut short or refused):
    the window stays submitted then, and the step is taken again.
    """
    window = hold_lease(session, window_id, token, Step.INGEST)
    run = Ingest(
        session, settings, prices, window_id, token,
        provider_ms=_provider_ms(window), provider_got_it_at=window.submitted_at or window.opened_at,
    )  # fmt: skip
    file_ids = [file_id for file_id in (window.output_file_id, window.error_file_id) if file_id]
    session.commit()
    keeper = LeaseKeeper(session, window_id, token, Step.INGEST)
    if items is not None:
        _apply_lines(run, (read_line(item) for item in items), keeper)
    else:
        with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
            paths = [Path(folder) / str(number) for number in range(len(file_ids))]
            for file_id, path in zip(file_ids, paths, strict=True):
                files.download(file_id, path, keeper)
            for path in paths:
                with path.open("rb") as file:
                    _apply_lines(run, (read_line(line) for line in file if line.strip()), keeper)
    return _settle(run)


def _apply_lines(run: Ingest, lines: Iterator[Line | None], keeper: LeaseKeeper) -> None:
    while chunk := list(islice(lines, CHUNK_LINES)):
        run.strange += ["a line that cannot be read"] * chunk.count(None)
        _apply_chunk(run, [line for line in chunk if line])
        keeper()


def _apply_chunk(run: Ingest, lines: Iterable[Line]) -> None:
    """One commit: evidence, ledger, item outcomes, results, and the jobs that these lines end."""
    session, now = run.session, clock(run.session)
    lines = list(lines)
    items = _items(run, [line.custom_id for line in lines])
    ours: dict[str, Line] = {}
    for line in lines:
        item = items.get(line.custom_id)
        if item is None:
            run.strange.append(f"{line.custom_id[:80]} is not ours")
            continue
        line = line.with_answer(output_fault(_output(run, item.profile_version_id), line.answer))
        known_key = ours[line.custom_id].answer.key if line.custom_id in ours else item.answer_key
        if known_key is not None and known_key != line.answer.key:
            run.strange.append(f"{line.custom_id} has two different answers")
        ours.setdefault(line.custom_id, line)
    pairs = [(line, items[custom_id]) for custom_id, line in ours.items()]
    _insert(session, JobAnswer, ["job_id", "attempt", "answer_key"], [
        {"job_id": item.job_id, "attempt": item.attempt, "answer_key": line.answer.key,
         "status_code": line.answer.status_code, "request_id": line.answer.request_id, "raw": line.raw,
         "received_at": now}
        for line, item in pairs if line.answer.status_code
    ])  # fmt: skip
    ledger.record(session, [
        ledger.entry(run.prices, line.answer, job_id=item.job_id, attempt=item.attempt, mode=ExecutionMode.BATCH,
                     requested_model=item.model, reason=_reason(line, item), now=now)
        for line, item in pairs if line.answer.is_billable
    ])  # fmt: skip
    fresh = [(line, item) for line, item in pairs if item.outcome is None]
    _close_items(run, [line for line, _ in fresh])
    _end_jobs(run, fresh, now)
    session.commit()


def _items(run: Ingest, custom_ids: Sequence[str]) -> dict[str, Any]:
    """What is known of these lines, by custom_id."""
    rows = run.session.execute(
        select(
            BatchItem.custom_id, BatchItem.job_id, BatchItem.attempt, BatchItem.outcome, Job.status, Job.created_at,
            Job.profile_version_id, JobRequest.model, JobAnswer.answer_key,
        )
        .join(Job, Job.id == BatchItem.job_id)
        .join(JobRequest, JobRequest.job_id == Job.id)
        .outerjoin(JobAnswer, and_(JobAnswer.job_id == BatchItem.job_id, JobAnswer.attempt == BatchItem.attempt))
        .where(BatchItem.window_id == run.window_id, BatchItem.custom_id == func.any(list(custom_ids)))
    )  # fmt: skip
    return {row.custom_id: row for row in rows}


def _output(run: Ingest, version_id: int) -> Output:
    if version_id not in run.outputs:
        document = run.session.execute(
            select(ProfileVersion.document).where(ProfileVersion.id == version_id)
        ).scalar_one()
        run.outputs[version_id] = Profile.model_validate(document).output
    return run.outputs[version_id]


def _reason(line: Line, item: Any) -> str:
    if not line.answer.is_good:
        return "refused"
    return "discarded" if item.status in TERMINAL_JOBS else "answer"


def _close_items(run: Ingest, lines: Sequence[Line]) -> None:
    run.session.execute(
        text("""
            UPDATE batch_items SET outcome = line.outcome, error_code = line.code, error_message = line.message
            FROM unnest(CAST(:ids AS text[]), CAST(:outcomes AS text[]), CAST(:codes AS text[]),
                        CAST(:messages AS text[])) AS line (custom_id, outcome, code, message)
            WHERE batch_items.custom_id = line.custom_id AND batch_items.outcome IS NULL
        """),
        {
            "ids": [line.custom_id for line in lines], "outcomes": [line.outcome.value for line in lines],
            "codes": [line.answer.error_code for line in lines],
            "messages": [line.answer.error_message for line in lines],
        },
    )  # fmt: skip


def _end_jobs(run: Ingest, fresh: Sequence[tuple[Line, Any]], now: datetime) -> None:
    actor = f"window:{run.window_id}"
    good = {item.job_id: (line, item) for line, item in fresh if line.answer.is_good}
    completed = lifecycle.finish_jobs(
        run.session, list(good), JobStatus.COMPLETED, now=now, actor=actor, reason="answered"
    )
    _insert(run.session, JobResult, ["job_id"], [
        result_row(job_id, item.attempt, line.answer, now)
        | {"provider_ms": run.provider_ms, "provider_ms_source": "batch" if run.provider_ms is not None else None,
           "queue_ms": milliseconds(item.created_at, run.provider_got_it_at),
           "total_ms": milliseconds(item.created_at, now)}
        for job_id in completed for line, item in [good[job_id]]
    ])  # fmt: skip
    final = [item.job_id for line, item in fresh
             if line.outcome is ItemOutcome.FAILED and not line.answer.is_retryable]  # fmt: skip
    _fail_with_item_error(run, final, now, reason="the provider refused it")


def _fail_with_item_error(run: Ingest, job_ids: Sequence[int], now: datetime, *, reason: str) -> None:
    own_item = and_(BatchItem.job_id == Job.id, BatchItem.window_id == run.window_id)
    lifecycle.finish_jobs(
        run.session, job_ids, JobStatus.FAILED, now=now, actor=f"window:{run.window_id}", reason=reason,
        values={
            "failure_code": select(BatchItem.error_code).where(own_item).scalar_subquery(),
            "failure_message": select(BatchItem.error_message).where(own_item).scalar_subquery(),
        },
    )  # fmt: skip


def _settle(run: Ingest) -> dict[str, int]:
    """The one commit that ends the window. What has no answer goes back to its queue, or ends."""
    session = run.session
    window = hold_lease(session, run.window_id, run.token, Step.INGEST)
    now = clock(session)
    end = ProviderStatus(window.provider_status or "")
    errors = validation_errors(window.provider_batch) if end is ProviderStatus.FAILED else []
    _refuse_named_lines(run, errors, now)
    lifecycle.close_open_items(session, run.window_id, ITEMS_LEFT_OPEN[end])
    _return_or_end(run, now)
    if end is ProviderStatus.FAILED:
        _pause_queue(window, errors, now)
    else:
        window.queue.pauses = 0
    counts = _outcomes(session, run.window_id)
    window.needs_attention = _attention(run, window, counts)
    session.flush()
    lifecycle.move_window(
        session, run.window_id, WindowStatus(end.value), now=now, actor="app", event="settled", detail=counts,
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
    _fail_with_item_error(run, [row.job_id for row in rows], now, reason="validation refused its line")


def _return_or_end(run: Ingest, now: datetime) -> None:
    actor, settings = f"window:{run.window_id}", run.settings
    free: list[int] = []
    used: list[int] = []
    worn_out: list[int] = []
    exhausted: list[int] = []
    expired: list[int] = []
    for job in lifecycle.unsettled_jobs(run.session, run.window_id):
        if job.outcome is ItemOutcome.RELEASED:
            (free if job.free_returns + 1 < MAX_FREE_RETURNS else worn_out).append(job.job_id)
        elif job.attempt < settings.max_attempts:
            used.append(job.job_id)
        else:
            (expired if job.outcome is ItemOutcome.EXPIRED else exhausted).append(job.job_id)
    lifecycle.return_jobs(run.session, free, now=now, uses_attempt=False)
    lifecycle.return_jobs(run.session, used, now=now, uses_attempt=True)
    for job_ids, target, code, message in (
        (worn_out, JobStatus.FAILED, "returned_too_often",
         f"Its windows ended {MAX_FREE_RETURNS} times before the provider ran it."),
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
    if len(run.strange) > 20:
        faults.append(f"and {len(run.strange) - 20} more")
    if sum(counts.values()) != window.job_count:
        faults.append(f"{sum(counts.values())} of {window.job_count} items have an outcome")
    return "; ".join(faults) or None


def _sentence(errors: Sequence[Mapping[str, Any]]) -> str | None:
    messages = Counter(str(error.get("message") or error.get("code"))[:300] for error in errors)
    return "; ".join(messages) or None


def _insert(session: Session, model: Any, key: list[str], rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        session.execute(insert(model).on_conflict_do_nothing(index_elements=key), rows)


def _provider_ms(window: BatchWindow) -> int | None:
    """How long the provider worked: in_progress until completed, by its own clock (whole seconds)."""
    batch = window.provider_batch or {}
    start, end = batch.get("in_progress_at"), batch.get("completed_at") or batch.get("finalizing_at")
    if isinstance(start, int) and isinstance(end, int) and end >= start:
        return (end - start) * 1000
    return None
