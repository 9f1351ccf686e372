"""Ingest a provider batch that has ended: both files, in chunks, and then one settling commit.

A chunk may be applied any number of times: what is there stays. Only the settling commit sends back what has no
answer, and it closes the sum: submitted = completed + failed + missing + expired + released.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.batch_lines import Line, read_line
from webapp.domain.batch_objects import worked_ms
from webapp.domain.errors import DeniedFile, UnavailableService
from webapp.domain.outputs import output_fault
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import Output
from webapp.domain.states import (
    TERMINAL_JOBS,
    ExecutionMode,
    ItemOutcome,
    JobStatus,
)
from webapp.domain.windows import MOST_DENIALS, Step
from webapp.gateways.provider_files import ProviderFiles
from webapp.models import BatchItem, BatchWindow, Job, JobAnswer, JobResult, ProfileVersion, Queue
from webapp.services import ledger, lifecycle
from webapp.services.batch_files import LeaseKeeper
from webapp.services.batch_settle import Ingest, fail_with_item_error, settle
from webapp.services.bulk import copy_rows, insert_new, read_ahead
from webapp.services.clock import clock
from webapp.services.ingest import NEW_ANSWER, milliseconds, result_row
from webapp.services.windows import hold_lease, postpone_step

CHUNK_LINES = 2000


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
        provider_ms=worked_ms(window.provider_batch), provider_got_it_at=window.submitted_at or window.opened_at,
    )  # fmt: skip
    file_ids = [file_id for file_id in (window.output_file_id, window.error_file_id) if file_id]
    denials = window.denials
    session.commit()
    keeper = LeaseKeeper(session, window_id, token, Step.INGEST)
    if items is not None:
        _apply_lines(run, (read_line(item) for item in items), keeper)
    else:
        with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
            try:
                paths = _download(run, files, file_ids, Path(folder), keeper, denials)
            except UnavailableService as error:
                postpone_step(session, window_id, token, Step.INGEST, error)
                raise
            for path in paths:
                with path.open("rb") as file:
                    _apply_lines(run, (read_line(line) for line in file if line.strip()), keeper)
    return settle(run)


def _download(
    run: Ingest, files: ProviderFiles, file_ids: Sequence[str], folder: Path, keeper: LeaseKeeper, denials: int
) -> list[Path]:
    """All of the files, before any line is applied: a file that is cut short is fetched again, not half used."""
    paths: list[Path] = []
    for file_id in file_ids:
        path = folder / str(len(paths))
        try:
            files.download(file_id, path, keeper)
        except DeniedFile:
            if denials + 1 < MOST_DENIALS:
                raise
            run.lost_files.append(file_id)
        else:
            paths.append(path)
    return paths


def _apply_lines(run: Ingest, lines: Iterator[Line | None], keeper: LeaseKeeper) -> None:
    for chunk in read_ahead(_chunks(lines)):
        run.lines += len(chunk)
        run.strange += ["a line that cannot be read"] * chunk.count(None)
        _apply_chunk(run, [line for line in chunk if line])
        keeper()


def _chunks(lines: Iterator[Line | None]) -> Iterator[list[Line | None]]:
    while chunk := list(islice(lines, CHUNK_LINES)):
        yield chunk


def _apply_chunk(run: Ingest, lines: Iterable[Line]) -> None:
    """One commit: evidence, ledger, item outcomes, results, and the jobs that these lines end."""
    session, now = run.session, clock(run.session)
    lines = list(lines)
    items = _items(run, [line.custom_id for line in lines])
    ours: list[tuple[Line, Any]] = []
    for line in lines:
        item = items.get(line.custom_id)
        if item is None:
            run.strange.append(f"{line.custom_id[:80]} is not ours")
            continue
        ours.append((line.with_answer(output_fault(_output(run, item.profile_version_id), line.answer)), item))
    ours.sort(key=lambda pair: not pair[0].answer.is_good)  # a good line counts more than an error, else the first
    best: dict[str, Line] = {}
    for line, _ in ours:
        best.setdefault(line.custom_id, line)
    insert_new(session, JobAnswer, NEW_ANSWER, [
        (item.job_id, item.attempt, line.answer.key, line.answer.status_code, line.answer.request_id, line.raw, now)
        for line, item in ours if line.answer.status_code
    ], key=["job_id", "attempt", "answer_key"])  # fmt: skip
    ledger.record(session, [
        ledger.entry(run.prices, line.answer, job_id=item.job_id, job=item, attempt=item.attempt,
                     mode=ExecutionMode.BATCH, requested_model=item.model,
                     reason=_reason(line, best[line.custom_id], item), now=now)
        for line, item in ours if line.answer.is_billable
    ])  # fmt: skip
    fresh = [(line, items[custom_id]) for custom_id, line in best.items() if _is_news(line, items[custom_id])]
    _close_items(run, [line for line, _ in fresh])
    _end_jobs(run, fresh, now)
    session.commit()


def _is_news(line: Line, item: Any) -> bool:
    """The item is open, or this good answer comes after an error that was to be tried again."""
    return item.outcome is None or (_is_usable(line, item) and line.answer.key not in (item.answer_keys or []))


def _is_usable(line: Line, item: Any) -> bool:
    """A job may have ended while its item was open: in sync, when it left the window for its deadline."""
    return line.answer.is_good and item.status not in TERMINAL_JOBS


def _items(run: Ingest, custom_ids: Sequence[str]) -> dict[str, Any]:
    """What is known of these lines, by custom_id; `answer_keys` are those of answers that came before."""
    keys = (
        select(func.array_agg(JobAnswer.answer_key))
        .where(JobAnswer.job_id == BatchItem.job_id, JobAnswer.attempt == BatchItem.attempt)
        .scalar_subquery()
    )
    rows = run.session.execute(
        select(
            BatchItem.custom_id, BatchItem.job_id, BatchItem.attempt, BatchItem.outcome, Job.status, Job.created_at,
            Job.user_id, Job.profile_id, Job.attempt.label("job_attempt"), Job.profile_version_id, Queue.model,
            keys.label("answer_keys"),
        )
        .join(Job, Job.id == BatchItem.job_id)
        .join(BatchWindow, BatchWindow.id == BatchItem.window_id)
        .join(Queue, Queue.id == BatchWindow.queue_id)  # what this batch asked for; the job may ask sync for another
        .where(BatchItem.window_id == run.window_id, BatchItem.custom_id == func.any(list(custom_ids)))
        .order_by(Job.id)
        .with_for_update(of=Job)  # a job whose deadline moved it to sync may be answered there at this moment
    )  # fmt: skip
    return {row.custom_id: row for row in rows}


def _output(run: Ingest, version_id: int) -> Output:
    if version_id not in run.outputs:
        document = run.session.execute(
            select(ProfileVersion.document).where(ProfileVersion.id == version_id)
        ).scalar_one()
        run.outputs[version_id] = Output.model_validate(document["output"])
    return run.outputs[version_id]


def _reason(line: Line, best: Line, item: Any) -> str:
    if not line.answer.is_good:
        return "refused"
    is_used = line.answer.key == best.answer.key and _is_news(line, item) and _is_usable(line, item)
    return "answer" if is_used else "discarded"


def _close_items(run: Ingest, lines: Sequence[Line]) -> None:
    run.session.execute(
        text("""
            UPDATE batch_items SET outcome = line.outcome, error_code = line.code, error_message = line.message
            FROM unnest(CAST(:ids AS text[]), CAST(:outcomes AS text[]), CAST(:codes AS text[]),
                        CAST(:messages AS text[])) AS line (custom_id, outcome, code, message)
            WHERE batch_items.custom_id = line.custom_id
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
    ledger.record(run.session, [  # its next attempt is under way in sync, and may be paid, too
        ledger.lost_entry(job_id, item, item.job_attempt, now)
        for job_id, (_, item) in good.items()
        if item.attempt < item.job_attempt and item.status is JobStatus.PROCESSING
    ])  # fmt: skip
    completed = lifecycle.finish_jobs(
        run.session, list(good), JobStatus.COMPLETED, now=now, actor=actor, reason="answered"
    )
    rows = [
        result_row(job_id, item.attempt, line.answer, now)
        | {"provider_ms": run.provider_ms, "provider_ms_source": "batch" if run.provider_ms is not None else None,
           "queue_ms": milliseconds(item.created_at, run.provider_got_it_at),
           "total_ms": milliseconds(item.created_at, now)}
        for job_id in completed for line, item in [good[job_id]]
    ]  # fmt: skip
    if rows:  # they have just ended, so none of them has a result
        copy_rows(run.session, JobResult, list(rows[0]), [tuple(row.values()) for row in rows])
    final = [item.job_id for line, item in fresh
             if line.outcome is ItemOutcome.FAILED and not line.answer.is_retryable]  # fmt: skip
    fail_with_item_error(run, final, now, reason="the provider refused it")
