"""Queues, batch windows and their items."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.domain.states import BatchStrategy, ItemOutcome, WindowStatus
from webapp.models.base import Base, BigInt, CreatedAt, Id, Json


class Queue(Base):
    """Jobs that may share a window: one profile, endpoint, model and strategy. Its jobs are a query, not rows here."""

    __tablename__ = "queues"

    id: Mapped[Id]
    profile_id: Mapped[str]
    endpoint: Mapped[str]
    model: Mapped[str]
    strategy: Mapped[BatchStrategy]
    held_at: Mapped[datetime | None]  # an operator holds it: nothing opens
    not_before: Mapped[datetime | None]  # the provider asked for a pause
    pauses: Mapped[int] = mapped_column(server_default="0")  # in a row: each is longer
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("profile_id", "endpoint", "model", "strategy"),)


class BatchWindow(Base):
    __tablename__ = "batch_windows"

    id: Mapped[Id]
    queue_id: Mapped[int] = mapped_column(ForeignKey("queues.id"))
    status: Mapped[WindowStatus]
    job_count: Mapped[int]
    enqueued_tokens: Mapped[BigInt] = mapped_column(server_default="0")  # of the provider's allowance, counted high
    opened_because: Mapped[str]  # full | waited | flushed | chosen
    opened_at: Mapped[datetime]
    submitted_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    failure_message: Mapped[str | None]
    needs_attention: Mapped[str | None]  # what does not add up, with the ids; it does not hold the window open
    problem: Mapped[str | None]  # what the last step ran into; it is tried again
    problems: Mapped[int] = mapped_column(server_default="0")  # in a row: each wait is longer
    denials: Mapped[int] = mapped_column(server_default="0")  # of these: "refused for good", "there is no such thing"

    # One worker at a time: a step is taken under a lease, and only its token may report.
    due_at: Mapped[datetime]  # when the next step may be taken
    lease_token: Mapped[str | None]
    lease_step: Mapped[str | None]
    lease_until: Mapped[datetime | None]

    # Exactly one provider batch: create is offered once; until its outcome is known the next step is find.
    input_file_id: Mapped[str | None]
    input_bytes: Mapped[BigInt | None]
    create_offered_at: Mapped[datetime | None]
    create_lease_until: Mapped[datetime | None]  # the grace runs from here
    find_after: Mapped[str | None]  # the page of the provider's list that find reads next
    input_deleted_at: Mapped[datetime | None]  # the fence: a create that comes later finds no input file
    provider_batch_id: Mapped[str | None] = mapped_column(unique=True)
    provider_status: Mapped[str | None]  # the provider's own word, lower case
    provider_batch: Mapped[Json | None] = mapped_column()  # the batch object as last seen
    output_file_id: Mapped[str | None]
    error_file_id: Mapped[str | None]
    provider_created_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]

    cancel_requested_at: Mapped[datetime | None]  # a wish; the window ends when the provider has
    cancels_jobs: Mapped[bool] = mapped_column(server_default="false")  # its jobs, too; else they go back
    cancel_asked_at: Mapped[datetime | None]  # the provider was asked
    files_deleted_at: Mapped[datetime | None]  # at the provider, by retention
    cut_off_at: Mapped[datetime | None]  # strategy deadline: then it is cancelled, so that due jobs can run now

    queue: Mapped[Queue] = relationship()

    __table_args__ = (
        CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('completed', 'failed', 'expired', 'cancelled'))",
            name="terminal_iff_finished",
        ),
        CheckConstraint("status <> 'submitted' OR provider_batch_id IS NOT NULL", name="submitted_has_provider_batch"),
        CheckConstraint("job_count >= 1", name="job_count_positive"),
        Index("ix_batch_windows_due", "due_at", "id", postgresql_where=text("finished_at IS NULL")),
        Index(
            "ix_batch_windows_keeps_files",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND files_deleted_at IS NULL"),
        ),
        # The lists, newest first: of a queue, of an end, and of those that do not add up.
        Index("ix_batch_windows_queue_newest", "queue_id", text("id DESC")),
        Index("ix_batch_windows_ended", "status", text("id DESC"), postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_batch_windows_attention", "id", postgresql_where=text("needs_attention IS NOT NULL")),
    )


class BatchItem(Base):
    """One job's ride in one window. `custom_id` is its name at the provider: w<window>-j<job>-a<attempt>."""

    __tablename__ = "batch_items"

    custom_id: Mapped[str] = mapped_column(primary_key=True)
    window_id: Mapped[int] = mapped_column(ForeignKey("batch_windows.id"))
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    outcome: Mapped[ItemOutcome | None]  # NULL = open
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]

    __table_args__ = (
        UniqueConstraint("window_id", "job_id"),
        Index("uq_batch_items_one_open_per_job", "job_id", unique=True, postgresql_where=text("outcome IS NULL")),
        Index("ix_batch_items_job_id", "job_id"),
    )


class WindowEvent(Base):
    """One change of a window. Claim, submit and release are events of the window; a job's timeline joins them."""

    __tablename__ = "window_events"

    id: Mapped[Id]
    window_id: Mapped[int] = mapped_column(ForeignKey("batch_windows.id"), index=True)
    at: Mapped[datetime]
    event: Mapped[str]  # opened | input_uploaded | submitted | provider_status | cancel_asked | settled | …
    actor: Mapped[str]
    detail: Mapped[Json | None] = mapped_column()

    __table_args__ = (  # how the provider does
        Index("ix_window_events_refused", "at", postgresql_where=text("event = 'create_refused'")),
    )


class StrayBatch(Base):
    """A provider batch named in an answer that came too late to count: `flask doctor` looks after it."""

    __tablename__ = "stray_batches"

    provider_batch_id: Mapped[str] = mapped_column(primary_key=True)
    window_id: Mapped[int] = mapped_column(ForeignKey("batch_windows.id"))
    seen_at: Mapped[datetime]
