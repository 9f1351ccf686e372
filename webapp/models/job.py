"""Jobs, the exact request of each, their answers, and one event row for each change."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.domain.states import BatchStrategy, ExecutionMode, JobStatus
from webapp.models.base import Base, BigInt, CreatedAt, Id, Json
from webapp.models.document import Document
from webapp.models.ledger import Usd
from webapp.models.user import User


class ProfileVersion(Base):
    """What a job is pinned to (fields, request, output) and, beside it, the batch and execution parts last seen."""

    __tablename__ = "profile_versions"

    id: Mapped[Id]
    profile_id: Mapped[str]
    content_hash: Mapped[str]
    document: Mapped[Json]  # the whole profile as last loaded with this content
    created_at: Mapped[CreatedAt]
    last_seen_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("profile_id", "content_hash"),)


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    profile_id: Mapped[str]
    profile_version_id: Mapped[int] = mapped_column(ForeignKey("profile_versions.id"))
    execution_mode: Mapped[ExecutionMode]
    batch_strategy: Mapped[BatchStrategy | None]
    queue_id: Mapped[int | None] = mapped_column(ForeignKey("queues.id"))
    status: Mapped[JobStatus]
    inputs: Mapped[Json]
    submission_id: Mapped[int | None] = mapped_column(ForeignKey("submissions.id"))  # the jobs that it was made with
    retry_of: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    need_by: Mapped[datetime | None]  # strategy deadline

    attempt: Mapped[int] = mapped_column(server_default="1")  # counts starts that were given up, plus one
    free_returns: Mapped[int] = mapped_column(server_default="0")  # returns that used no attempt
    has_ridden: Mapped[bool] = mapped_column(server_default="false")  # came back from a window: counts as overdue
    execution_id: Mapped[str | None]  # the n8n execution that owns the attempt
    lease_until: Mapped[datetime | None]  # of the attempt
    dispatched_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]  # back-off: no dispatch before this

    created_at: Mapped[datetime]
    queued_at: Mapped[datetime | None]  # the wait that counts for maxWaitSeconds
    claimed_at: Mapped[datetime | None]
    first_started_at: Mapped[datetime | None]  # the sync deadline runs from here
    started_at: Mapped[datetime | None]  # this attempt
    finished_at: Mapped[datetime | None]
    request_deleted_at: Mapped[datetime | None]  # by retention
    failure_code: Mapped[str | None]
    failure_message: Mapped[str | None]  # a sentence for the person who reads the job page

    user: Mapped[User] = relationship()
    profile_version: Mapped[ProfileVersion] = relationship()
    result: Mapped[JobResult | None] = relationship(viewonly=True)
    documents: Mapped[list[Document]] = relationship(secondary="job_documents", viewonly=True)

    __table_args__ = (
        CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('completed', 'failed', 'expired', 'cancelled'))",
            name="terminal_iff_finished",
        ),
        CheckConstraint("(execution_mode = 'batch') = (queue_id IS NOT NULL)", name="batch_iff_queue"),
        CheckConstraint("batch_strategy <> 'deadline' OR need_by IS NOT NULL", name="deadline_has_need_by"),
        CheckConstraint("attempt >= 1", name="attempt_positive"),
        # The claim: the oldest queued jobs of one queue.
        Index("ix_jobs_claim", "queue_id", "queued_at", "id", postgresql_where=text("status = 'queued'")),
        Index(
            "ix_jobs_claim_by_deadline",
            "queue_id",
            "need_by",
            "queued_at",
            "id",
            postgresql_where=text("status = 'queued' AND need_by IS NOT NULL"),
        ),
        # The heartbeat: what is to be dispatched, in its turn, and what still waits long after its first start; whose
        # lease may have ended, and whose time is running out.
        Index(
            "ix_jobs_dispatch",
            text("dispatched_at NULLS FIRST"),
            "need_by",
            "id",
            postgresql_where=text("status = 'created'"),
        ),
        Index(
            "ix_jobs_started_before",
            "first_started_at",
            postgresql_where=text("status = 'created' AND first_started_at IS NOT NULL"),
        ),
        Index("ix_jobs_lease", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
        Index("ix_jobs_due", "need_by", postgresql_where=text("need_by IS NOT NULL AND finished_at IS NULL")),
        # Retention: whose request is still there.
        Index(
            "ix_jobs_keeps_request",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL AND request_deleted_at IS NULL"),
        ),
        # Budgets: what is reserved; is a submission over; estimates: what the last answers of a profile took.
        Index(
            "ix_jobs_user_unfinished", "user_id", "submission_id", "id", postgresql_where=text("finished_at IS NULL")
        ),
        Index("ix_jobs_profile_unfinished", "profile_id", postgresql_where=text("finished_at IS NULL")),
        Index(
            "ix_jobs_profile_completed", "profile_id", text("id DESC"), postgresql_where=text("status = 'completed'")
        ),
        # A submission's list and its progress.
        Index(
            "ix_jobs_submission",
            "submission_id",
            "id",
            postgresql_include=["status"],
            postgresql_where=text("submission_id IS NOT NULL"),
        ),
        # What repeats a job: few do, and the others are not to pay for it.
        Index("ix_jobs_retry_of", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
        # Failures by reason: all that their page asks of each.
        Index(
            "ix_jobs_failed",
            "failure_code",
            text("finished_at DESC"),
            text("id DESC"),
            postgresql_include=["profile_id"],
            postgresql_where=text("status = 'failed'"),
        ),
        # The history page: newest first, for one user and for all, with the state of each, as thousands are counted;
        # and what ended without an answer, which is rare.
        Index("ix_jobs_user_newest", "user_id", text("id DESC"), postgresql_include=["status"]),
        Index(
            "ix_jobs_user_ended",
            "user_id",
            "status",
            text("id DESC"),
            postgresql_where=text("status IN ('failed', 'expired', 'cancelled')"),
        ),
    )


class JobDocument(Base):
    """Which documents a job was made from."""

    __tablename__ = "job_documents"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id"), primary_key=True, index=True)


class JobRequest(Base):
    """The provider request, rendered once: what is sent is what is stored."""

    __tablename__ = "job_requests"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True, autoincrement=False)
    endpoint: Mapped[str]
    model: Mapped[str]
    body: Mapped[str | None]  # JSON text, one line; NULL once retention has deleted it
    body_bytes: Mapped[int]
    file_pages: Mapped[int] = mapped_column(server_default="0")  # of documents that are sent as files
    most_input_tokens: Mapped[int]
    max_output_tokens: Mapped[int | None]  # as the request says; NULL = it says nothing
    # What was said before submit (domain/estimates.py); NULL = it was not known.
    estimated_input_tokens: Mapped[BigInt | None]
    estimated_output_tokens: Mapped[BigInt | None]
    estimated_amount: Mapped[Decimal | None] = mapped_column(Usd)
    ceiling: Mapped[Decimal | None] = mapped_column(Usd)  # USD; it cannot cost more. Budgets reserve it


class JobResult(Base):
    """The good answer of a job. The raw answer is apart, in job_answers."""

    __tablename__ = "job_results"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    answer_key: Mapped[str]
    text: Mapped[str]
    is_cut: Mapped[bool]  # max_output_tokens ended it
    model: Mapped[str | None]
    input_tokens: Mapped[BigInt | None]
    cached_input_tokens: Mapped[BigInt | None]
    output_tokens: Mapped[BigInt | None]
    reasoning_tokens: Mapped[BigInt | None]
    provider_ms: Mapped[BigInt | None]
    provider_ms_source: Mapped[str | None]  # header | n8n | batch
    queue_ms: Mapped[BigInt]  # created until the provider got it
    total_ms: Mapped[BigInt]  # created until the answer was stored
    created_at: Mapped[datetime]


class JobAnswer(Base):
    """Each provider answer as it came (JSON text), good or not: the evidence."""

    __tablename__ = "job_answers"

    id: Mapped[Id]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    answer_key: Mapped[str]
    status_code: Mapped[int]
    request_id: Mapped[str | None]
    raw: Mapped[str]
    received_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("job_id", "attempt", "answer_key"),
        Index("ix_job_answers_answer_key", "answer_key", postgresql_using="hash"),  # the search for the provider's id
        Index(  # how the provider does; errors are few
            "ix_job_answers_errors",
            "received_at",
            postgresql_include=["status_code"],
            postgresql_where=text("status_code NOT BETWEEN 200 AND 299"),
        ),
    )


class JobEvent(Base):
    """One change of a job: from, to, who and why. A window's own events are joined to it, not copied."""

    __tablename__ = "job_events"

    id: Mapped[Id]
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    at: Mapped[datetime]
    from_status: Mapped[str | None]
    to_status: Mapped[str]
    actor: Mapped[str]  # user:<id> | n8n:<execution> | heartbeat | window:<id>
    reason: Mapped[str]
    attempt: Mapped[int]
    detail: Mapped[Json | None] = mapped_column()
