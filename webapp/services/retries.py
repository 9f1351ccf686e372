"""A person's or a program's own repetition of a job: a new job that names the old one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import InvalidMove
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import BATCH_STRATEGY, EXECUTION_MODE, NEED_BY
from webapp.models import Job, Person
from webapp.services import jobs
from webapp.services.registry import Profiles


def repeated_among(session: Session, job_ids: Sequence[int]) -> set[int]:
    """Which of these jobs somebody has repeated."""
    again = session.scalars(select(Job.retry_of).where(Job.retry_of == func.any(list(job_ids))))
    return {job_id for job_id in again if job_id is not None}


def lock_unrepeated(session: Session, job_ids: Sequence[int]) -> list[int]:
    """Lock these jobs, and return those that nobody has repeated yet, oldest first.

    The lock is a statement of its own: the next one sees what another press of the button has just made.
    """
    locked = session.scalars(
        select(Job.id).where(Job.id == func.any(list(job_ids))).order_by(Job.id).with_for_update()
    ).all()  # fmt: skip
    again = repeated_among(session, locked)
    return [job_id for job_id in locked if job_id not in again]


def repeat_job(session: Session, job_id: int, *, actor: str, then: Callable[[int], None]) -> int:
    """Make the same job again, of the same version of its profile; returns its id. Commits, after `then`.

    Raises InvalidMove with the reason why it cannot be repeated, or OverBudget.
    """
    session.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    repeated = jobs.retry_jobs(session, [job_id], actor=actor)
    if repeated.left_out:
        raise InvalidMove(repeated.left_out[job_id])
    [new_id] = repeated.new_ids
    then(new_id)
    session.commit()
    return new_id


def change_job(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, *,
    user: Person, job: Job, changes: Mapping[str, Any], then: Callable[[int], None],
) -> int:  # fmt: skip
    """Make a job with the inputs of this one but for `changes`, by its profile as it is now. Commits, after `then`.

    Raises what `jobs.create_jobs` raises.
    """
    inputs = {**job.inputs, EXECUTION_MODE: job.execution_mode, BATCH_STRATEGY: job.batch_strategy,
              NEED_BY: job.need_by, **changes}  # fmt: skip
    known = {field.key for field in profiles.get(job.profile_id).fields} | set(changes)
    run = {key: value for key, value in inputs.items() if key in known and value is not None}
    [new_id] = jobs.create_jobs(
        session, settings, profiles, prices, user=user, profile_id=job.profile_id, runs=[run], retry_of=job.id,
        then=lambda ids: then(ids[0]),
    )  # fmt: skip
    return new_id
