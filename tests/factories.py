"""Rows for tests, made through the services. Each function builds on the one before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from webapp.domain.answers import read_answer
from webapp.domain.windows import Step
from webapp.models import Base, BatchItem, BatchWindow, Document, Job, Queue, Submission, User
from webapp.parts import Parts
from webapp.services import accounts, batch_files, batches, benchmarks, jobs, submissions, windows
from webapp.services.benchmark_plans import Wish

PASSWORD = "correct horse battery"
TEXT = "Sluices let water through. A gate is opened when enough has been collected."


def empty_tables(session: Session, parts: Parts) -> None:
    """As before the first start: nothing is stored, and the process knows nothing by heart. Commits."""
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    session.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
    session.commit()
    parts.profiles._kept.clear()


def make_user(session: Session, email: str = "alice@example.org", role: str = "user") -> User:
    return accounts.register(session, email, PASSWORD, role=role)


def make_document(session: Session, user: User, text: str = TEXT) -> Document:
    document = Document(
        user_id=user.id, filename="report.pdf", content_type="application/pdf", bytes=len(text), sha256="0" * 64,
        storage_key=f"key{user.id}{session.query(Document).count()}", pages=1, text=text,
    )  # fmt: skip
    session.add(document)
    session.commit()
    return document


def make_jobs(session: Session, parts: Parts, user: User, count: int, **values: Any) -> list[int]:
    document = make_document(session, user)
    return jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="pdf_summary",
        runs=[{"document": document.id, **values}] * count,
    )  # fmt: skip


def sign_in(client: FlaskClient, email: str = "alice@example.org") -> FlaskClient:
    """A browser in which this person has signed in."""
    client.post("/login", data={"email": email, "password": PASSWORD})
    return client


def make_job(session: Session, parts: Parts, user: User, **values: Any) -> Job:
    return session.get_one(Job, make_jobs(session, parts, user, 1, **values)[0])


def make_submission(session: Session, parts: Parts, user: User, count: int = 2, **values: Any) -> Submission:
    """`count` jobs of one submission, sync unless `values` say otherwise."""
    return submissions.submit(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="text_classification",
        runs=[{"text": f"Text {number}.", "labels": "good, bad", **values} for number in range(count)],
        source="rows", name="rows.csv",
    )  # fmt: skip


def make_benchmark(session: Session, parts: Parts, user: User, *tiers: str, **changes: Any) -> int:
    """A run of two jobs a step, in both modes, whose documents need not be read; returns its id."""
    values: dict[str, Any] = {"modes": ["sync", "batch"], "jobs_per_step": 2, "repetitions": 1, **changes}
    documents = {tier: make_document(session, user).id for tier in tiers or ("S",)}
    wish = Wish(profile_id="pdf_summary", tiers=["S"], documents=[], **values)
    return benchmarks.start_run(session, parts.profiles, user=user, wish=wish, tiers=documents)


def make_queued_jobs(session: Session, parts: Parts, user: User, count: int, **values: Any) -> tuple[int, list[int]]:
    """(queue id, job ids)"""
    job_ids = make_jobs(session, parts, user, count, executionMode="batch", **values)
    return session.scalars(select(Queue.id)).one(), job_ids


def make_window(session: Session, parts: Parts, user: User, count: int = 3, **values: Any) -> BatchWindow:
    """An open window of `count` claimed jobs."""
    queue_id, job_ids = make_queued_jobs(session, parts, user, count, **values)
    return batches.open_window(
        session, parts.settings, parts.profiles, queue_id=queue_id, job_ids=job_ids, actor="test"
    )


def take_lease(session: Session, parts: Parts, step: Step) -> windows.Lease:
    lease = windows.lease_due_window(session, parts.settings)
    assert lease is not None
    assert lease.step is step
    return lease


def make_submitted_window(session: Session, parts: Parts, user: User, count: int = 3, **values: Any) -> BatchWindow:
    """A window whose provider batch exists."""
    return submit_window(session, parts, make_window(session, parts, user, count, **values))


def submit_window(session: Session, parts: Parts, window: BatchWindow) -> BatchWindow:
    """The provider takes this open window."""
    lease = take_lease(session, parts, Step.UPLOAD_INPUT)
    batch_files.upload_input(session, parts.files, window_id=window.id, token=lease.token)
    lease = take_lease(session, parts, Step.CREATE)
    answer_step(session, parts, lease, batch_object(window, "validating"))
    session.refresh(window)
    return window


def answer_step(session: Session, parts: Parts, lease: windows.Lease, body: Any, status: int = 200) -> dict[str, Any]:
    return windows.apply_answer(
        session, parts.settings, parts.files, window_id=lease.window.id, token=lease.token, step=lease.step,
        answer=read_answer(status, body), body=body,
    )  # fmt: skip


def batch_object(window: BatchWindow, status: str, **more: Any) -> dict[str, Any]:
    """The provider's Batch object of a window."""
    return {
        "id": f"batch_{window.id}", "object": "batch", "status": status, "input_file_id": window.input_file_id,
        "created_at": 1_790_000_000, **more,
    }  # fmt: skip


def end_batch(
    session: Session, parts: Parts, window: BatchWindow, status: str, *,
    output: Sequence[Any] | None = None, error_lines: Sequence[Any] | None = None, **more: Any,
) -> windows.Lease:  # fmt: skip
    """The provider batch ends with these lines; returns the lease of the ingest step."""
    for name, lines in (("output", output), ("error", error_lines)):
        if lines is not None:
            file_id = f"file-{name}-{window.id}"
            parts.files.contents[file_id] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
            more[f"{name}_file_id"] = file_id
    lease = take_lease(session, parts, Step.POLL)
    answer_step(session, parts, lease, batch_object(window, status, **more))
    return take_lease(session, parts, Step.INGEST)


def items_of(session: Session, window: BatchWindow) -> list[BatchItem]:
    statement = select(BatchItem).where(BatchItem.window_id == window.id).order_by(BatchItem.job_id)
    return list(session.scalars(statement.execution_options(populate_existing=True)))


def response(text: str = "- A summary.", **more: Any) -> dict[str, Any]:
    """A Responses object as the provider sends it."""
    return {
        "id": f"resp_{abs(hash(text))}", "object": "response", "status": "completed", "model": "gpt-6-luna",
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]},
        ],
        "usage": {"input_tokens": 1000, "output_tokens": 200, "input_tokens_details": {"cached_tokens": 0}},
        **more,
    }  # fmt: skip


def output_line(item: BatchItem, body: dict[str, Any] | None = None, status: int = 200) -> dict[str, Any]:
    body = response(f"- Summary of job {item.job_id}.") if body is None else body
    return {
        "id": "batch_req_1", "custom_id": item.custom_id, "error": None,
        "response": {"status_code": status, "request_id": "req", "body": body},
    }  # fmt: skip
