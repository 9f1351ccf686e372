"""Batch windows, step by step: who may take the next step, and what a provider's answer does to the row.

n8n asks for the next due step (`lease`), does it, and reports the raw answer (`apply_answer`). The step is
computed from the row (`domain/windows.py`); only the holder of the lease's token may change the window.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, not_, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.answers import Answer
from webapp.domain.backoff import back_off_seconds
from webapp.domain.batch_objects import BatchObject, find_batch, make_mark
from webapp.domain.errors import DeniedFile, NotFound, StaleLease, UnavailableService
from webapp.domain.states import ItemOutcome, ProviderStatus, WindowStatus
from webapp.domain.windows import (
    LEASE_SECONDS,
    MOST_CREATE_REFUSALS,
    MOST_DENIALS,
    Step,
    create_is_lost,
    next_step,
)
from webapp.gateways.provider_files import ProviderFiles
from webapp.models import BatchWindow, StrayBatch
from webapp.services import lifecycle
from webapp.services.clock import clock

FIRST_BACK_OFF_SECONDS, MAX_BACK_OFF_SECONDS = 15, 300
# Cancelled, and no create is out: the provider never had it, and nobody has to be asked.
IS_TO_END_UNSENT = and_(
    BatchWindow.finished_at.is_(None), BatchWindow.status == WindowStatus.OPEN,
    BatchWindow.cancel_requested_at.is_not(None), BatchWindow.create_offered_at.is_(None),
)  # fmt: skip
STILL_SEARCHED = "It is unknown whether the provider has this batch; its list is searched."
CREATE_LOST = "create lost: the provider never made this batch"
CANCELLED_UNSENT = "It was cancelled before the provider had it."
COMPLETION_WINDOW = "24h"  # the only one that OpenAI and Azure take


@dataclass(frozen=True)
class Lease:
    window: BatchWindow
    token: str
    step: Step
    request: dict[str, Any] | None  # the provider call of this step; None for the app's own steps


def lease_due_window(session: Session, settings: Settings) -> Lease | None:
    """Take the window that has been due longest, for its next step. Commits. None when nothing is due."""
    now = clock(session)
    window = session.scalars(
        select(BatchWindow)
        .where(*_is_due(now))
        .order_by(BatchWindow.due_at, BatchWindow.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=BatchWindow)
    ).one_or_none()  # fmt: skip
    step = next_step(window) if window else None
    if window is None or step is None:
        session.rollback()
        return None
    window.lease_token = uuid.uuid4().hex
    window.lease_step = step
    window.lease_until = now + timedelta(seconds=LEASE_SECONDS[step])
    if step is Step.CREATE:
        # From here on the outcome is unknown until an answer says otherwise: whoever comes next has to look for it.
        window.create_offered_at = now
        window.create_lease_until = window.lease_until
    session.commit()
    return Lease(window, window.lease_token, step, _provider_request(settings, window, step))


def has_due_window(session: Session) -> bool:
    """Is there a window whose next step may be taken now?"""
    due = select(BatchWindow.id).where(*_is_due(clock(session)))
    return bool(session.execute(select(due.exists())).scalar())


def _is_due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        BatchWindow.finished_at.is_(None), BatchWindow.due_at <= now,
        or_(BatchWindow.lease_until.is_(None), BatchWindow.lease_until <= now), not_(IS_TO_END_UNSENT),
    )  # fmt: skip


def hold_lease(session: Session, window_id: int, token: str, step: Step) -> BatchWindow:
    """Lock the window for the holder of this lease. Raises NotFound or StaleLease; nothing is changed then."""
    now = clock(session)
    window = session.scalars(
        select(BatchWindow).where(BatchWindow.id == window_id).with_for_update(of=BatchWindow)
        .execution_options(populate_existing=True)
    ).one_or_none()  # fmt: skip
    if window is None:
        session.rollback()
        raise NotFound(f"There is no window {window_id}.")
    held = window.lease_token == token and window.lease_step == step
    if not held or window.lease_until is None or window.lease_until <= now:
        session.rollback()
        raise StaleLease
    return window


def renew_lease(session: Session, window_id: int, token: str, step: Step) -> None:
    """Push the end of a lease out while its work goes on. Commits. Raises StaleLease."""
    window = hold_lease(session, window_id, token, step)
    window.lease_until = clock(session) + timedelta(seconds=LEASE_SECONDS[step])
    session.commit()


def release_lease(window: BatchWindow, *, due_at: datetime) -> None:
    """The step is over; the next one is due then. Does not commit."""
    window.lease_token = window.lease_step = window.lease_until = None
    window.due_at = due_at
    window.problem, window.problems, window.denials = None, 0, 0


def postpone(
    window: BatchWindow, problem: str, *, now: datetime, at_least: float = 0, is_denial: bool = False
) -> float:
    """The step ran into a problem: it is taken again after a back-off (at least so many seconds), which is returned.

    Each time in a row the wait is longer. Does not commit.
    """
    problems, denials = window.problems + 1, window.denials + is_denial
    wait = max(back_off_seconds(problems, first=FIRST_BACK_OFF_SECONDS, most=MAX_BACK_OFF_SECONDS), at_least)
    release_lease(window, due_at=now + timedelta(seconds=wait))
    window.problem, window.problems, window.denials = problem[:500], problems, denials
    return wait


def postpone_step(session: Session, window_id: int, token: str, step: Step, error: UnavailableService) -> None:
    """One of the app's own steps ran into a problem: give the lease back. Commits. A lease that is lost is none."""
    is_denial = isinstance(error, DeniedFile)
    try:
        window = hold_lease(session, window_id, token, step)
        postpone(window, error.message, now=clock(session), is_denial=is_denial)
    except StaleLease:
        return
    session.commit()


def end_unsent(session: Session, window: BatchWindow, target: WindowStatus, message: str, *, now: datetime) -> None:
    """End a window that the provider never had: its jobs go back to the queue, or are cancelled with it.

    Does not commit.
    """
    jobs = lifecycle.unsettled_jobs(session, window.id)
    lifecycle.close_open_items(session, window.id, ItemOutcome.RELEASED)
    if window.cancels_jobs:
        lifecycle.cancel_unrun_jobs(session, window.id, jobs, now=now)
    else:
        is_wished = window.cancel_requested_at is not None
        lifecycle.return_unrun_jobs(session, window.id, jobs, now=now, is_blameless=is_wished, why=message)
    session.flush()
    lifecycle.move_window(
        session, window.id, target, now=now, actor="app", event="settled",
        values={"failure_message": message}, detail={"released": len(jobs)},
    )  # fmt: skip


def end_cancelled_unsent(session: Session) -> int:
    """End the windows that were cancelled before the provider had them. Commits. Returns how many.

    Each is a commit of its own: jobs are locked in the order of their ids, as everywhere, which those of two windows
    together are not.
    """
    now, ended = clock(session), 0
    first = (
        select(BatchWindow).where(IS_TO_END_UNSENT).order_by(BatchWindow.id).limit(1)
        .with_for_update(skip_locked=True, of=BatchWindow).execution_options(populate_existing=True)
    )  # fmt: skip
    while window := session.scalars(first).one_or_none():
        end_unsent(session, window, WindowStatus.CANCELLED, CANCELLED_UNSENT, now=now)
        session.commit()
        ended += 1
    session.commit()
    return ended


def apply_answer(
    session: Session, settings: Settings, files: ProviderFiles, *,
    window_id: int, token: str, step: Step, answer: Answer, body: Any,
) -> dict[str, Any]:  # fmt: skip
    """The provider's raw answer to create, find, poll or cancel. Commits. Returns what to tell n8n.

    Raises NotFound or StaleLease; a provider batch that a stale answer names is kept for `flask doctor`.
    """
    try:
        window = hold_lease(session, window_id, token, step)
    except StaleLease:
        _keep_stray(session, window_id, step, body)
        raise
    now = clock(session)
    match step:
        case Step.CREATE:
            _apply_create(session, window, answer, body, now)
        case Step.FIND:
            return _apply_find(session, settings, files, window, answer, body, now)
        case Step.POLL | Step.CANCEL:
            _apply_poll(session, settings, window, step, answer, body, now)
    session.commit()
    return {}


def _apply_create(session: Session, window: BatchWindow, answer: Answer, body: Any, now: datetime) -> None:
    batch = BatchObject.read(body) if answer.is_billable else None
    if batch:
        _adopt(session, window, batch, now)
        return
    if answer.is_definite_refusal:
        # Nothing was made, so create may be offered again after a back-off.
        window.create_offered_at = window.create_lease_until = None
        problem = _words(answer)
        for_good = answer.is_refusal_for_good
        wait = postpone(window, problem, now=now, at_least=answer.retry_after_seconds or 0, is_denial=for_good)
        lifecycle.write_window_event(
            session, window.id, "create_refused", now=now, actor="provider",
            detail={"status": answer.status_code, "message": problem, "retryInSeconds": round(wait)},
        )  # fmt: skip
        if window.cancel_requested_at:
            end_unsent(session, window, WindowStatus.CANCELLED, CANCELLED_UNSENT, now=now)
        elif window.denials >= MOST_CREATE_REFUSALS:
            message = f"The provider refused this batch {window.denials} times: {problem}"
            end_unsent(session, window, WindowStatus.FAILED, message, now=now)
        return
    # Time-out, 5xx, an answer that is no batch: it may exist. The next step is find.
    release_lease(window, due_at=now)
    window.problem = STILL_SEARCHED


def _apply_find(
    session: Session, settings: Settings, files: ProviderFiles, window: BatchWindow, answer: Answer, body: Any,
    now: datetime,
) -> dict[str, Any]:  # fmt: skip
    assert window.input_file_id and window.create_lease_until  # find follows create, create follows upload
    found = find_batch(body, window.input_file_id) if answer.is_billable else None
    if found and found.batch:
        _adopt(session, window, found.batch, now)
        for twin in found.twins:
            _store_stray(session, window.id, twin, now)
        session.commit()
        return {}
    if found is None:
        window.find_after = None  # the page may be what is refused: begin again at the newest
        postpone(window, _words(answer), now=now, at_least=answer.retry_after_seconds or 0)
    elif found.after:
        window.find_after = found.after
        release_lease(window, due_at=now)
        window.problem = STILL_SEARCHED
        session.commit()
        return {"again": {"after": found.after}}
    elif not create_is_lost(window.create_lease_until, now, settings.create_grace_seconds):
        window.find_after = None
        release_lease(window, due_at=now + timedelta(seconds=min(settings.poll_seconds, 30)))
        window.problem = STILL_SEARCHED
    elif window.input_deleted_at is None:
        return _fence(session, files, window)
    else:
        is_cancelled = window.cancel_requested_at is not None
        target = WindowStatus.CANCELLED if is_cancelled else WindowStatus.FAILED
        end_unsent(session, window, target, CREATE_LOST, now=now)
    session.commit()
    return {}


def _fence(session: Session, files: ProviderFiles, window: BatchWindow) -> dict[str, Any]:
    """Delete the input file: a create that is still on its way then fails validation, unbilled. Look once more."""
    window_id, token, file_id = window.id, window.lease_token, window.input_file_id
    assert token and file_id
    session.commit()  # no network call inside a transaction
    try:
        files.delete(file_id)
    except UnavailableService as error:
        postpone_step(session, window_id, token, Step.FIND, error)
        return {}
    window = hold_lease(session, window_id, token, Step.FIND)
    now = clock(session)
    window.input_deleted_at, window.find_after = now, None
    release_lease(window, due_at=now)
    lifecycle.write_window_event(session, window_id, "input_deleted", now=now, actor="app")
    session.commit()
    return {}


def _apply_poll(
    session: Session, settings: Settings, window: BatchWindow, step: Step, answer: Answer, body: Any, now: datetime
) -> None:
    if step is Step.CANCEL and (answer.is_billable or answer.is_refusal_for_good or answer.status_code == 409):
        window.cancel_asked_at = now  # a refusal means that it has ended already: the next poll tells how
        lifecycle.write_window_event(session, window.id, "cancel_asked", now=now, actor="n8n")
    batch = BatchObject.read(body) if answer.is_billable else None
    if batch is None or batch.id != window.provider_batch_id:
        if step is Step.CANCEL and window.cancel_asked_at:
            release_lease(window, due_at=now)
        elif answer.status_code == 404 and window.denials + 1 >= MOST_DENIALS:
            _give_up(session, window, now)
        else:
            wait, is_denial = answer.retry_after_seconds or settings.poll_seconds, answer.status_code == 404
            postpone(window, _words(answer), now=now, at_least=wait, is_denial=is_denial)
        return
    if batch.status != window.provider_status:
        lifecycle.write_window_event(
            session, window.id, "provider_status", now=now, actor="provider",
            detail={"from": window.provider_status, "to": batch.status},
        )  # fmt: skip
    _store_batch(window, batch)
    has_next = batch.is_terminal or (window.cancel_requested_at and not window.cancel_asked_at)
    release_lease(window, due_at=now if has_next else now + timedelta(seconds=settings.poll_seconds))


def _give_up(session: Session, window: BatchWindow, now: datetime) -> None:
    """The provider has long denied that it has this batch: settle with what there is, which is nothing."""
    lifecycle.write_window_event(
        session, window.id, "provider_status", now=now, actor="app",
        detail={"from": window.provider_status, "to": ProviderStatus.GONE},
    )  # fmt: skip
    window.provider_status = ProviderStatus.GONE
    window.output_file_id = window.error_file_id = None
    release_lease(window, due_at=now)


def _words(answer: Answer) -> str:
    return answer.error_message or f"The provider answered {answer.status_code} with something that is no batch."


def _adopt(session: Session, window: BatchWindow, batch: BatchObject, now: datetime) -> None:
    """This provider batch is ours: the window is submitted and its jobs are being processed."""
    _store_batch(window, batch)
    window.provider_batch_id = batch.id
    window.provider_created_at = batch.created_at
    release_lease(window, due_at=now)
    session.flush()
    moved = lifecycle.move_window(
        session, window.id, WindowStatus.SUBMITTED, now=now, actor="n8n", event="submitted",
        detail={"providerBatchId": batch.id, "jobs": window.job_count},
    )  # fmt: skip
    if moved:
        lifecycle.submit_window_jobs(session, window.id, now=now)


def _store_batch(window: BatchWindow, batch: BatchObject) -> None:
    window.provider_status = batch.status
    window.provider_batch = batch.raw
    window.output_file_id = batch.output_file_id
    window.error_file_id = batch.error_file_id
    window.expires_at = batch.expires_at


def _keep_stray(session: Session, window_id: int, step: Step, body: Any) -> None:
    """An answer that came too late names a batch: no window may adopt it from here, but nobody may forget it."""
    batch = BatchObject.read(body) if step is Step.CREATE else None
    known = select(BatchWindow.id).where(BatchWindow.provider_batch_id == (batch.id if batch else None))
    if batch is None or session.execute(known).first():
        session.rollback()
        return
    _store_stray(session, window_id, batch, clock(session))
    session.commit()


def _store_stray(session: Session, window_id: int, batch: BatchObject, now: datetime) -> None:
    row = {"provider_batch_id": batch.id, "window_id": window_id, "seen_at": now}
    session.execute(insert(StrayBatch).values(**row).on_conflict_do_nothing())


def _provider_request(settings: Settings, window: BatchWindow, step: Step) -> dict[str, Any] | None:
    """The provider call that n8n makes for this step."""
    batches = f"{settings.openai_base_url}/batches"
    match step:
        case Step.CREATE:
            body = {
                "input_file_id": window.input_file_id, "endpoint": window.queue.endpoint,
                "completion_window": COMPLETION_WINDOW, "metadata": make_mark(settings.public_url, window.id),
            }  # fmt: skip
            return {"method": "POST", "url": batches, "body": body}
        case Step.FIND:
            after = f"&after={window.find_after}" if window.find_after else ""
            return {"method": "GET", "url": f"{batches}?limit=100{after}"}
        case Step.POLL:
            return {"method": "GET", "url": f"{batches}/{window.provider_batch_id}"}
        case Step.CANCEL:
            return {"method": "POST", "url": f"{batches}/{window.provider_batch_id}/cancel"}
    return None
