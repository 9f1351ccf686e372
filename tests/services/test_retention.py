"""What has had its time is deleted, with a receipt; nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, inspect, select, text
from sqlalchemy.orm import Session

from tests.factories import (
    end_batch,
    items_of,
    make_document,
    make_job,
    make_submitted_window,
    make_user,
    make_window,
    output_line,
)
from tests.fakes import FakeProviderFiles
from webapp.domain.errors import InvalidInput, UnavailableService
from webapp.domain.states import JobStatus
from webapp.models import BatchWindow, Document, Job, JobRequest, RetentionReceipt
from webapp.parts import Parts
from webapp.services import batch_ingest, doctor, jobs, lifecycle, retention
from webapp.services.clock import clock, move_clock

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _real_time_again(session: Session) -> Iterator[None]:
    yield
    session.rollback()
    move_clock(session, ahead=timedelta())


@pytest.fixture
def ended(session: Session, parts: Parts) -> BatchWindow:
    """A window of three jobs that has ended; its input, output and error files are at the provider."""
    window = make_submitted_window(session, parts, make_user(session))
    first, second, third = items_of(session, window)
    error = output_line(third, {"error": {"message": "bad", "code": "x"}}, 400)
    lease = end_batch(
        session, parts, window, "completed", output=[output_line(first), output_line(second)], error_lines=[error]
    )
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    session.refresh(window)
    return window


def delete_due(session: Session, parts: Parts) -> int:
    return retention.delete_due(session, parts.settings, parts.storage, parts.files)


def receipts(session: Session) -> list[tuple[str, str]]:
    rows = session.execute(select(RetentionReceipt.kind, RetentionReceipt.target).order_by(RetentionReceipt.id))
    return [(row.kind, row.target) for row in rows]


def everything(session: Session, engine: Engine) -> dict[str, Any]:
    """All rows of all tables but the receipts."""
    names = set(inspect(engine).get_table_names()) - {"retention_receipts", "alembic_version", "test_clock"}
    return {name: session.execute(text(f"SELECT t::text FROM {name} t ORDER BY 1")).scalars().all() for name in names}


def test_nothing_is_deleted_before_its_time(
    session: Session, parts: Parts, ended: BatchWindow, tables: Engine, files: FakeProviderFiles
) -> None:
    before = everything(session, tables)
    move_clock(session, ahead=6.9 * DAY)
    assert delete_due(session, parts) == 0
    assert everything(session, tables) == before
    assert files.deleted == []


def test_the_files_of_an_ended_window_go_first(
    session: Session, parts: Parts, ended: BatchWindow, files: FakeProviderFiles
) -> None:
    move_clock(session, ahead=7.1 * DAY)
    assert delete_due(session, parts) == 1
    gone = [ended.input_file_id, ended.output_file_id, ended.error_file_id]
    assert files.deleted == gone
    assert receipts(session) == [("provider_file", name) for name in gone]
    assert delete_due(session, parts) == 0


def test_requests_and_documents_follow_and_nothing_else(
    session: Session, parts: Parts, ended: BatchWindow, tables: Engine
) -> None:
    before = everything(session, tables)
    move_clock(session, ahead=30.1 * DAY)
    assert delete_due(session, parts) == 3 + 1 + 1
    assert set(receipts(session)) >= {("request", "job:1"), ("request", "job:3"), ("document", "document:1")}
    after = everything(session, tables)
    assert {name for name in before if before[name] != after[name]} == {
        "jobs", "job_requests", "documents", "batch_windows",
    }  # fmt: skip
    assert session.scalars(select(JobRequest.body)).all() == [None] * 3
    assert doctor.examine(session, parts.settings) == []


def test_what_a_job_still_needs_stays(session: Session, parts: Parts, files: FakeProviderFiles) -> None:
    user = make_user(session)
    make_window(session, parts, user)  # claimed jobs and their document
    make_job(session, parts, user)
    move_clock(session, ahead=400 * DAY)
    assert delete_due(session, parts) == 0
    assert doctor.examine(session, parts.settings)  # they are stuck, but they have what they need
    assert session.scalar(select(func.count()).where(JobRequest.body.is_(None))) == 0


def test_a_document_goes_from_the_store_and_from_the_provider(
    session: Session, parts: Parts, files: FakeProviderFiles, tmp_path: Path
) -> None:
    document = make_document(session, make_user(session))
    source = tmp_path / "source"
    source.write_bytes(b"%PDF")
    parts.storage.put(document.storage_key, source)
    document.provider_file_id = "file-doc"
    session.commit()
    move_clock(session, ahead=31 * DAY)
    delete_due(session, parts)
    session.refresh(document)
    assert (document.text, document.deleted_at is not None) == ("", True)
    assert receipts(session) == [("provider_file", "file-doc"), ("document", f"document:{document.id}")]
    with pytest.raises(FileNotFoundError):
        parts.storage.open(document.storage_key)


def test_a_deletion_that_was_interrupted_is_taken_up_again(
    session: Session, parts: Parts, ended: BatchWindow, files: FakeProviderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider deletes one file and then does not answer any more."""
    real, answers = files.delete, iter([True, False])

    def delete(file_id: str) -> None:
        if not next(answers, False):
            raise UnavailableService("The provider did not delete it")
        real(file_id)

    move_clock(session, ahead=8 * DAY)
    monkeypatch.setattr(files, "delete", delete)
    with pytest.raises(UnavailableService):
        delete_due(session, parts)
    assert receipts(session) == [("provider_file", ended.input_file_id)]
    monkeypatch.setattr(files, "delete", real)
    assert delete_due(session, parts) == 1
    assert len(receipts(session)) == len(set(receipts(session))) == 3


def test_nobody_can_use_a_document_that_was_withdrawn(session: Session, parts: Parts) -> None:
    user = make_user(session)
    document = make_document(session, user)
    move_clock(session, ahead=31 * DAY)
    delete_due(session, parts)
    with pytest.raises(InvalidInput, match="not right"):
        jobs.create_jobs(
            session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="pdf_summary",
            runs=[{"document": document.id}],
        )  # fmt: skip


def test_zero_days_keep_for_ever(session: Session, parts: Parts, ended: BatchWindow) -> None:
    for_ever = parts.settings.model_copy(
        update={"keep_documents_days": 0, "keep_requests_days": 0, "keep_provider_files_days": 0}
    )
    move_clock(session, ahead=4000 * DAY)
    assert retention.delete_due(session, for_ever, parts.storage, parts.files) == 0


def test_old_documents_that_are_needed_do_not_keep_others_from_their_turn(session: Session, parts: Parts) -> None:
    user = make_user(session)
    for _ in range(retention.AT_ONCE + 1):
        make_job(session, parts, user)
    last = make_job(session, parts, user)
    lifecycle.move_job(session, last.id, JobStatus.CANCELLED, now=clock(session), actor="test", reason="no")
    session.commit()
    move_clock(session, ahead=31 * DAY)
    delete_due(session, parts)
    assert session.scalars(select(Document.id).where(Document.deleted_at.is_not(None))).all() == [
        session.get_one(Job, last.id).documents[0].id
    ]
