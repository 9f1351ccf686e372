"""What the answers cost: the facts that are summed up, kept quick by roll-ups.

Amounts are USD; unknown ones are in no sum.
"""

from __future__ import annotations

import logging
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    ScalarSelect,
    Subquery,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from webapp.domain.states import ExecutionMode
from webapp.models import CostDay, LedgerEntry, RollUp
from webapp.services.ledger import is_lost_and_settled
from webapp.services.prepared import Ask, prepared

log = logging.getLogger(__name__)

MOST_AT_ONCE = 50_000  # entries that one roll-up takes: about a second
LOCK_SECONDS = 1.0  # those who write wait behind a roll-up that waits: not for long
KEYS = ("day", "user_id", "profile_id", "execution_mode", "model", "reason")
FIGURES = ("entries", "without_amount", "input_tokens", "cached_input_tokens", "output_tokens", "amount",
           "sync_amount")  # fmt: skip


@cache
def facts() -> Subquery:
    """Rows of KEYS and FIGURES.

    What is rolled up, and each entry since then: whoever sums them up reads the whole ledger, to the last entry.
    """
    last = func.coalesce(select(RollUp.summed_up_to).scalar_subquery(), 0)
    # Nothing is above the newest: the planner takes a range for narrow, and half a range for a third of the ledger.
    newest = select(func.max(LedgerEntry.id)).scalar_subquery()
    recent = select(*_facts_of_an_entry()).where(LedgerEntry.id > last, LedgerEntry.id <= newest)
    return union_all(select(*(getattr(CostDay, name) for name in (*KEYS, *FIGURES))), recent).subquery("facts")


def day_of(answered_at: Any) -> ColumnElement[date]:
    """The day (UTC) that an answer of this moment belongs to."""
    return cast(func.timezone("UTC", answered_at), Date)


def _facts_of_an_entry() -> list[ColumnElement[Any]]:
    """KEYS and FIGURES of one ledger entry. Where a sync amount is not known, nothing was saved: it is the amount."""
    entry = LedgerEntry
    sync_amount = case((entry.amount.is_not(None), func.coalesce(entry.sync_amount, entry.amount)))
    figures = (entry.input_tokens, entry.cached_input_tokens, entry.output_tokens, entry.amount, sync_amount)
    values = (
        day_of(entry.answered_at), entry.user_id, entry.profile_id, entry.execution_mode,
        func.coalesce(entry.model, ""), entry.reason, literal(1), case((entry.amount.is_(None), 1), else_=0),
        *(func.coalesce(figure, 0) for figure in figures),
    )  # fmt: skip
    return [value.label(name) for name, value in zip((*KEYS, *FIGURES), values, strict=True)]


def saved_by(fact: Any) -> ColumnElement[Decimal]:
    """USD that batches saved against sync prices; a discarded answer was paid on top and saved nothing."""
    return case(
        (fact.execution_mode != ExecutionMode.BATCH, 0),
        (fact.reason == "discarded", -fact.amount),
        else_=fact.sync_amount - fact.amount,
    )


def settled_entries() -> ScalarSelect[int]:
    """How many lost answers came after all, as a column: of the entries without an amount these are known."""
    return select(func.count()).select_from(LedgerEntry).where(is_lost_and_settled()).scalar_subquery()


def totals(session: Session, first: date) -> tuple[Decimal, Decimal, int]:
    """USD spent and saved by the answers since the beginning of this day (UTC), and unknown entries of all times."""
    [found] = _totals()(session, first=first)
    return found.spent, found.saved, int(found.unknown)


@cache
def _totals() -> Ask:
    fact = facts().c
    is_wanted = fact.day >= bindparam("first", type_=Date, required=False)
    return prepared(
        select(
            func.coalesce(func.sum(fact.amount).filter(is_wanted), 0).label("spent"),
            func.coalesce(func.sum(saved_by(fact)).filter(is_wanted), 0).label("saved"),
            (func.coalesce(func.sum(fact.without_amount), 0) - settled_entries()).label("unknown"),
        )
    )


def roll_up(session: Session, at_most: int = MOST_AT_ONCE) -> int:
    """Add the entries since the last time to `cost_days`; returns how many. Commits. Safe to do twice at once.

    Ids are given out in order but committed in any: an entry with a lower id may come after one that is seen. So the
    entries are seen while nobody writes. When writers do not end within LOCK_SECONDS, the next time will do.
    """
    try:
        session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        session.execute(text("LOCK TABLE ledger IN SHARE MODE"))
        horizon = session.execute(select(func.max(LedgerEntry.id))).scalar_one() or 0
        session.rollback()  # whoever wants to write may: all that comes now is beyond the horizon
        session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        session.execute(insert(RollUp).values(id=1, last_ledger_id=0, summed_up_to=0).on_conflict_do_nothing())
        done = session.execute(select(RollUp.summed_up_to).with_for_update()).scalar_one()
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
            raise
        session.rollback()
        log.info("the ledger is being written to; it is rolled up later")
        return 0
    portion = (
        select(LedgerEntry.id)
        .where(LedgerEntry.id > done, LedgerEntry.id <= horizon)
        .order_by(LedgerEntry.id).limit(at_most).subquery()
    )  # fmt: skip
    last, count = session.execute(select(func.max(portion.c.id), func.count())).one()
    if count:
        entries = select(*_facts_of_an_entry()).where(LedgerEntry.id > done, LedgerEntry.id <= last).subquery()
        keys = [entries.c[name] for name in KEYS]
        sums = select(*keys, *(func.sum(entries.c[name]) for name in FIGURES)).group_by(*keys)
        statement = insert(CostDay).from_select([*KEYS, *FIGURES], sums)
        added = {name: getattr(CostDay, name) + statement.excluded[name] for name in FIGURES}
        session.execute(statement.on_conflict_do_update(index_elements=KEYS, set_=added))
        session.execute(update(RollUp).values(summed_up_to=last))
    session.commit()
    return count
