"""Wait for the end of a job, for somebody who wants its result in the same answer."""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.domain.states import TERMINAL_JOBS
from webapp.models import Job

LOOK_EVERY_SECONDS = 0.2


def await_end(session: Session, job_id: int, seconds: float) -> bool:
    """Return when the job has ended, or after so many seconds; tells whether it has ended.

    Between two looks the session holds no connection. Its objects are stale afterwards.
    """
    give_up = time.monotonic() + seconds
    while True:
        status = session.execute(select(Job.status).where(Job.id == job_id)).scalar_one()
        session.rollback()
        left = give_up - time.monotonic()
        if status in TERMINAL_JOBS or left <= 0:
            return status in TERMINAL_JOBS
        time.sleep(min(LOOK_EVERY_SECONDS, left))
