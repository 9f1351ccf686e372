"""`flask simulate` and its page: recorded or generated arrivals under several window policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain import simulation
from webapp.domain.answers import Usage
from webapp.domain.errors import InvalidInput
from webapp.domain.pricing import PriceList
from webapp.domain.simulation import Arrival, Limits, Outcome, Policy, Turnaround
from webapp.domain.states import BatchStrategy, ExecutionMode, JobStatus, WindowStatus
from webapp.models import BatchWindow, Job, JobRequest, JobResult, LedgerEntry, Queue
from webapp.services.batches import LINE_OVERHEAD_BYTES
from webapp.services.clock import clock

MOST_ARRIVALS = 200_000
MOST_POLICIES = 60
RECENT = 200  # windows and answers that the turnaround is the median of
ASSUMED = Turnaround(3600.0, 10.0)  # where nothing is recorded
WEEK = timedelta(days=7)
BYTES_PER_TOKEN = 4  # of a generated request


def _split(value: Any) -> Any:
    """ "10, 20" is a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Size = Annotated[int, Field(ge=1, le=50_000)]
Seconds = Annotated[int, Field(ge=1, le=30 * 86_400)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000)]


class Wish(BaseModel):
    """What is to be simulated. With `rate` the arrivals are generated, else they are those of a profile or a queue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)] | None = None
    queue: Annotated[int, Field(ge=1, le=2**62)] | None = None
    every_job: bool = False  # those that ran now, too: what if they had waited?
    since: datetime | None = None  # default: a week before `until`
    until: datetime | None = None  # default: now

    rate: Annotated[float, Field(gt=0, le=100_000)] | None = None  # jobs an hour
    hours: Annotated[float, Field(gt=0, le=24 * 366)] = 24.0
    seed: Annotated[int, Field(ge=0, le=2**31)] = 1
    pattern: Literal["constant", "office"] = "constant"
    input_tokens: Tokens = 3000
    output_tokens: Tokens = 500

    sizes: Annotated[tuple[Size, ...], BeforeValidator(_split), Field(min_length=1)] = (10, 20, 50)
    waits: Annotated[tuple[Seconds, ...], BeforeValidator(_split), Field(min_length=1)] = (600, 3600)
    strategies: Annotated[tuple[BatchStrategy, ...], BeforeValidator(_split), Field(min_length=1)] = (
        BatchStrategy.COUNT_OR_WAIT, BatchStrategy.COUNT_ONLY, BatchStrategy.DEADLINE,
    )  # fmt: skip
    turnaround: Annotated[float, Field(gt=0, le=7 * 86_400)] | None = None  # seconds; default: as recorded
    need_by_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 24.0  # of arrivals that have no needBy of their own

    @field_validator("sizes", "waits")
    @classmethod
    def _each_once(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(values)))

    @field_validator("since", "until")
    @classmethod
    def _is_of_our_time(cls, moment: datetime | None) -> datetime | None:
        if moment and not 2000 <= moment.year < 2200:
            raise ValueError("This year is too far away.")
        return moment

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [self.profile is not None, self.queue is not None, self.rate is not None]
        if sum(given) != 1:
            raise ValueError("choose where the arrivals come from: a profile, a queue, or a rate")
        return self

    @property
    def policies(self) -> list[Policy]:
        """Every combination, once: `waits` means nothing to count_only."""
        found = {
            Policy(strategy, size, max(self.waits) if strategy is BatchStrategy.COUNT_ONLY else wait)
            for strategy, size, wait in product(self.strategies, self.sizes, self.waits)
        }
        return sorted(found, key=lambda p: (p.strategy, p.size, p.max_wait_seconds))


@dataclass(frozen=True)
class Report:
    outcomes: list[Outcome]  # [] when nothing arrived
    notes: list[str]  # what the figures rest on, in sentences


def read_wish(values: Mapping[str, Any], zone: tzinfo, *, most: int = MOST_ARRIVALS) -> Wish:
    """Check what a person asked for; values are texts or their types, empty ones are left out.

    Times without a zone are of `zone`. Raises InvalidInput with a message per field, "" for none of them.
    """
    try:
        wish = Wish.model_validate({key: value for key, value in values.items() if value not in (None, "")})
    except ValidationError as error:
        raise InvalidInput(dict(_faults(error))) from error
    faults = {}
    if wish.rate and wish.rate * wish.hours > most:
        faults["hours"] = f"This makes {wish.rate * wish.hours:,.0f} jobs; {most:,} can be simulated here."
    if len(wish.policies) > MOST_POLICIES:
        faults["sizes"] = f"These are {len(wish.policies)} policies to compare; {MOST_POLICIES} are enough."
    moments = {
        name: moment if moment.tzinfo else moment.replace(tzinfo=zone)
        for name in ("since", "until") if (moment := getattr(wish, name))
    }  # fmt: skip
    if len(moments) == 2 and moments["since"] >= moments["until"]:
        faults["until"] = "The end has to be after the beginning."
    if faults:
        raise InvalidInput(faults)
    return wish.model_copy(update=moments)


def _faults(error: ValidationError) -> list[tuple[str, str]]:
    found = []
    for item in error.errors(include_url=False, include_context=False):
        message = item["msg"].removeprefix("Value error, ").split(", unable")[0].replace("Input should", "this should")
        if item["type"] == "too_short":
            message = "choose at least one"
        given = item["input"] if isinstance(item["input"], str) and len(item["loc"]) > 1 else ""
        words = f"{given}: {message}" if given else message[:1].upper() + message[1:]
        found.append((str(item["loc"][0]) if item["loc"] else "", f"{words.rstrip('.')}."))
    return found


def run(
    session: Session, settings: Settings, prices: PriceList, wish: Wish, *, most: int = MOST_ARRIVALS
) -> Report:  # fmt: skip
    """Compare the policies of `wish` on its arrivals, at most the newest `most`. Changes nothing."""
    now = clock(session)
    turnaround, notes = _turnaround(session, wish)
    if wish.rate:
        arrivals = _generate(settings, prices, wish, now)
        notes.insert(0, f"{len(arrivals):,} generated arrivals, seed {wish.seed}, {wish.pattern} rate.")
    else:
        arrivals, said = recorded_arrivals(session, settings, prices, wish, now=now, most=most)
        notes = said + notes
    if not arrivals:
        return Report([], notes)
    due = timedelta(hours=wish.need_by_hours)
    outcomes = simulation.compare(
        [arrival._replace(need_by=arrival.need_by or arrival.at + due) for arrival in arrivals],
        wish.policies, settings.deadlines, turnaround, limits=limits_of(settings),
    )  # fmt: skip
    return Report(outcomes, notes)


def likely_profile(session: Session) -> str | None:
    """The profile of the newest batch job."""
    newest = select(Job.profile_id).where(Job.batch_strategy.is_not(None)).order_by(Job.id.desc()).limit(1)
    return session.scalars(newest).one_or_none()


def limits_of(settings: Settings) -> Limits:
    return Limits(settings.max_window_bytes, LINE_OVERHEAD_BYTES, settings.max_enqueued_tokens)


def recorded_arrivals(
    session: Session, settings: Settings, prices: PriceList, wish: Wish, *, now: datetime, most: int = MOST_ARRIVALS
) -> tuple[list[Arrival], list[str]]:
    """The jobs that came in the period, but those that were cancelled; and what is to be said of them.

    A job that left the batch for its deadline was a batch job. What the ledger knows of a job is what it costs; else
    it is its estimate, else its ceiling, at today's prices.
    """
    until = wish.until or now
    wanted = [Job.created_at >= (wish.since or until - WEEK), Job.created_at < until, Job.status != JobStatus.CANCELLED]
    if wish.profile:
        wanted.append(Job.profile_id == wish.profile)
    if wish.queue is not None:
        wanted += _of_queue(session, wish.queue)
    if not wish.every_job:
        wanted.append(Job.batch_strategy.is_not(None))
    rows = session.execute(
        select(
            Job.id, Job.created_at, Job.need_by, JobRequest.model.label("requested_model"), JobRequest.body_bytes,
            JobRequest.most_input_tokens, JobRequest.max_output_tokens, JobRequest.estimated_input_tokens,
            JobRequest.estimated_output_tokens, LedgerEntry.execution_mode, LedgerEntry.model, LedgerEntry.answered_at,
            LedgerEntry.input_tokens, LedgerEntry.cached_input_tokens, LedgerEntry.cache_write_tokens,
            LedgerEntry.output_tokens, LedgerEntry.amount, LedgerEntry.sync_amount,
        )
        .select_from(Job)
        .join(JobRequest, JobRequest.job_id == Job.id)
        .join(LedgerEntry, and_(LedgerEntry.job_id == Job.id, LedgerEntry.reason == "answer"), isouter=True)
        .where(*wanted)
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(most + 1)
    ).all()  # fmt: skip
    arrivals, bases = [], Counter[str]()
    for row in rows[:most]:
        sync, batch, basis = _costs(settings, prices, row, now)
        bases[basis] += 1
        size = (row.body_bytes, row.most_input_tokens)
        arrivals.append(Arrival(row.created_at, row.id, row.need_by, *size, sync, batch))
    arrivals.reverse()
    notes = [f"{len(arrivals):,} recorded arrivals."]
    if arrivals:
        first, last = (arrivals[end].at.astimezone(settings.zone).strftime("%d %b %Y %H:%M") for end in (0, -1))
        notes = [
            f"{len(arrivals):,} recorded arrivals, {first} to {last}; jobs that were cancelled are not among them."
        ]
        notes.append("Costs: " + ", ".join(f"{count:,} {basis}" for basis, count in bases.most_common()) + ".")
    if len(rows) > most:
        notes.append(f"There were more: these are the newest {most:,}.")
    return arrivals, notes


def _of_queue(session: Session, queue_id: int) -> list[Any]:
    """Conditions: the jobs of a queue, and those that left it. Raises InvalidInput."""
    queue = session.get(Queue, queue_id)
    if queue is None:
        raise InvalidInput({"queue": f"There is no queue {queue_id}."})
    left = and_(
        Job.queue_id.is_(None), Job.profile_id == queue.profile_id, Job.batch_strategy == queue.strategy,
        JobRequest.endpoint == queue.endpoint,
    )  # fmt: skip
    return [or_(Job.queue_id == queue_id, left)]


def _costs(
    settings: Settings, prices: PriceList, row: Any, now: datetime
) -> tuple[Decimal | None, Decimal | None, str]:
    """(USD when it runs now, USD in a batch, where this is known from)"""
    if row.model and row.input_tokens is not None and row.output_tokens is not None:
        if row.execution_mode is ExecutionMode.BATCH:
            return row.sync_amount, row.amount, "from the ledger"
        usage = Usage(
            row.input_tokens, row.output_tokens, row.cached_input_tokens or 0, row.cache_write_tokens or 0
        )  # fmt: skip
        batch_model = _model(settings, row.model, ExecutionMode.BATCH)
        batch = _price(prices, batch_model, ExecutionMode.BATCH, row.answered_at, usage)
        return row.sync_amount, batch, "from the ledger"
    tokens, basis = (row.estimated_input_tokens, row.estimated_output_tokens), "from the estimate at submit"
    if None in tokens:
        tokens, basis = (row.most_input_tokens, row.max_output_tokens), "counted high: nothing else is known"
    if None in tokens:
        return None, None, "unknown"
    sync, batch = (
        _price(prices, _model(settings, row.requested_model, mode), mode, now, Usage(*tokens))
        for mode in (ExecutionMode.SYNC, ExecutionMode.BATCH)
    )
    return sync, batch, "unknown" if sync is None or batch is None else basis


def _model(settings: Settings, model: str, mode: ExecutionMode) -> str:
    """The model that answers in this mode: that of the settings, unless the request names its own."""
    if model not in (settings.sync_model, settings.batch_model):
        return model
    return settings.sync_model if mode is ExecutionMode.SYNC else settings.batch_model


def _price(prices: PriceList, model: str, mode: ExecutionMode, at: datetime, usage: Usage) -> Decimal | None:
    unit = prices.unit_prices(model, mode, at, input_tokens=usage.input_tokens)
    return unit.cost(usage) if unit else None


def _generate(settings: Settings, prices: PriceList, wish: Wish, now: datetime) -> Sequence[Arrival]:
    """Arrivals from Monday, 0:00, on; all of the same size, at today's prices."""
    assert wish.rate
    usage = Usage(wish.input_tokens, wish.output_tokens)
    sync = _price(prices, settings.sync_model, ExecutionMode.SYNC, now, usage)
    batch = _price(prices, settings.batch_model, ExecutionMode.BATCH, now, usage)
    midnight = now.astimezone(settings.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = (midnight - timedelta(days=midnight.weekday())).astimezone(UTC)

    def share(moment: datetime) -> float:
        return 1.0 if wish.pattern == "constant" else simulation.office_share(moment.astimezone(settings.zone))

    moments = simulation.generate(wish.rate, wish.hours, wish.seed, monday, share=share)
    size = (wish.input_tokens * BYTES_PER_TOKEN, wish.input_tokens)
    return [Arrival(at, key, None, *size, sync, batch) for key, at in enumerate(moments, 1)]


def _turnaround(session: Session, wish: Wish) -> tuple[Turnaround, list[str]]:
    """How long answers take, and where that is known from: medians of the latest."""
    ridden = select(func.extract("epoch", BatchWindow.finished_at - BatchWindow.opened_at).label("seconds")).where(
        BatchWindow.status == WindowStatus.COMPLETED
    )
    ran = select((JobResult.total_ms / 1000.0).label("seconds")).join(Job, Job.id == JobResult.job_id)
    ran = ran.where(Job.execution_mode == ExecutionMode.SYNC, Job.batch_strategy.is_(None))
    if wish.queue is not None:
        ridden = ridden.where(BatchWindow.queue_id == wish.queue)
    if wish.profile:
        ridden = ridden.join(Queue, Queue.id == BatchWindow.queue_id).where(Queue.profile_id == wish.profile)
        ran = ran.where(Job.profile_id == wish.profile)
    batch, windows = _median(session, ridden.order_by(BatchWindow.id.desc()))
    sync, answers = _median(session, ran.order_by(JobResult.job_id.desc()))
    if wish.turnaround:
        batch, source = wish.turnaround, "as given"
    elif batch is None:
        batch, source = ASSUMED.batch_seconds, "an assumption: no window has ended yet"
    else:
        source = f"the median of {windows} windows"
    known = f"the median of {answers} answers" if sync is not None else "an assumption: no answer is recorded"
    sync = ASSUMED.sync_seconds if sync is None else sync
    return Turnaround(batch, sync), [
        f"A window brings its answers {_words(batch)} after it opens ({source}); a job that runs now takes"
        f" {_words(sync)} ({known})."
    ]


def _median(session: Session, latest: Any) -> tuple[float | None, int]:
    """(median seconds, of how many)"""
    some = latest.limit(RECENT).subquery()
    median, count = session.execute(
        select(func.percentile_cont(0.5).within_group(some.c.seconds), func.count()).select_from(some)
    ).one()
    return (None if median is None else float(median)), count


def _words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
