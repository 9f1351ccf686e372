"""Jobs that are made together: from many files, from a file of rows, or by one call. And how far they are."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session, joinedload, selectinload

from webapp.config import Settings
from webapp.domain.errors import InvalidInput, InvalidMove, InvalidRows, NotFound
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import Profile
from webapp.domain.rows import Row
from webapp.domain.states import JOB_MOVES, TERMINAL_JOBS, JobStatus
from webapp.models import Job, LedgerEntry, Person, Submission, User
from webapp.services import estimates, jobs, retries, webhook_outbox
from webapp.services.audit import audit
from webapp.services.clock import clock
from webapp.services.ledger import is_unknown
from webapp.services.registry import Profiles

PAGE_SIZE = 30
RETRYABLE = (JobStatus.FAILED, JobStatus.EXPIRED)


@dataclass(frozen=True)
class Progress:
    """How many jobs of a submission are in which state."""

    submission: Submission
    counts: Mapping[JobStatus, int]

    @property
    def ended(self) -> int:
        return sum(count for status, count in self.counts.items() if status in TERMINAL_JOBS)

    @property
    def is_over(self) -> bool:
        return self.ended == self.submission.job_count

    @property
    def not_started(self) -> int:
        """How many can still be cancelled."""
        return sum(self.counts.get(status, 0) for status in JOB_MOVES[JobStatus.CANCELLED])


class _Lines:
    """The runs in a stream of rows; remembers which line each came from."""

    def __init__(self, rows: Iterable[Row], common: Mapping[str, Any], most: int) -> None:
        """`common` are values that hold for every run, unless its row says otherwise."""
        self._rows, self._common, self._most = rows, common, most
        self._lines = array("L")

    def __iter__(self) -> Iterator[Mapping[str, Any] | InvalidInput]:
        """Raises InvalidInput when there are too many."""
        for row in self._rows:
            if len(self._lines) == self._most:
                raise InvalidInput({"rows": f"At most {self._most:,} rows at once; split the file."})
            self._lines.append(row.line)
            yield InvalidInput({}, row.fault) if row.values is None else {**self._common, **row.values}

    @contextmanager
    def named(self) -> Iterator[None]:
        """Inside, a fault is known by the place of its run; outside, by its line."""
        try:
            yield
        except InvalidRows as error:
            raise InvalidRows({self._lines[place]: fault for place, fault in error.rows.items()}) from None


def submit(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, *,
    user: Person, profile_id: str, runs: Iterable[Mapping[str, Any] | InvalidInput], source: str, name: str,
    then: Callable[[Submission], None] | None = None,
) -> Submission:  # fmt: skip
    """Make a job of each run, all or none, and keep them together. Commits, after `then`.

    Raises what `jobs.store_jobs` raises.
    """
    with session.begin_nested():
        submission = Submission(
            user_id=user.id, profile_id=profile_id, source=source, name=name[:200], job_count=1,
            created_at=clock(session),
        )  # fmt: skip
        session.add(submission)
        session.flush()
        job_ids = jobs.store_jobs(
            session, settings, profiles, prices, user=user, profile_id=profile_id, runs=runs,
            submission_id=submission.id,
        )  # fmt: skip
        if not job_ids:
            raise InvalidInput({}, estimates.NOTHING)
        submission.job_count = len(job_ids)
        if then:
            then(submission)
    session.commit()
    return submission


def submit_rows(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, *,
    user: Person, profile_id: str, rows: Iterable[Row], common: Mapping[str, Any], source: str, name: str,
    then: Callable[[Submission], None] | None = None,
) -> Submission:  # fmt: skip
    """Make a job of each row. Commits. Raises InvalidRows by line, besides what `submit` raises."""
    lines = _Lines(rows, common, settings.max_rows)
    with lines.named():
        return submit(
            session, settings, profiles, prices, user=user, profile_id=profile_id, runs=lines, source=source, name=name,
            then=then,
        )  # fmt: skip


def forecast_rows(
    session: Session, settings: Settings, profiles: Profiles, prices: PriceList, *,
    user: Person, profile: Profile, rows: Iterable[Row], common: Mapping[str, Any],
) -> estimates.Forecast:  # fmt: skip
    """The dry run: what would be made and cost. Stores nothing. Raises InvalidRows by line, or InvalidInput."""
    lines = _Lines(rows, common, settings.max_rows)
    with lines.named():
        return estimates.forecast(session, settings, prices, profiles, user=user, profile=profile, runs=lines)


def get_progress(session: Session, submission_id: int, *, user_id: int | None) -> Progress:
    """One submission of the user (None: of anybody) and how far it is. Raises NotFound."""
    statement = select(Submission).where(Submission.id == submission_id).options(joinedload(Submission.user))
    if user_id is not None:
        statement = statement.where(Submission.user_id == user_id)
    submission = session.scalars(statement).one_or_none()
    if submission is None:
        raise NotFound
    return Progress(submission, _counts(session, [submission_id]).get(submission_id, {}))


def list_progress(
    session: Session, *, user_id: int | None, before: int | None = None, size: int = PAGE_SIZE
) -> tuple[list[Progress], int | None]:
    """The newest submissions, and the id to pass as `before` for the next page, if any."""
    statement = select(Submission).options(joinedload(Submission.user)).order_by(Submission.id.desc())
    if user_id is not None:
        statement = statement.where(Submission.user_id == user_id)
    if before is not None:
        statement = statement.where(Submission.id < before)
    found = list(session.scalars(statement.limit(size + 1)))
    counts = _counts(session, [one.id for one in found[:size]])
    shown = [Progress(one, counts.get(one.id, {})) for one in found[:size]]
    return shown, found[size - 1].id if len(found) > size else None


def list_jobs(
    session: Session, submission_id: int, *, status: JobStatus | None = None, after: int = 0, size: int = PAGE_SIZE
) -> tuple[list[Job], int | None]:  # fmt: skip
    """Its jobs as they were made, with results and documents, and the id to pass as `after` for the next page."""
    statement = (
        select(Job)
        .where(Job.submission_id == submission_id, Job.id > after)
        .options(joinedload(Job.result), selectinload(Job.documents))
        .order_by(Job.id)
    )
    if status is not None:
        statement = statement.where(Job.status == status)
    found = list(session.scalars(statement.limit(size + 1)))
    return found[:size], found[size - 1].id if len(found) > size else None


def first_waiting(session: Session, submission: Submission) -> Job | None:
    """The first of its jobs that has not ended: what that one waits for, the others mostly wait for, too."""
    return session.scalars(select(Job).where(*_are_unfinished(submission)).order_by(Job.id).limit(1)).one_or_none()


def cost_so_far(session: Session, submission_id: int) -> tuple[Decimal | None, int]:
    """(USD that is known, None when there is no answer yet; how many answers have an unknown cost)"""
    amount, unknown = session.execute(
        select(func.sum(LedgerEntry.amount), func.count().filter(is_unknown()))
        .select_from(LedgerEntry)
        .join(Job, Job.id == LedgerEntry.job_id)
        .where(Job.submission_id == submission_id)
    ).one()
    return amount, unknown


def retry_failed(
    session: Session, submission: Submission, *, user: User, reason: str = ""
) -> tuple[Submission, dict[int, str]]:
    """Repeat its failed and expired jobs that were not repeated yet, as a new submission of its user. Commits.

    Returns that, and {job id: why it was left out}. Raises InvalidMove when none can be repeated, OverBudget, or
    InvalidInput when it is somebody else's and there is no reason.
    """
    ended = session.scalars(
        select(Job.id).where(Job.submission_id == submission.id, Job.status.in_(RETRYABLE))
    ).all()  # fmt: skip
    failed = retries.lock_unrepeated(session, ended)
    repeated = jobs.retry_jobs(session, failed, actor=f"user:{user.id}") if failed else jobs.Repeated([], {})
    if not repeated.new_ids:
        session.rollback()
        raise InvalidMove(next(iter(repeated.left_out.values()), "No job failed that was not repeated already."))
    made = _keep(session, submission.user_id, submission.profile_id, repeated.new_ids, submission.name)
    if submission.user_id != user.id:
        detail = {"repeated": len(repeated.new_ids), "leftOut": len(repeated.left_out), "newSubmission": made.id}
        audit(session, user, "retry_submission", f"submission:{submission.id}", reason, detail)
    session.commit()
    return made, repeated.left_out


def keep_together(session: Session, job_ids: Sequence[int]) -> list[int]:
    """Make a submission of these repeated jobs for each user and profile that has more than one of them. Returns the
    submissions' ids. Does not commit."""
    groups = session.execute(
        select(Job.user_id, Job.profile_id, func.array_agg(Job.id))
        .where(Job.id == func.any(list(job_ids)))
        .group_by(Job.user_id, Job.profile_id)
        .having(func.count() > 1)
        .order_by(Job.user_id, Job.profile_id)
    ).all()
    return [
        _keep(session, user_id, profile_id, ids, f"{len(ids):,} jobs run again").id
        for user_id, profile_id, ids in groups
    ]


def _keep(session: Session, user_id: int, profile_id: str, job_ids: Sequence[int], name: str) -> Submission:
    made = Submission(
        user_id=user_id, profile_id=profile_id, source="retry", name=name, job_count=len(job_ids),
        created_at=clock(session),
    )  # fmt: skip
    session.add(made)
    session.flush()
    session.execute(update(Job).where(Job.id == func.any(list(job_ids))).values(submission_id=made.id))
    return made


def cancel_waiting(session: Session, submission_id: int, *, user: User, reason: str = "") -> int:
    """Cancel those of its jobs that nobody has started. Commits. Returns how many.

    Raises InvalidMove for none, or InvalidInput when it is somebody else's and there is no reason.
    """
    submission = session.get_one(Submission, submission_id)
    waiting = session.scalars(
        select(Job.id)
        .where(*_are_unfinished(submission), Job.status.in_(JOB_MOVES[JobStatus.CANCELLED]))
        .order_by(Job.id)
    ).all()
    cancelled = jobs.cancel_jobs(session, waiting, actor=f"user:{user.id}")
    if not cancelled:
        session.rollback()
        raise InvalidMove("Every job of this submission is under way or has ended: there is nothing to cancel.")
    if submission.user_id != user.id:
        audit(session, user, "cancel_submission", f"submission:{submission_id}", reason, {"jobs": len(cancelled)})
    session.commit()
    return len(cancelled)


def end_submissions(session: Session, now: datetime) -> list[int]:
    """Mark the submissions whose last job has ended, and tell those who listen, once. Does not commit.

    Returns their ids.
    """
    runs = select(Job.id).where(*_are_unfinished(Submission)).exists()
    due = select(Submission.id).where(Submission.finished_at.is_(None), ~runs).with_for_update(skip_locked=True).cte()
    ended = list(session.scalars(
        update(Submission).where(Submission.id == due.c.id).values(finished_at=now).returning(Submission.id)
        .execution_options(synchronize_session="fetch")
    ))  # fmt: skip
    webhook_outbox.tell_of_submissions(session, ended, now=now)
    return ended


def _are_unfinished(submission: Submission | type[Submission]) -> tuple[ColumnElement[bool], ...]:
    """Its jobs that have not ended, by ix_jobs_user_unfinished: they are its user's."""
    return Job.user_id == submission.user_id, Job.submission_id == submission.id, Job.finished_at.is_(None)


def _counts(session: Session, ids: list[int]) -> dict[int, dict[JobStatus, int]]:
    rows = session.execute(
        select(Job.submission_id, Job.status, func.count())
        .where(Job.submission_id.in_(ids))
        .group_by(Job.submission_id, Job.status)
    )
    found: defaultdict[int, dict[JobStatus, int]] = defaultdict(dict)
    for submission_id, status, count in rows:
        found[submission_id or 0][status] = count
    return found
