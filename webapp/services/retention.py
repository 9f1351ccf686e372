"""Delete what has had its time: documents, request bodies, and our files at the provider. Nothing else.

Each deletion leaves a receipt, written after the deed. A crash between the two repeats the deed, which is harmless:
what is gone stays gone. Everything goes in portions of a few seconds, in no order, so that one thing that cannot be
deleted does not keep the rest from its turn; what is left is due at the next beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select, text, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import UnavailableService
from webapp.gateways.provider_files import ProviderFiles
from webapp.gateways.storage import Storage
from webapp.models import BatchWindow, Document, Job, JobDocument, RetentionReceipt
from webapp.services import idempotency, sign_ins, webhooks
from webapp.services.clock import clock

REQUESTS_AT_ONCE = 1000
AT_ONCE = 10  # windows, documents: each is some calls over the network
BUDGET_SECONDS = 2.0  # for documents, and for windows: the heartbeat has other things to do


def delete_due(session: Session, settings: Settings, storage: Storage, files: ProviderFiles) -> int:
    """One portion of everything that is due. Commits. Returns how many requests, keys, failed sign-ins, messages,
    documents and windows it was.

    Raises the last UnavailableService or OSError of things that could not be deleted; the others are.
    """
    deleted = delete_requests(session, settings) + idempotency.delete_old(session)
    deleted += sign_ins.delete_old(session)
    deleted += webhooks.delete_old(session, settings)
    done, documents_error = _one_by_one(
        _withdraw_documents(session, settings), lambda document: _delete_document(session, storage, files, document)
    )
    deleted += done
    done, windows_error = _one_by_one(
        _due_windows(session, settings), lambda window: _delete_window_files(session, files, window)
    )
    if error := documents_error or windows_error:
        raise error
    return deleted + done


def _one_by_one(things: Sequence[Any], delete: Callable[[Any], None]) -> tuple[int, Exception | None]:
    """Delete as many as there is time for: (how many, the last thing that went wrong)."""
    stop, done, failure = time.monotonic() + BUDGET_SECONDS, 0, None
    for thing in things:
        if time.monotonic() > stop:
            break
        try:
            delete(thing)
            done += 1
        except (UnavailableService, OSError) as error:
            failure = error
    return done, failure


def delete_requests(session: Session, settings: Settings) -> int:
    """Forget the request bodies of jobs that ended KEEP_REQUESTS_DAYS ago. Commits. Returns how many."""
    now = clock(session)
    last = _last_moment(settings.keep_requests_days, now)
    if last is None:
        return 0
    deleted = session.execute(
        text("""
            WITH due AS (
                SELECT id FROM jobs WHERE finished_at <= :last AND request_deleted_at IS NULL
                ORDER BY finished_at LIMIT :most FOR UPDATE SKIP LOCKED
            ), marked AS (
                UPDATE jobs SET request_deleted_at = :now FROM due WHERE jobs.id = due.id
            ), emptied AS (
                UPDATE job_requests SET body = NULL FROM due WHERE job_id = due.id
            )
            INSERT INTO retention_receipts (kind, target, deleted_at)
            SELECT 'request', 'job:' || id, :now FROM due
            RETURNING 1
        """),
        {"last": last, "most": REQUESTS_AT_ONCE, "now": now},
    ).all()
    session.commit()
    return len(deleted)


def _delete_document(session: Session, storage: Storage, files: ProviderFiles, document: Any) -> None:
    storage.delete(document.storage_key)
    if document.provider_file_id:
        _delete_file(session, files, document.provider_file_id)
    now = clock(session)
    _write_receipt(session, "document", f"document:{document.id}", now)
    session.execute(update(Document).where(Document.id == document.id).values(bytes_deleted_at=now))
    session.commit()


def _due_windows(session: Session, settings: Settings) -> list[Any]:
    """Windows that ended KEEP_PROVIDER_FILES_DAYS ago and whose files are at the provider. Ends the transaction."""
    last = _last_moment(settings.keep_provider_files_days, clock(session))
    if last is None:
        return []
    due = session.execute(
        select(BatchWindow.id, BatchWindow.input_file_id, BatchWindow.output_file_id, BatchWindow.error_file_id)
        .where(BatchWindow.finished_at <= last, BatchWindow.files_deleted_at.is_(None))
        .order_by(func.random())
        .limit(AT_ONCE)
    ).all()
    session.commit()
    return list(due)


def _delete_window_files(session: Session, files: ProviderFiles, window: Any) -> None:
    for file_id in filter(None, (window.input_file_id, window.output_file_id, window.error_file_id)):
        _delete_file(session, files, file_id)
    session.execute(update(BatchWindow).where(BatchWindow.id == window.id).values(files_deleted_at=clock(session)))
    session.commit()


def _withdraw_documents(session: Session, settings: Settings) -> list[Any]:
    """Documents that came in KEEP_DOCUMENTS_DAYS ago and that no unfinished job needs, marked as deleted, so that
    nobody uses them from now on: (id, storage key, provider file). Commits.

    Documents that were marked before, but whose bytes are still there, are among them.
    """
    now = clock(session)
    last = _last_moment(settings.keep_documents_days, now)
    is_needed = (
        select(JobDocument.job_id)
        .join(Job, Job.id == JobDocument.job_id)
        .where(JobDocument.document_id == Document.id, Job.finished_at.is_(None))
        .offset(0)  # a look for each document: PostgreSQL expects many, and would read what all jobs were made from
        .exists()
    )
    has_bytes = select(Document.id).where(Document.bytes_deleted_at.is_(None))
    due = [has_bytes.where(Document.deleted_at.is_not(None))]
    if last is not None:
        due.append(has_bytes.where(Document.deleted_at.is_(None), Document.created_at <= last, ~is_needed))
    ids = union_all(*due).subquery()
    chosen = session.scalars(select(ids.c.id).order_by(func.random()).limit(AT_ONCE)).all()
    locked = session.scalars(
        select(Document.id)
        .where(Document.id.in_(chosen), Document.bytes_deleted_at.is_(None))
        .with_for_update(skip_locked=True)
    ).all()
    # A statement of its own: a job that was made until the lock was ours is seen here.
    withdrawn = session.execute(
        update(Document)
        .where(Document.id.in_(locked), or_(Document.deleted_at.is_not(None), ~is_needed))
        .values(deleted_at=func.coalesce(Document.deleted_at, now), text="")
        .returning(Document.id, Document.storage_key, Document.provider_file_id)
        .execution_options(synchronize_session=False)
    ).all()
    session.commit()
    return list(withdrawn)


def _delete_file(session: Session, files: ProviderFiles, file_id: str) -> None:
    files.delete(file_id)
    _write_receipt(session, "provider_file", file_id, clock(session))
    session.commit()


def _write_receipt(session: Session, kind: str, target: str, now: datetime) -> None:
    """One for each thing, however often the deed had to be repeated."""
    row = {"kind": kind, "target": target, "deleted_at": now}
    session.execute(insert(RetentionReceipt).values(**row).on_conflict_do_nothing())


def _last_moment(days: int, now: datetime) -> datetime | None:
    """What ended by then is due; None when it is kept for ever."""
    return now - timedelta(days=days) if days else None
