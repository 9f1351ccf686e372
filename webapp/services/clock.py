"""The one clock: PostgreSQL's. A use case reads it once and binds the value everywhere."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def clock(session: Session) -> datetime:
    """The moment of this use case, aware, UTC."""
    return session.execute(select(func.clock_timestamp())).scalar_one()
