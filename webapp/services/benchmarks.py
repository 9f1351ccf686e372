"""Benchmark runs: jobs that are made to be measured, through the ordinary path.

A run is a list of steps, each so many jobs of one tier in one mode. The heartbeat takes the next step when every job
of the one before has ended; which one that is, the samples say. The figures are `benchmark_figures`' business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session, joinedload

from webapp.config import Settings
from webapp.domain import policy
from webapp.domain.errors import InsufficientJobs, InvalidInput, InvalidMove, NotFound, SluiceError
from webapp.domain.pricing import PriceList
from webapp.domain.states import ExecutionMode, JobStatus
from webapp.models import BenchmarkRun, BenchmarkSample, BenchmarkStatus, Job, Queue, User
from webapp.services import control, jobs, lifecycle
from webapp.services.audit import audit
from webapp.services.batches import queue_state
from webapp.services.benchmark_plans import MODES, Wish, check, job_values
from webapp.services.clock import clock
from webapp.services.registry import Profiles

RUNS_PAGE = 20


@dataclass(frozen=True)
class Step:
    """So many jobs at once; a run is a list of these."""

    repetition: int  # from 1
    mode: ExecutionMode
    tier: str

    def __str__(self) -> str:
        return f"repetition {self.repetition}, {MODES[self.mode]}, tier {self.tier}"


@dataclass(frozen=True)
class Progress:
    """How far a run is. Counts are of jobs."""

    all_jobs: int  # of all its steps
    made: int
    ended: int
    step: Step | None  # the last one that was taken
    step_ended: int
    waiting_for: Job | None  # the first job of that step that has not ended


def start_run(session: Session, profiles: Profiles, *, user: User, wish: Wish, tiers: dict[str, int]) -> int:
    """Write down what is to be measured; the heartbeat begins with it. Commits. Returns the run's id.

    `tiers` are those of `tier_documents`. Raises InvalidInput.
    """
    check(profiles, wish)
    run = BenchmarkRun(
        user_id=user.id, profile_id=wish.profile_id, note=" ".join(wish.note.split()),
        tiers=[{"tier": tier, "documentId": document_id} for tier, document_id in tiers.items()],
        modes=list(dict.fromkeys(wish.modes)), jobs_per_step=wish.jobs_per_step, repetitions=wish.repetitions,
        status=BenchmarkStatus.RUNNING, created_at=clock(session),
    )  # fmt: skip
    session.add(run)
    session.commit()
    return run.id


def steps(run: BenchmarkRun) -> list[Step]:
    """In the order in which they are taken."""
    return [
        Step(repetition, ExecutionMode(mode), tier["tier"])
        for repetition in range(1, run.repetitions + 1)
        for mode in run.modes
        for tier in run.tiers
    ]


def advance(session: Session, settings: Settings, profiles: Profiles, prices: PriceList) -> None:
    """Do what is due of each run that has not ended. Commits.

    Safe to do twice, and at once: the run's row is the lock, and the samples say what was done.
    Raises the last error of a run that could not be advanced; the others are.
    """
    failed: Exception | None = None
    running = select(BenchmarkRun.id).where(BenchmarkRun.status == BenchmarkStatus.RUNNING)
    for run_id in session.scalars(running.order_by(BenchmarkRun.id)).all():
        run = session.scalars(
            select(BenchmarkRun)
            .where(BenchmarkRun.id == run_id, BenchmarkRun.status == BenchmarkStatus.RUNNING)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        ).one_or_none()
        try:
            if run:
                _advance_run(session, settings, profiles, prices, run)
        except Exception as error:
            failed = error
        session.rollback()  # where nothing was due the lock goes now
    if failed:
        raise failed


def _advance_run(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, run: BenchmarkRun
) -> None:
    unfinished, queue_ids = session.execute(
        select(
            func.count(),
            func.array_agg(Job.queue_id.distinct()).filter(Job.status == JobStatus.QUEUED),
        )
        .join(BenchmarkSample, BenchmarkSample.job_id == Job.id)
        .where(BenchmarkSample.run_id == run.id, Job.finished_at.is_(None))
    ).one()
    if unfinished:
        _flush_what_is_short(session, settings, profiles, run, queue_ids or [])
        return
    taken = {Step(*row) for row in session.execute(_step_columns().where(BenchmarkSample.run_id == run.id).distinct())}
    following = next((step for step in steps(run) if step not in taken), None)
    if following:
        _take(session, settings, profiles, prices, run, following)
    else:
        _end(session, run.id, BenchmarkStatus.COMPLETED)
        session.commit()


def _step_columns() -> Any:
    return select(BenchmarkSample.repetition, BenchmarkSample.execution_mode, BenchmarkSample.tier)


def _take(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, run: BenchmarkRun, step: Step
) -> None:
    """Make the jobs of a step and, in the same commit, their samples. What is refused ends the run."""
    run_id = run.id
    sample = {"run_id": run_id, "repetition": step.repetition, "execution_mode": step.mode, "tier": step.tier}
    document_id = next(tier["documentId"] for tier in run.tiers if tier["tier"] == step.tier)

    def add_samples(job_ids: list[int]) -> None:
        session.execute(insert(BenchmarkSample), [sample | {"job_id": job_id} for job_id in job_ids])

    try:
        values = job_values(profiles.runnable(run.profile_id), step.mode, document_id)
        jobs.create_jobs(
            session, settings, profiles, prices, user=run.user, profile_id=run.profile_id,
            runs=[values] * run.jobs_per_step, then=add_samples,
        )  # fmt: skip
    except SluiceError as error:
        session.rollback()
        said = " ".join(error.errors.values()) if isinstance(error, InvalidInput) and error.errors else error.message
        _end(session, run_id, BenchmarkStatus.FAILED, f"The jobs of {step} were refused. {said}")
        session.commit()


def _flush_what_is_short(
    session: Session, settings: Settings, profiles: Profiles, run: BenchmarkRun, queue_ids: Sequence[int | None]
) -> None:
    """Open a window for jobs that do not fill one, so that the wait for others is not what is measured.

    A full window opens by itself, and a queue that is held or has to pause is left alone.
    """
    now = clock(session)
    for queue_id in queue_ids:
        queue = session.get_one(Queue, queue_id)
        if policy.readiness(queue_state(session, settings, profiles, queue, now), now).reason == "short":
            with contextlib.suppress(InsufficientJobs):  # somebody else was quicker
                control.flush_queue(
                    session, settings, profiles, queue.id, user=run.user, reason=f"benchmark run {run.id}"
                )
            return  # the run's lock is gone with the commit; another queue has its turn at the next beat


def _end(session: Session, run_id: int, status: BenchmarkStatus, problem: str | None = None) -> None:
    session.execute(
        update(BenchmarkRun)
        .where(BenchmarkRun.id == run_id, BenchmarkRun.status == BenchmarkStatus.RUNNING)
        .values({"status": status, "finished_at": clock(session), "problem": problem})
        .execution_options(synchronize_session=False)
    )


def cancel_run(session: Session, run_id: int, *, user: User, reason: str) -> int:
    """End a run: what nobody has started is cancelled with it, the rest ends by itself. Commits.

    Returns how many jobs were cancelled. Raises NotFound, InvalidInput, or InvalidMove when the run has ended.
    """
    run = session.scalars(
        select(BenchmarkRun)
        .where(BenchmarkRun.id == run_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if run is None:
        raise NotFound(f"There is no benchmark run {run_id}.")
    if run.status != BenchmarkStatus.RUNNING:
        session.rollback()
        raise InvalidMove(f"Benchmark run {run_id} has ended.")
    unfinished = session.scalars(
        select(Job.id)
        .join(BenchmarkSample, BenchmarkSample.job_id == Job.id)
        .where(BenchmarkSample.run_id == run_id, Job.finished_at.is_(None))
    ).all()
    cancelled = lifecycle.finish_jobs(
        session, unfinished, JobStatus.CANCELLED, now=clock(session), actor=f"user:{user.id}",
        reason=f"benchmark run {run_id} was cancelled",
    )  # fmt: skip
    audit(session, user, "cancel_benchmark", f"benchmark:{run_id}", reason, {"jobsCancelled": len(cancelled)})
    _end(session, run_id, BenchmarkStatus.CANCELLED)
    session.commit()
    return len(cancelled)


def get_run(session: Session, run_id: int) -> BenchmarkRun:
    """Raises NotFound."""
    run = session.get(BenchmarkRun, run_id, options=[joinedload(BenchmarkRun.user)], populate_existing=True)
    if run is None:
        raise NotFound(f"There is no benchmark run {run_id}.")
    return run


def list_runs(session: Session, *, before: int | None = None, size: int = RUNS_PAGE) -> list[BenchmarkRun]:
    """The newest runs, with who started them."""
    statement = select(BenchmarkRun).options(joinedload(BenchmarkRun.user)).order_by(BenchmarkRun.id.desc())
    if before is not None:
        statement = statement.where(BenchmarkRun.id < before)
    return list(session.scalars(statement.limit(size)))


def progress(session: Session, run: BenchmarkRun) -> Progress:
    """How far this run is."""
    order = {step: number for number, step in enumerate(steps(run))}
    by_step = {
        Step(*row[:3]): row[3:]
        for row in session.execute(
            _step_columns()
            .add_columns(
                func.count(), func.count(Job.finished_at), func.min(Job.id).filter(Job.finished_at.is_(None))
            )
            .join(Job, Job.id == BenchmarkSample.job_id)
            .where(BenchmarkSample.run_id == run.id)
            .group_by(BenchmarkSample.repetition, BenchmarkSample.execution_mode, BenchmarkSample.tier)
        )
    }  # fmt: skip
    last = max(by_step, key=lambda step: order[step], default=None)
    made, ended = (sum(counts[index] for counts in by_step.values()) for index in (0, 1))
    first_id = by_step[last][2] if last else None
    return Progress(
        len(order) * run.jobs_per_step, made, ended, last, by_step[last][1] if last else 0,
        session.get(Job, first_id) if first_id else None,
    )  # fmt: skip
