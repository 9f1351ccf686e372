"""Budgets: what a user, or all runs of a profile, may cost in a month (UTC).

Nothing is counted twice over: spent is a sum of the ledger, reserved is the sum of the ceilings of jobs that have
not ended. So a reservation is settled, or released, by the very commit that ends its job.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Select, case, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from webapp.domain.errors import InvalidInput, NotFound, OverBudget
from webapp.models import Budget, Job, JobRequest, LedgerEntry, User
from webapp.services import costs
from webapp.services.audit import audit
from webapp.services.clock import clock
from webapp.services.driver import cursor_of
from webapp.services.ledger import is_unknown
from webapp.services.registry import Profiles

MOST_AMOUNT = Decimal(10_000_000)
# Commas only between groups of three: whoever writes 2,50 for two and a half shall not get 250.
AMOUNT = re.compile(r"\$? ?([0-9]{1,8}|[0-9]{1,3}(?:,[0-9]{3}){1,2})(\.[0-9]{1,12})?", re.ASCII)


@dataclass(frozen=True)
class BudgetState:
    """A budget in the current month; amounts in USD."""

    budget: Budget
    spent: Decimal
    reserved: Decimal  # the ceilings of jobs that have not ended
    unknown: int  # ledger entries of the month whose amount nobody knows: they are not in `spent`
    uncertain: Decimal  # … but each may have cost as much as its job's ceiling

    @property
    def left(self) -> Decimal:
        """What a new job may still reserve; below 0 when more was spent than allowed."""
        return self.budget.monthly_amount - self.spent - self.reserved - self.uncertain

    @property
    def overrun(self) -> Decimal:
        """Spent beyond the budget: answers can cost more than their ceiling when attempts are repeated."""
        return max(self.spent - self.budget.monthly_amount, Decimal())


def month_of(now: datetime) -> tuple[datetime, datetime]:
    """The first moment of this month and of the next one, in UTC."""
    start = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = divmod(start.month, 12)
    return start, start.replace(year=start.year + year, month=month + 1)


@dataclass(frozen=True)
class Wanted:
    """What new jobs of one user and profile would reserve: the ceiling of each (USD), None where it is not known."""

    user_id: int
    profile_id: str
    ceilings: Sequence[Decimal | None]

    def falls_under(self, budget: Budget) -> bool:
        return self.user_id == budget.user_id or self.profile_id == budget.profile_id


# A condition for the statement that stores a job: a budget has to be asked whether it fits.
LIMITS_JOB = "EXISTS (SELECT FROM budgets WHERE user_id = %(user_id)s OR profile_id = %(profile_id)s)"


def reserve(session: Session, wanted: Sequence[Wanted], now: datetime) -> None:
    """Make sure that the new jobs, stored in this transaction, fit into every budget that they fall under.

    Locks those budgets until the caller's commit: no two submits see the same room. Does not commit.
    Raises OverBudget, with `left` and `ceiling` (USD), or when a ceiling is unknown.
    """
    locked = _lock(session, wanted)
    if not locked:
        return
    for state in _states(session, locked, now):
        budget = state.budget
        whose = budget.user.email if budget.user else f"the profile {budget.profile_id}"
        ceilings = [ceiling for one in wanted if one.falls_under(budget) for ceiling in one.ceilings]
        if None in ceilings:
            raise OverBudget(
                f"There is a budget for {whose}, and nobody can say what this may cost: its model has no price, or its "
                "request has no max_output_tokens. An administrator can add what is missing."
            )
        total = sum((ceiling for ceiling in ceilings if ceiling is not None), Decimal())
        if state.left < 0:
            left = state.left + total  # before these jobs
            doubt = (
                f", and {state.unknown} answers of unknown cost may be ${state.uncertain:,.6f}" if state.unknown else ""
            )
            raise OverBudget(
                f"This may cost up to ${total:,.6f}, but ${max(left, Decimal()):,.6f} is left of the budget of "
                f"{whose} for this month (UTC): of ${budget.monthly_amount:,.2f}, ${state.spent:,.6f} is spent and "
                f"${state.reserved - total:,.6f} is reserved for jobs that have not ended{doubt}.",
                left=format(left, "f"), ceiling=format(total, "f"),
            )  # fmt: skip


def _lock(session: Session, wanted: Sequence[Wanted]) -> list[int]:
    query = "SELECT id FROM budgets WHERE user_id = ANY(%s) OR profile_id = ANY(%s) ORDER BY id FOR UPDATE"
    with cursor_of(session) as cursor:
        found = cursor.execute(query, [[one.user_id for one in wanted], [one.profile_id for one in wanted]])
        return [budget_id for (budget_id,) in found]


def budgets_of(session: Session, *, user_id: int, profile_id: str | None = None) -> list[BudgetState]:
    """The budgets that this user's runs (of this profile) fall under, as they stand now.

    Apart from the session: a page shows them after the transaction, when an administrator may have removed one.
    """
    applies = or_(Budget.user_id == user_id, Budget.profile_id == profile_id)
    states = _states(session, session.scalars(select(Budget.id).where(applies)).all(), clock(session))
    for state in states:
        session.expunge(state.budget)
    return states


def list_budgets(session: Session) -> list[BudgetState]:
    """All budgets as they stand now."""
    return _states(session, session.scalars(select(Budget.id)).all(), clock(session))


def set_budget(
    session: Session, profiles: Profiles, *, email: str, profile_id: str, amount: str, user: User, reason: str
) -> Budget:
    """Give a user (by `email`) or a profile a budget, or change it; `amount` is USD a month. Commits.

    Raises InvalidInput.
    """
    monthly = _amount(amount)
    if bool(email) == bool(profile_id):
        raise InvalidInput({"email": "Name either a user or a profile."})
    owner: dict[str, int | str] = {}
    if email:
        found = session.scalars(select(User.id).where(func.lower(User.email) == email.strip().lower())).one_or_none()
        if found is None:
            raise InvalidInput({"email": "There is no user with this e-mail address."})
        owner = {"user_id": found}
    elif profile_id not in {profile.id for profile in profiles}:
        raise InvalidInput({"profile": "There is no such profile."})
    else:
        owner = {"profile_id": profile_id}
    statement = insert(Budget).values(**owner, monthly_amount=monthly)
    budget_id = session.execute(
        statement.on_conflict_do_update(index_elements=list(owner), set_={"monthly_amount": monthly})
        .returning(Budget.id)
    ).scalar_one()  # fmt: skip
    detail = owner | {"monthlyUsd": format(monthly, "f")}
    audit(session, user, "set_budget", f"budget:{budget_id}", reason, detail)
    session.commit()
    return session.get_one(Budget, budget_id, populate_existing=True)


def remove_budget(session: Session, budget_id: int, *, user: User, reason: str) -> None:
    """From now on there is no limit there. Commits. Raises NotFound or InvalidInput."""
    budget = session.get(Budget, budget_id)
    if budget is None:
        raise NotFound("This budget is not there any more.")
    detail = {"user_id": budget.user_id, "profile_id": budget.profile_id,
              "monthlyUsd": format(budget.monthly_amount, "f")}  # fmt: skip
    audit(session, user, "remove_budget", f"budget:{budget_id}", reason, detail)
    session.execute(delete(Budget).where(Budget.id == budget_id))
    session.commit()


def _states(session: Session, budget_ids: Sequence[int], now: datetime) -> list[BudgetState]:
    """One statement, so one snapshot: a job that ends meanwhile is either reserved or spent, never neither."""
    start, end = month_of(now)
    facts = costs.facts()

    def of_owner(statement: Select[Any], rows: Any) -> ColumnElement[Any]:
        """One lookup for either kind of budget: with an OR of both, each would read everything there is."""
        user, profile = (
            statement.where(condition).correlate(Budget).scalar_subquery()
            for condition in (rows.user_id == Budget.user_id, rows.profile_id == Budget.profile_id)
        )
        return case((Budget.user_id.is_not(None), user), else_=profile)

    spent = of_owner(
        select(func.coalesce(func.sum(facts.c.amount), 0))
        .where(facts.c.day >= start.date(), facts.c.day < end.date()), facts.c,
    )  # fmt: skip
    reserved = of_owner(
        select(func.coalesce(func.sum(JobRequest.ceiling), 0))
        .join(Job, Job.id == JobRequest.job_id)
        .where(Job.finished_at.is_(None)), Job,
    )  # fmt: skip
    unknown = (is_unknown(), LedgerEntry.answered_at >= start, LedgerEntry.answered_at < end)
    not_known = of_owner(select(func.count()).where(*unknown), LedgerEntry)
    uncertain = of_owner(
        select(func.coalesce(func.sum(JobRequest.ceiling), 0))
        .join(LedgerEntry, LedgerEntry.job_id == JobRequest.job_id)
        .where(*unknown), LedgerEntry,
    )  # fmt: skip
    rows = session.execute(
        select(Budget, spent, reserved, not_known, uncertain)
        .where(Budget.id.in_(budget_ids))
        .options(joinedload(Budget.user))
        .order_by(Budget.profile_id.nulls_first(), Budget.id)
        .execution_options(populate_existing=True)
    )
    return [BudgetState(*row) for row in rows]


def _amount(text: str) -> Decimal:
    found = AMOUNT.fullmatch(text.strip())
    amount = Decimal(found[1].replace(",", "") + (found[2] or "")) if found else None
    if amount is None or amount > MOST_AMOUNT:
        raise InvalidInput({"amount": f"Give an amount in USD, from 0 to {MOST_AMOUNT:,}, like 1,250.50."})
    return amount
