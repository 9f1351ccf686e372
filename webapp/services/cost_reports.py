"""Reports of costs by day, mode, model, profile and user. Days, months and periods of money are UTC."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Date,
    DateTime,
    Select,
    bindparam,
    case,
    cast,
    func,
    literal,
    null,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from webapp.domain.states import ExecutionMode
from webapp.models import LedgerEntry, User
from webapp.services import costs
from webapp.services.ledger import is_lost_and_settled
from webapp.services.prepared import Ask, prepared

DAYS_SHOWN_AS_MONTHS = 100  # a longer period is shown by months


class Dimension(StrEnum):
    DAY = "day"  # months in a long period
    MODE = "mode"
    MODEL = "model"
    PROFILE = "profile"
    USER = "user"


@dataclass(frozen=True)
class Scope:
    """Which answers: of these days (UTC, both included) and, where given, of one mode, model, profile, user."""

    first: date
    last: date
    mode: ExecutionMode | None = None
    model: str | None = None
    profile_id: str | None = None
    user_id: int | None = None

    @property
    def step(self) -> str:
        return "day" if (self.last - self.first).days < DAYS_SHOWN_AS_MONTHS else "month"

    @property
    def narrowing(self) -> dict[str, Any]:
        """What it says besides the days: {column of facts, and of the ledger: its value}."""
        wanted = {"execution_mode": self.mode, "model": self.model, "profile_id": self.profile_id,
                  "user_id": self.user_id}  # fmt: skip
        return {name: value for name, value in wanted.items() if value is not None}

    @property
    def moments(self) -> dict[str, datetime]:
        """The days from midnight (`since`) to midnight (`until`)."""
        return {"since": _midnight(self.first), "until": _midnight(self.last + timedelta(days=1))}

    def covers_entries(self) -> list[ColumnElement[bool]]:
        """Conditions on the columns of the ledger."""
        return _are_covered(self.narrowing, self.moments)


PERIODS = {"7d": "7 days", "30d": "30 days", "90d": "90 days", "month": "This month", "last_month": "Last month"}


def period(name: str, now: datetime) -> tuple[date, date]:
    """The first and the last day of a period of PERIODS. Raises KeyError."""
    today = now.astimezone(UTC).date()
    this_month = today.replace(day=1)
    if name == "last_month":
        end = this_month - timedelta(days=1)
        return end.replace(day=1), end
    days = {"7d": 7, "30d": 30, "90d": 90, "month": today.day}[name]
    return today - timedelta(days=days - 1), today


class Line(NamedTuple):
    """The sums of one group; `key` is its day, mode, model, profile id, user id or reason."""

    key: Any
    label: str
    answers: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    amount: Decimal | None  # USD known; None when nothing is
    saved: Decimal  # USD; below 0 where discarded answers cost more than batches saved
    unknown: int  # entries whose amount nobody knows
    share: float | None = None  # of the whole amount


@dataclass(frozen=True)
class Report:
    total: Line
    groups: dict[Dimension, list[Line]]  # days newest first, else the dearest first
    by_mode: dict[date, dict[ExecutionMode, Decimal]]  # USD of each day (or month)
    extra: dict[str, Line]  # reason: answers that were paid and of no use (discarded, refused)

    @property
    def extra_amount(self) -> Decimal:
        return sum((line.amount for line in self.extra.values() if line.amount is not None), Decimal())


_COLUMNS = ("day", "mode", "model", "profile", "reason")
_SETS = (*((name,) for name in _COLUMNS), ("day", "mode"), ())
_MASKS = {sum(1 << bit for bit, name in enumerate(reversed(_COLUMNS)) if name not in names): names for names in _SETS}
_OF_USERS = -1
_MASKS[_OF_USERS] = ("user",)
_MONEY = ("amount", "saved")
_SUMS = ("entries", "answers", "input_tokens", "cached_input_tokens", "output_tokens", *_MONEY,
         "without_amount", "unknown")  # fmt: skip


def report(session: Session, scope: Scope) -> Report:
    """All sums of the page, of one snapshot."""
    found: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    narrowing = scope.narrowing
    sums = _all_sums(scope.step, *narrowing)
    for row in sums(session, first=scope.first, last=scope.last, **scope.moments, **narrowing):
        if row.answers or row.unknown:  # a lost answer that came after all has left nothing behind
            found[_MASKS[row.mask]].append(row)
    total = next((_line(row, None, "Total") for row in found[()]), NOTHING)
    emails = _emails(session, [row.user for row in found[("user",)]])
    labels: dict[Dimension, Callable[[Any], str]] = {
        Dimension.DAY: lambda key: f"{key:%b %Y}" if scope.step == "month" else f"{key:%d %b %Y}",
        Dimension.MODE: lambda key: "Now" if key == ExecutionMode.SYNC else "Batch",
        Dimension.MODEL: lambda key: key or "none: the answer was lost",
        Dimension.PROFILE: str,
        Dimension.USER: lambda key: emails.get(key, f"user {key}"),
    }
    groups = {}
    for dimension, label in labels.items():
        rows = [(getattr(row, dimension.value), row) for row in found[(dimension.value,)]]
        lines = [_line(row, key, label(key), total) for key, row in rows]
        groups[dimension] = sorted(lines, key=lambda line: (-(line.amount or 0), line.label))
    groups[Dimension.DAY].sort(key=lambda line: line.key, reverse=True)
    by_mode: dict[date, dict[ExecutionMode, Decimal]] = defaultdict(dict)
    for row in found[("day", "mode")]:
        by_mode[row.day][row.mode] = row.amount
    extra = {row.reason: _line(row, row.reason, row.reason, total) for row in found[("reason",)]}
    return Report(total, groups, by_mode, {name: extra[name] for name in ("discarded", "refused") if name in extra})


NOTHING = Line(None, "Total", 0, 0, 0, 0, Decimal(), Decimal(), 0)


@cache
def _all_sums(step: str, *narrowed: str) -> Ask:
    """Every grouping in one statement; `mask` says which columns a row is not grouped by. `narrowed` as in
    `Scope.narrowing`; the statement takes the values.

    Most rows differ by their user only. They are read twice, by user and by all the rest, and not once for each set.
    """
    fact, entry, none = costs.facts().c, LedgerEntry, literal(0)
    values = {name: _value(name, fact[name].type) for name in narrowed}
    moments = {name: _value(name, DateTime(timezone=True)) for name in ("since", "until")}
    known = select(
        _step(step, fact.day).label("day"), fact.execution_mode.label("mode"), fact.model,
        fact.profile_id.label("profile"), fact.user_id.label("user"), fact.reason, fact.entries,
        case((fact.reason == "answer_lost", 0), else_=fact.entries).label("answers"), fact.input_tokens,
        fact.cached_input_tokens, fact.output_tokens, fact.amount, costs.saved_by(fact).label("saved"),
        fact.without_amount, fact.without_amount.label("unknown"),
    ).where(
        fact.day >= _value("first", Date()), fact.day <= _value("last", Date()),
        *(fact[name] == value for name, value in values.items()),
    )  # fmt: skip
    settled = select(
        _step(step, costs.day_of(entry.answered_at)), entry.execution_mode, func.coalesce(entry.model, ""),
        entry.profile_id, entry.user_id, entry.reason, *[none] * (len(_SUMS) - 1), literal(-1),
    ).where(is_lost_and_settled(), *_are_covered(values, moments))  # fmt: skip
    rows = union_all(known, settled).cte("rows").c
    rest = _summed(rows, *(rows[name] for name in _COLUMNS)).cte("rest").c
    mask = func.grouping(*(rest[name] for name in _COLUMNS)).label("mask")
    sets = [tuple_(*(rest[name] for name in names)) for names in _SETS]
    no_user, not_grouped = null().label("user"), [null().label(name) for name in _COLUMNS]
    return prepared(union_all(
        _summed(rest, mask, *(rest[name] for name in _COLUMNS), no_user, by=[func.grouping_sets(*sets)]),
        _summed(rows, literal(_OF_USERS), *not_grouped, rows.user, by=[rows.user]),
    ))  # fmt: skip


def _value(name: str, type_: TypeEngine[Any]) -> Any:
    return bindparam(name, type_=type_, required=False)


def _are_covered(narrowing: Mapping[str, Any], moments: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    at = LedgerEntry.answered_at
    return [
        at >= moments["since"], at < moments["until"],
        *(getattr(LedgerEntry, name) == value for name, value in narrowing.items()),
    ]  # fmt: skip


def _summed(rows: Any, *keys: ColumnElement[Any], by: Sequence[ColumnElement[Any]] | None = None) -> Select[Any]:
    """The keys and _SUMS, grouped by the keys if nothing else is said. What is counted stays a bigint: PostgreSQL would
    make a numeric of it, for which the next sum and psycopg take longer."""
    sums = ((name, func.sum(rows[name])) for name in _SUMS)
    counted = [(total if name in _MONEY else cast(total, BigInteger)).label(name) for name, total in sums]
    return select(*keys, *counted).group_by(*(keys if by is None else by))


def _step(step: str, day: ColumnElement[date]) -> ColumnElement[date]:
    """The day, or in a long period the first day of its month."""
    return cast(func.date_trunc("month", day), Date) if step == "month" else day


@dataclass(frozen=True)
class Choices:
    """What the answers of these days can be narrowed down to."""

    models: list[str]
    profiles: list[str]
    users: list[tuple[int, str]]  # (id, e-mail address)


def choices(session: Session, scope: Scope, shown: Report) -> Choices:
    """What is there in the period of the scope, whatever else it says, and what it is narrowed down to. `shown` is the
    scope's report.
    """
    whole = report(session, Scope(scope.first, scope.last)) if scope.narrowing else shown
    users = {line.key: line.label for line in whole.groups[Dimension.USER]}
    if scope.user_id and scope.user_id not in users:
        users |= _emails(session, [scope.user_id])
    models, profiles = (
        sorted({*(line.key for line in whole.groups[dimension]), chosen} - {None, ""})
        for dimension, chosen in ((Dimension.MODEL, scope.model), (Dimension.PROFILE, scope.profile_id))
    )
    return Choices(models, profiles, sorted(users.items(), key=lambda user: user[1]))


_addresses = prepared(select(User.id, User.email).where(User.id == func.any(bindparam("ids", type_=ARRAY(BigInteger)))))


def _emails(session: Session, user_ids: Iterable[int]) -> dict[int, str]:
    return dict(_addresses(session, ids=list(user_ids)))


def _line(row: Any, key: Any, label: str, total: Line | None = None) -> Line:
    amount = row.amount if row.without_amount < row.entries else None
    share = float(amount / total.amount) if amount is not None and total and total.amount else None
    return Line(
        key, label, row.answers, row.input_tokens, row.cached_input_tokens, row.output_tokens, amount, row.saved,
        row.unknown, share,
    )  # fmt: skip


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
