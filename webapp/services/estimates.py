"""Before submit: what runs will take and cost, now and in a batch, when a batch is back, and how good such words
have been. Nothing here commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from sqlalchemy import and_, case, func, select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain import estimates
from webapp.domain.errors import InvalidInput, InvalidRows
from webapp.domain.estimates import ENOUGH_ANSWERS, TOKENS_PER_BYTE, Calibration, Cost, Estimate
from webapp.domain.policy import QueueState, readiness
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import Profile
from webapp.domain.states import BatchStrategy, ExecutionMode, JobStatus, WindowStatus
from webapp.models import BatchWindow, Job, JobRequest, JobResult, LedgerEntry, Person, Queue
from webapp.services.batches import queue_state
from webapp.services.budgets import BudgetState, budgets_of
from webapp.services.clock import clock
from webapp.services.registry import Profiles
from webapp.services.runs import Run, prepare

RECENT_ANSWERS = 200  # of a profile: what it is calibrated by
CALIBRATED_EVERY = 10  # seconds
RECENT_WINDOWS = 20  # of a queue: how long a ride takes
CHUNK, CHUNK_OF_DOCUMENTS = 500, 20  # runs in memory at a time; a document's text may be megabytes
MOST_BYTES = 1_000_000_000  # of the requests of one submission: it is one transaction, and some minutes of COPY
MOST_FAULTS = 100  # in the rows of a file, after which nobody reads on
MOST_SHOWN = 500  # runs whose own quote is kept
TOO_LARGE = f"These runs' requests are larger than {MOST_BYTES / 1e9:g} GB together: submit them in several parts."
NOTHING = "There is nothing to run: no file, no row."


@dataclass(frozen=True)
class Quote:
    """What is known of one run before it is stored. `now` and `batch` are what it costs in either mode."""

    estimate: Estimate
    now: Cost
    batch: Cost
    own: Cost  # in the mode that was chosen; its ceiling is what a budget reserves


@dataclass(frozen=True)
class Outlook:
    """When the batch of a queue will likely be back, if some more jobs join it now."""

    now: datetime
    state: QueueState  # with these jobs
    opens_at: datetime | None  # at the latest; None: only when enough jobs have come, or nobody can say
    ride: timedelta | None  # from opening to the answers, median; None: this queue has no history
    long_ride: timedelta | None  # … 90th percentile
    windows: int  # that this is known from

    @property
    def back_at(self) -> datetime | None:
        return self.opens_at + self.ride if self.opens_at and self.ride else None


@dataclass(frozen=True)
class Forecast:
    """What the form says before submit: a quote for each run, the sums, and when a batch would be back."""

    quotes: list[Quote]  # of the first MOST_SHOWN
    count: int  # of all runs, as the sums are
    now: Cost
    batch: Cost
    own_ceiling: Decimal | None
    calibration: Calibration
    outlook: Outlook | None  # None: this profile has no batch mode
    budgets: list[BudgetState]

    @property
    def saved_share(self) -> float | None:
        """What a batch saves, as a share of what it costs now."""
        now, batch = (self.now.likely, self.batch.likely) if self.now.likely else (self.now.ceiling, self.batch.ceiling)
        return float(1 - batch / now) if now and batch is not None else None


def forecast(
    session: Session, settings: Settings, prices: PriceList, profiles: Profiles, *,
    user: Person, profile: Profile, runs: Iterable[Mapping[str, Any] | InvalidInput],
) -> Forecast:  # fmt: skip
    """Quote runs (their values by field key, documents named by id) that nobody has submitted yet; at least one.

    They may come from a stream. Raises InvalidRows with a message per run and field.
    """
    now = clock(session)
    calibration = calibrate(session, profile.id)
    shown: list[Quote] = []
    first: Run | None = None
    count, sums, own = 0, (Cost(Decimal(), Decimal()), Cost(Decimal(), Decimal())), Cost(None, Decimal())
    for chunk in quoted_chunks(session, settings, prices, profile, runs, user, calibration, now):
        first = first or replace(chunk[0][0], body="", documents=[])
        count += len(chunk)
        shown += [quoted for _, quoted in chunk[: MOST_SHOWN - len(shown)]]
        sums = (
            total([sums[0], *(quoted.now for _, quoted in chunk)]),
            total([sums[1], *(quoted.batch for _, quoted in chunk)]),
        )
        own = total([own, *(quoted.own for _, quoted in chunk)])
    if first is None:
        raise InvalidInput({}, NOTHING)
    has_batch = ExecutionMode.BATCH in profile.execution_modes
    return Forecast(
        shown, count, *sums, own.ceiling, calibration,
        outlook(session, settings, profiles, first, count, profile.id, now) if has_batch else None,
        budgets_of(session, user_id=user.id, profile_id=profile.id),
    )  # fmt: skip


def quoted_chunks(
    session: Session, settings: Settings, prices: PriceList, profile: Profile,
    runs: Iterable[Mapping[str, Any] | InvalidInput], user: Person, calibration: Calibration, now: datetime,
) -> Iterator[list[tuple[Run, Quote]]]:  # fmt: skip
    """Check, render and quote a stream of runs, some at a time; after the first fault only faults are looked for.

    In place of a run's values there may be what is known to be wrong with them. Raises InvalidRows at the end of the
    stream, or when there are MOST_FAULTS; InvalidInput when their requests are larger than MOST_BYTES together.
    """
    stream, first, size = iter(runs), 0, 0
    most = CHUNK_OF_DOCUMENTS if profile.document_fields else CHUNK
    faults: dict[int, InvalidInput] = {}
    while (chunk := list(islice(stream, most))) and len(faults) < MOST_FAULTS:
        try:
            prepared = prepare(session, settings, profile, chunk, user, now)
            size += sum(run.size.body_bytes for run in prepared)
            if size > MOST_BYTES:
                raise InvalidInput({}, TOO_LARGE)
            if not faults:
                yield [(run, quote(settings, prices, run, calibration, now)) for run in prepared]
        except InvalidRows as error:
            faults |= {first + place: fault for place, fault in error.rows.items()}
        first += len(chunk)
    if faults:
        raise InvalidRows(faults)


def recent_calibration(session: Session, profiles: Profiles, profile_id: str) -> Calibration:
    """`calibrate` of a moment ago, once there are answers enough: the next few change little."""
    return profiles.kept(
        f"calibration:{profile_id}", CALIBRATED_EVERY, lambda: calibrate(session, profile_id),
        lasts=lambda found: found.answers >= ENOUGH_ANSWERS,
    )  # fmt: skip


def calibrate(session: Session, profile_id: str) -> Calibration:
    """What the last answers of this profile took, and how far their estimates were off (share of the cost)."""
    recent = (
        select(Job.id)
        .where(Job.profile_id == profile_id, Job.status == JobStatus.COMPLETED)
        .order_by(Job.id.desc())
        .limit(RECENT_ANSWERS)
        .subquery()
    )
    is_text = JobRequest.file_pages == 0
    beside_text = JobResult.input_tokens - JobRequest.body_bytes * TOKENS_PER_BYTE
    said = (
        JobRequest.estimated_input_tokens * LedgerEntry.input_price
        + JobRequest.estimated_output_tokens * LedgerEntry.output_price
    ) / 1_000_000  # at the prices that were paid: a job may have changed its mode
    error = case((LedgerEntry.amount > 0, func.abs(said - LedgerEntry.amount) / LedgerEntry.amount))
    row = session.execute(
        select(
            func.count(JobResult.input_tokens),
            _median(JobResult.input_tokens * 1.0 / JobRequest.body_bytes).filter(is_text),
            _median(beside_text / func.nullif(JobRequest.file_pages, 0)),
            _median(JobResult.output_tokens), func.count(error), _median(error),
            func.percentile_cont(0.9).within_group(error),
        )
        .select_from(recent)
        .join(JobResult, JobResult.job_id == recent.c.id)
        .join(JobRequest, JobRequest.job_id == recent.c.id)
        .join(LedgerEntry, and_(LedgerEntry.job_id == recent.c.id, LedgerEntry.reason == "answer"), isouter=True)
    ).one()  # fmt: skip
    answers, per_byte, per_page, output, judged, typical, high = row
    if answers < ENOUGH_ANSWERS:
        return Calibration(answers)
    default = Calibration()
    return Calibration(
        answers, per_byte or default.tokens_per_byte, max(per_page or default.tokens_per_page, 0.0),
        None if output is None else round(output), judged, typical, high,
    )  # fmt: skip


def quote(settings: Settings, prices: PriceList, run: Run, calibration: Calibration, now: datetime) -> Quote:
    """Tokens and costs of one prepared run at the prices of `now`."""
    estimated = estimates.estimate(run.size, calibration)
    sync, batch = (
        estimates.cost(prices, run.model_in(mode, settings), mode, now, run.size, estimated)
        for mode in (ExecutionMode.SYNC, ExecutionMode.BATCH)
    )
    own = sync if run.mode is ExecutionMode.SYNC else batch
    if run.strategy is BatchStrategy.DEADLINE:  # it may have to run now after all
        own = replace(own, ceiling=sync.ceiling)
    return Quote(estimated, sync, batch, own)


def outlook(
    session: Session, settings: Settings, profiles: Profiles, first: Run, joining: int, profile_id: str, now: datetime
) -> Outlook:
    """When `joining` runs like the first, as batch jobs of one queue, will likely be back."""
    model = first.model_in(ExecutionMode.BATCH, settings)
    key = {"profile_id": profile_id, "endpoint": first.endpoint, "model": model, "strategy": first.strategy}
    queue = session.scalars(select(Queue).filter_by(**key)).one_or_none()
    state = queue_state(session, settings, profiles, queue or Queue(**key), now)
    state = replace(state, queued=state.queued + joining, oldest_queued_at=state.oldest_queued_at or now)
    opens_at = now if readiness(state, now).ready else None
    if opens_at is None and not state.is_held and state.has_room:
        opens_at = max(filter(None, (state.opens_at, state.not_before)), default=None) if state.opens_at else None
    ended = (
        select((BatchWindow.finished_at - BatchWindow.opened_at).label("ride"))
        .where(BatchWindow.queue_id == (queue.id if queue else None), BatchWindow.status == WindowStatus.COMPLETED)
        .order_by(BatchWindow.id.desc())
        .limit(RECENT_WINDOWS)
        .subquery()
    )
    ride, long_ride, windows = session.execute(
        select(_median(ended.c.ride), func.percentile_cont(0.9).within_group(ended.c.ride), func.count())
        .select_from(ended)
    ).one()  # fmt: skip
    return Outlook(now, state, opens_at, ride, long_ride, windows)


def total(costs: Sequence[Cost]) -> Cost:
    """The sums; unknown as soon as one is."""
    return Cost(_sum([cost.likely for cost in costs]), _sum([cost.ceiling for cost in costs]))


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    return None if None in amounts else sum((amount for amount in amounts if amount is not None), Decimal())


def _median(column: Any) -> Any:
    return func.percentile_cont(0.5).within_group(column)
