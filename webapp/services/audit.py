"""The audit log: what administrators did, to what, and why."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from typing import Any, TextIO

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, joinedload

from webapp.domain.csv_cells import cells
from webapp.domain.errors import InvalidInput
from webapp.models import AuditEvent, User
from webapp.services.clock import clock

MAX_REASON = 500
AUDIT_PAGE = 50
DEEDS_AT_ONCE = 1000
COLUMNS = ("id", "at", "who", "action", "target", "reason", "detail")


def audit(
    session: Session, user: User, action: str, target: str, reason: str, detail: dict[str, Any] | None = None
) -> None:
    """Note the deed in its own transaction; without a reason there is none. Does not commit.

    Raises InvalidInput, and rolls back, without a reason.
    """
    reason = " ".join(reason.split())
    if not reason:
        session.rollback()
        raise InvalidInput({"reason": "Say why: it is kept in the audit log."})
    if len(reason) > MAX_REASON:
        session.rollback()
        raise InvalidInput({"reason": f"At most {MAX_REASON} characters."})
    session.execute(
        insert(AuditEvent).values(
            at=clock(session), user_id=user.id, action=action, target=target, reason=reason, detail=detail
        )
    )


def list_audit(
    session: Session, *, target: str | None = None, who: str | None = None, action: str | None = None,
    since: datetime | None = None, until: datetime | None = None, before: int | None = None, size: int = AUDIT_PAGE,
) -> list[AuditEvent]:  # fmt: skip
    """What was done, newest first, with who did it.

    `target`: to this (`queue:<id>`, `user:<id>` …), or to all of a kind (`queue`); `who`: a part of an e-mail; from
    `since` until before `until`; `before`: the id where the last page ended.
    """
    statement = select(AuditEvent).options(joinedload(AuditEvent.user)).order_by(AuditEvent.id.desc()).limit(size)
    if target is not None:
        is_one = ":" in target
        column = AuditEvent.target
        statement = statement.where(column == target if is_one else column.startswith(f"{target}:", autoescape=True))
    if who is not None:
        statement = statement.where(AuditEvent.user.has(User.email.icontains(who, autoescape=True)))
    if action is not None:
        statement = statement.where(AuditEvent.action == action)
    if since is not None:
        statement = statement.where(AuditEvent.at >= since)
    if until is not None:
        statement = statement.where(AuditEvent.at < until)
    if before is not None:
        statement = statement.where(AuditEvent.id < before)
    return list(session.scalars(statement))


def list_actions(session: Session) -> list[str]:
    """The kinds of deeds that were done, by name."""
    return list(session.scalars(select(AuditEvent.action).distinct().order_by(AuditEvent.action)))


def write_csv(session: Session, file: TextIO, **filters: Any) -> None:
    """All that `list_audit` finds with these filters, read a portion at a time; times are UTC."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    before = None
    while deeds := list_audit(session, before=before, size=DEEDS_AT_ONCE, **filters):
        for deed in deeds:
            detail = None if deed.detail is None else json.dumps(deed.detail, ensure_ascii=False)
            writer.writerow(cells(deed.id, deed.at, deed.user.email, deed.action, deed.target, deed.reason, detail))
        before = deeds[-1].id
