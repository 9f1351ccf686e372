"""Benchmark runs: jobs that are made to be measured, through the ordinary path."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.domain.states import ExecutionMode
from webapp.models.base import Base, Id, Json
from webapp.models.user import User


class BenchmarkStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"  # every step was taken and every job has ended
    FAILED = "failed"  # a step could not be taken; `problem` says why
    CANCELLED = "cancelled"


class BenchmarkRun(Base):
    """What was asked for. The next step is computed from its samples, so it goes on after any crash."""

    __tablename__ = "benchmark_runs"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    profile_id: Mapped[str]
    note: Mapped[str]  # what the person who started it wants to remember
    tiers: Mapped[Json]  # [{"tier": "S", "documentId": 1}, …] in the order in which they are run
    modes: Mapped[Json]  # ["sync", "batch"], in the order in which they are run
    jobs_per_step: Mapped[int]
    repetitions: Mapped[int]
    status: Mapped[str]  # BenchmarkStatus
    problem: Mapped[str | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    user: Mapped[User] = relationship()

    __table_args__ = (
        CheckConstraint("status IN ('running', 'completed', 'failed', 'cancelled')", name="status"),
        CheckConstraint("(finished_at IS NOT NULL) = (status <> 'running')", name="ended_iff_finished"),
        CheckConstraint("jobs_per_step >= 1 AND repetitions >= 1", name="something_to_do"),
        Index("ix_benchmark_runs_running", "id", postgresql_where=text("status = 'running'")),
    )


class BenchmarkSample(Base):
    """One job of a run: what it measures is in the job, its result and the ledger."""

    __tablename__ = "benchmark_samples"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True, autoincrement=False)
    run_id: Mapped[int] = mapped_column(ForeignKey("benchmark_runs.id"), index=True)
    repetition: Mapped[int]  # from 1
    execution_mode: Mapped[ExecutionMode]
    tier: Mapped[str]
