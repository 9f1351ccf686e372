"""What is to be told to webhooks, written in the very commit that it tells of. Sending is `webhook_delivery`'s."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from webapp.domain.states import JobStatus
from webapp.domain.webhooks import JOB_ENDS, EventType
from webapp.services.prepared import prepared

_LISTENS = "w.disabled_at IS NULL AND CAST(:event AS text) = ANY(w.event_types)"
_is_heard = prepared(text(f"SELECT EXISTS (SELECT FROM webhooks w WHERE {_LISTENS}) AS so"))  # noqa: S608  (our words)


def _tell(table: str) -> TextClause:
    """The statement that tells of rows of this table. An address is locked, so that it is not deleted meanwhile: an
    end must not fail for that."""
    return text(f"""
        WITH listening AS (
            SELECT w.id, w.user_id FROM webhooks w
            WHERE {_LISTENS} AND w.user_id IN (SELECT user_id FROM {table} WHERE id = ANY(CAST(:ids AS bigint[])))
            ORDER BY w.id FOR KEY SHARE
        )
        INSERT INTO webhook_deliveries (webhook_id, event_type, target_id, created_at, due_at)
        SELECT listening.id, :event, target.id, :now, :now
        FROM listening JOIN {table} AS target USING (user_id) WHERE target.id = ANY(CAST(:ids AS bigint[]))
        ORDER BY target.id
        ON CONFLICT DO NOTHING
    """)  # noqa: S608  (our own names)


_TELL_OF_JOBS, _TELL_OF_SUBMISSIONS = _tell("jobs"), _tell("submissions")


def tell_of_jobs(session: Session, job_ids: Sequence[int], status: JobStatus, *, now: datetime) -> None:
    """These jobs end in this state: write a message for each webhook of their users that listens. Does not commit."""
    _write(session, _TELL_OF_JOBS, job_ids, JOB_ENDS[status], now)


def tell_of_submissions(session: Session, submission_ids: Sequence[int], *, now: datetime) -> None:
    """The last jobs of these submissions have ended. Does not commit."""
    _write(session, _TELL_OF_SUBMISSIONS, submission_ids, EventType.SUBMISSION_FINISHED, now)


def _write(session: Session, statement: TextClause, ids: Sequence[int], event: EventType, now: datetime) -> None:
    # Most systems have few webhooks or none: looking there first costs next to nothing, whatever ends.
    if ids and _is_heard(session, event=event)[0].so:
        session.execute(statement, {"event": event, "ids": list(ids), "now": now})
