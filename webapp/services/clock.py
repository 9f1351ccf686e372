"""The one clock: PostgreSQL's. A use case reads it once and binds the value everywhere.

Tests move it for every process at once: where TEST_CLOCK is on (never in production), the row in `test_clock` is
added to it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Boolean, bindparam, case, cast, func, select
from sqlalchemy.dialects.postgresql import INTERVAL, insert
from sqlalchemy.orm import Session

from webapp.models import ClockOffset
from webapp.services.prepared import prepared

# A connection says by itself whether it may see the offset: nothing has to be handed down to each use case.
TEST_CLOCK_OPTION = "-c sluice.test_clock=on"
_is_on = func.coalesce(cast(func.nullif(func.current_setting("sluice.test_clock", True), ""), Boolean), False)
_offset = func.coalesce(select(ClockOffset.ahead).scalar_subquery(), cast("0", INTERVAL))
# The moment as a column, for a statement that reads other things, too.
NOW = (func.clock_timestamp() + case((_is_on, _offset), else_=cast("0", INTERVAL))).label("now")


_now = prepared(select(NOW))


def clock(session: Session) -> datetime:
    """The moment of this use case, aware, UTC."""
    now: datetime = _now(session)[0].now
    return now


def move_clock(session: Session, *, ahead: timedelta) -> None:
    """Set how far the clock runs ahead of the real one, for every process that has TEST_CLOCK on. Commits."""
    statement = insert(ClockOffset).values(id=1, ahead=bindparam("ahead", ahead, INTERVAL))
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"ahead": statement.excluded.ahead}))
    session.commit()
