"""The audit log: what administrators did, to what, and why."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, joinedload

from webapp.domain.errors import InvalidInput
from webapp.models import AuditEvent, User
from webapp.services.clock import clock

MAX_REASON = 500
AUDIT_PAGE = 50


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
    session: Session, *, target: str | None = None, before: int | None = None, size: int = AUDIT_PAGE
) -> list[AuditEvent]:
    """What was done (to `target`: `queue:<id>`, `window:<id>`, `job:<id>` …), newest first, with who did it."""
    statement = select(AuditEvent).options(joinedload(AuditEvent.user)).order_by(AuditEvent.id.desc()).limit(size)
    if target is not None:
        statement = statement.where(AuditEvent.target == target)
    if before is not None:
        statement = statement.where(AuditEvent.id < before)
    return list(session.scalars(statement))
