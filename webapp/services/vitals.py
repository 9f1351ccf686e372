"""What the eyes see: the figures of `/metrics`, and the line that the alerts read.

Each question is one query on an index, or on a table that stays small, so that asking is cheap beside a million jobs.
What would need every job is answered for the last RECENT only: counts from the newest MOST_COUNTED rows, spreads from
the newest MOST_MEASURED.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Float,
    Numeric,
    ScalarSelect,
    Subquery,
    bindparam,
    case,
    cast,
    extract,
    func,
    literal_column,
    select,
    text,
    type_coerce,
)
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.policy import readiness
from webapp.domain.states import ExecutionMode, JobStatus, WindowStatus
from webapp.models import (
    BatchWindow,
    Heartbeat,
    Job,
    JobAnswer,
    JobEvent,
    JobResult,
    Queue,
    User,
    Webhook,
    WebhookDelivery,
    WindowEvent,
)
from webapp.models.operation import BEAT_ROW, VITALS_ROW
from webapp.services import batches, costs
from webapp.services.clock import NOW, clock
from webapp.services.prepared import prepared
from webapp.services.registry import Profiles

log = logging.getLogger(__name__)

LINE_EVERY = timedelta(minutes=1)
COMMITTED_AFTER = timedelta(minutes=2)  # an end names the moment at which its use case began; its commit comes later
RECENT = timedelta(minutes=15)
MOST_COUNTED = 10_000
SINCE: Any = bindparam("since", type_=DateTime(timezone=True))
MOST_MEASURED = 5_000
MOST_WAITING = 100
MOST_SECONDS = 5  # of one query: a scrape must not be a burden
QUANTILES = (0.5, 0.95)
ENDS = ("completed_at", "failed_at", "expired_at", "cancelled_at")  # of the provider's Batch object, in Unix seconds

Overdue = dict[int, float]  # {queue id: how long its oldest job waits, in seconds, where a window should be open}


@dataclass(frozen=True)
class QueueFigures:
    queue: Queue
    jobs: int
    oldest_seconds: float
    overdue_seconds: float  # the same, if its window should be open by now; else 0


@dataclass(frozen=True)
class WindowFigures:
    windows: dict[WindowStatus, int]
    jobs: dict[WindowStatus, int]  # that unfinished windows were opened with; some may have ended or left
    troubled: int  # unfinished, and the last step ran into a problem
    needing_attention: int


@dataclass(frozen=True)
class SyncFigures:
    created: int
    processing: int
    oldest_created_seconds: float  # since its latest attempt could be dispatched; of the MOST_WAITING first by id


@dataclass(frozen=True)
class CostFigures:
    answers: dict[tuple[ExecutionMode, str], int]  # by mode and reason, of all times
    amount: dict[ExecutionMode, Decimal]  # USD, of all times, as far as it is known
    unknown: int


Spread = tuple[float, ...]  # seconds, at QUANTILES


@dataclass(frozen=True)
class RecentFigures:
    """Of the last RECENT."""

    ended: dict[tuple[ExecutionMode, JobStatus], int]
    took: dict[ExecutionMode, Spread]  # created until ended, of completed jobs
    dispatched: Spread | None  # handed to n8n until n8n started it
    ingested: dict[ExecutionMode, Spread]  # answered by the provider until stored
    provider_errors: dict[str, int]  # by class


def be_brief(session: Session) -> None:
    """From here to the end of the transaction nothing is written, and no query takes longer than MOST_SECONDS."""
    session.execute(text("SET TRANSACTION READ ONLY"))
    session.execute(text(f"SET LOCAL statement_timeout = '{MOST_SECONDS}s'"))


def queue_figures(session: Session, settings: Settings, profiles: Profiles) -> list[QueueFigures]:
    """All queues; those in which nobody waits, too."""
    now = clock(session)
    views = {view.queue.id: view for view in batches.list_queues(session, settings, profiles)}
    figures = []
    for queue in session.scalars(select(Queue).order_by(Queue.id)):
        if view := views.get(queue.id):
            # The provider's pause, or its full allowance, explains a wait and does not end it.
            judged = readiness(replace(view.state, not_before=None, has_room=True), now)
            age = view.oldest_age_seconds
            figures.append(QueueFigures(queue, view.state.queued, age, age if judged.ready else 0.0))
        else:
            figures.append(QueueFigures(queue, 0, 0.0, 0.0))
    return figures


def window_figures(session: Session) -> WindowFigures:
    """The many that have ended are counted in their index alone: a row holds what the provider said."""
    by_status = select(BatchWindow.status, func.count()).group_by(BatchWindow.status)
    ended = session.execute(by_status.where(BatchWindow.finished_at.is_not(None)))
    goes_on = session.execute(
        by_status.add_columns(func.sum(BatchWindow.job_count), func.count(BatchWindow.problem)).where(
            BatchWindow.finished_at.is_(None)
        )
    ).all()
    windows = dict.fromkeys(WindowStatus, 0) | {status: count for status, count in ended}
    return WindowFigures(
        windows=windows | {status: count for status, count, *_ in goes_on},
        jobs=dict.fromkeys((WindowStatus.OPEN, WindowStatus.SUBMITTED), 0)
        | {status: jobs for status, _, jobs, _ in goes_on},
        troubled=sum(problems for *_, problems in goes_on),
        needing_attention=session.scalars(
            select(func.count()).select_from(BatchWindow).where(BatchWindow.needs_attention.is_not(None))
        ).one(),
    )


def sync_counts() -> tuple[ScalarSelect[int], ScalarSelect[int]]:
    """(sync jobs that nobody has started, those that an n8n execution has), as columns."""
    created, processing = (
        select(func.count()).select_from(Job).where(condition).scalar_subquery()
        for condition in (Job.status == JobStatus.CREATED, Job.lease_until.is_not(None))
    )
    return created, processing


def sync_figures(session: Session) -> SyncFigures:
    is_created = Job.status == JobStatus.CREATED
    # Materialised: to have the first by id, PostgreSQL would read on from the oldest of all jobs until it meets them.
    waiting = select(Job.id).where(is_created).cte("waiting").prefix_with("MATERIALIZED")
    first = select(waiting.c.id).order_by(waiting.c.id).limit(MOST_WAITING).subquery().c
    # It came from a batch, or waits for another attempt: its creation says little. (GREATEST passes over NULL.)
    since = (
        select(func.greatest(func.max(JobEvent.at), Job.not_before).label("at"))
        .join_from(Job, JobEvent, JobEvent.job_id == Job.id)
        .where(Job.id.in_(select(first.id)), JobEvent.to_status == JobStatus.CREATED)
        .group_by(Job.id)
        .subquery()
    )
    oldest = select(func.min(since.c.at)).scalar_subquery()
    created, processing, seconds = session.execute(select(*sync_counts(), _seconds_since(oldest))).one()
    return SyncFigures(created, processing, max(seconds or 0.0, 0.0))


def cost_figures(session: Session) -> CostFigures:
    fact = costs.facts().c
    rows = session.execute(
        select(
            fact.execution_mode, fact.reason, func.sum(fact.entries).label("entries"),
            func.sum(fact.amount).label("amount"), func.sum(fact.without_amount).label("without_amount"),
        )
        .group_by(fact.execution_mode, fact.reason)
    ).all()  # fmt: skip
    amount = dict.fromkeys(ExecutionMode, Decimal())
    for row in rows:
        amount[row.execution_mode] += row.amount
    return CostFigures(
        answers={(row.execution_mode, row.reason): int(row.entries) for row in rows},
        amount=amount,
        unknown=int(sum(row.without_amount for row in rows)) - session.scalars(select(costs.settled_entries())).one(),
    )


def seconds(interval: Any) -> ColumnElement[float]:
    """As a float; `extract` would make a numeric of it, to be cast back for each row."""
    return func.date_part(literal_column("'epoch'"), interval, type_=Float)


def _seconds_since(moment: Any) -> ColumnElement[float]:
    return seconds(NOW.element - moment)


_heartbeat_age = prepared(select(_seconds_since(Heartbeat.at).label("seconds")).where(Heartbeat.name == BEAT_ROW))
_due = (
    select(WebhookDelivery.due_at)
    .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
    .join(User, User.id == Webhook.user_id)
    .where(WebhookDelivery.due_at.is_not(None), Webhook.disabled_at.is_(None), User.is_enabled)
    .limit(MOST_COUNTED)
    .subquery()
)
_webhook_figures = prepared(
    select(func.count().label("waiting"), _seconds_since(func.min(_due.c.due_at)).label("late"))
)


def webhook_figures(session: Session) -> tuple[int, float]:
    """(messages that wait, how long the one that is due longest is overdue in seconds) of those that may be sent."""
    [found] = _webhook_figures(session)
    return found.waiting, max(found.late or 0.0, 0.0)


def heartbeat_age(session: Session) -> float | None:
    """Seconds since the last beat; None when there was none."""
    found = _heartbeat_age(session)
    return found[0].seconds if found else None


def recent_figures(session: Session) -> RecentFigures:
    since = clock(session) - RECENT
    dispatched, ingested = _sync_spreads(session, since)
    spreads = {ExecutionMode.SYNC: ingested, ExecutionMode.BATCH: _window_spread(session, since)}
    return RecentFigures(
        ended=ended_since(session, since),
        took=job_spreads(session, since),
        dispatched=dispatched,
        ingested={mode: spread for mode, spread in spreads.items() if spread},
        provider_errors=provider_errors(session, since),
    )


def took(job: Any) -> ColumnElement[float]:
    """Seconds from created until ended. Of a completed job that is `JobResult.total_ms`, which is far away: each row
    of an answer would have to be read."""
    return seconds(job.finished_at - job.created_at)


def quantiles(seconds: Any, *conditions: ColumnElement[bool]) -> Any:
    """The column of a Spread, of the rows that meet these."""
    spread: Any = func.percentile_cont(list(QUANTILES)).within_group(cast(seconds, Float))
    return type_coerce(spread.filter(*conditions) if conditions else spread, ARRAY(Float))


def _newest_ended(most: int) -> Subquery:
    """The jobs that ended after `since`, the newest ones, by ix_jobs_keeps_request: retention has not come to them
    yet."""
    return (
        select(
            Job.id, Job.execution_mode, Job.status, Job.created_at, Job.dispatched_at, Job.started_at, Job.finished_at
        )
        .where(Job.finished_at.is_not(None), Job.finished_at > SINCE, Job.request_deleted_at.is_(None))
        .order_by(Job.finished_at.desc())
        .limit(most)
        .subquery()
    )


_counted, _measured = _newest_ended(MOST_COUNTED).c, _newest_ended(MOST_MEASURED)
_ended_since = prepared(
    select(_counted.execution_mode, _counted.status, func.count().label("jobs"))
    .group_by(_counted.execution_mode, _counted.status)
)  # fmt: skip
_job_spreads = prepared(  # a column for each mode: to group by it would sort all by its word first
    select(*(
        quantiles(took(_measured.c), _measured.c.status == JobStatus.COMPLETED, _measured.c.execution_mode == mode)
        .label(mode.value) for mode in ExecutionMode
    ))
)  # fmt: skip


def ended_since(session: Session, since: datetime) -> dict[tuple[ExecutionMode, JobStatus], int]:
    """{(mode, status): jobs} of the newest MOST_COUNTED that ended since then."""
    rows = _ended_since(session, since=since)
    return {(ExecutionMode(row.execution_mode), JobStatus(row.status)): row.jobs for row in rows}


def job_spreads(session: Session, since: datetime) -> dict[ExecutionMode, Spread]:
    """{mode: how long the completed ones took, from created until stored} of the newest MOST_MEASURED that ended since
    then; a mode in which none was completed is not there."""
    [found] = _job_spreads(session, since=since)
    return {mode: tuple(getattr(found, mode)) for mode in ExecutionMode if getattr(found, mode)}


def _sync_spreads(session: Session, since: datetime) -> tuple[Spread | None, Spread | None]:
    """(dispatched, ingested)"""
    ended = _measured
    waited = seconds(ended.c.started_at - ended.c.dispatched_at)
    rest = func.greatest(JobResult.total_ms - JobResult.queue_ms - JobResult.provider_ms, 0) / 1000.0
    stored = case((JobResult.provider_ms.is_not(None), rest))  # GREATEST passes over NULL: without an answer it says 0
    found = session.execute(
        select(quantiles(waited), quantiles(stored))
        .select_from(ended)
        .join(JobResult, JobResult.job_id == ended.c.id, isouter=True)
        .where(ended.c.execution_mode == ExecutionMode.SYNC),
        {"since": since},
    ).one()
    dispatched, ingested = (tuple(spread) if spread else None for spread in found)
    return dispatched, ingested


def _window_spread(session: Session, since: datetime) -> Spread | None:
    """The provider's end of a batch until the window was settled."""
    batch = BatchWindow.provider_batch
    times = (case((func.jsonb_typeof(batch[name]) == "number", cast(batch[name], Numeric))) for name in ENDS)
    took = extract("epoch", BatchWindow.finished_at) - func.coalesce(*times)
    is_recent = (BatchWindow.finished_at > since, BatchWindow.files_deleted_at.is_(None), took.between(0, 86_400))
    spread = session.execute(select(quantiles(took)).where(*is_recent)).scalar_one()
    return tuple(spread) if spread else None


_answers = (  # the conditions are written out, in words that the partial indexes know
    select(JobAnswer.status_code.label("status"))
    .where(JobAnswer.received_at > SINCE, text("job_answers.status_code NOT BETWEEN 200 AND 299"))
    .order_by(JobAnswer.received_at.desc())
)
_refused = (
    select(WindowEvent.detail["status"].as_integer())
    .where(WindowEvent.at > SINCE, text("window_events.event = 'create_refused'"))
    .order_by(WindowEvent.at.desc())
)
_errors = _answers.limit(MOST_COUNTED).union_all(_refused.limit(MOST_COUNTED)).subquery().c
_provider_errors = prepared(
    select(_errors.status, func.count().label("errors")).where(_errors.status.is_not(None)).group_by(_errors.status)
)


def provider_errors(session: Session, since: datetime) -> dict[str, int]:
    """{class: errors that jobs were answered with, calls for jobs without an answer, and refused creates of batches}.

    The other steps of a window keep no status: what they run into shows in WindowFigures.troubled.
    """
    found = dict.fromkeys(("no_answer", "rate_limited", "denied", "refused", "server"), 0)
    for row in _provider_errors(session, since=since):
        found[_error_class(row.status)] += row.errors
    return found


def _error_class(status: int) -> str:
    match status:
        case 0:
            return "no_answer"
        case 429:
            return "rate_limited"
        case 401 | 403:
            return "denied"
        case _ if 400 <= status < 500:
            return "refused"
    return "server"


def write_line(session: Session, settings: Settings, profiles: Profiles, before: Overdue) -> Overdue | None:
    """Log the line that the alerts read, when the last one is a minute old. Commits.

    Returns what is overdue now, to be handed in (`before`) with the next line; None when no line was due. A queue
    counts when it was overdue at the line before, too, with the lesser of both ages: a window that opens a second late
    wakes nobody up. The job need not be the same: in a backlog from which windows keep opening it never is.
    How far the failed windows have been told is in the database, so that a change of leaders loses and doubles none.
    """
    until = clock(session) - COMMITTED_AFTER
    told = session.scalars(select(Heartbeat).where(Heartbeat.name == VITALS_ROW).with_for_update()).one_or_none()
    if told and until - told.at < LINE_EVERY:
        session.rollback()
        return None
    if told is None:
        told = Heartbeat(name=VITALS_ROW, at=until)  # what failed before the first line is history
        session.add(told)
    failed = session.scalars(
        select(func.count()).select_from(BatchWindow).where(
            BatchWindow.finished_at > told.at, BatchWindow.finished_at <= until,
            BatchWindow.files_deleted_at.is_(None),  # as everywhere here: by ix_batch_windows_keeps_files
            BatchWindow.status.in_([WindowStatus.FAILED, WindowStatus.EXPIRED]),
        )
    ).one()  # fmt: skip
    figures = queue_figures(session, settings, profiles)
    overdue = {one.queue.id: one.overdue_seconds for one in figures if one.overdue_seconds}
    age = max((min(overdue[queue_id], before[queue_id]) for queue_id in overdue.keys() & before.keys()), default=0.0)
    # Before the commit: told twice is better than never.
    log.info("vitals", extra={"queue_age_seconds": round(age), "windows_failed": failed})
    told.at = until
    session.commit()
    return overdue
