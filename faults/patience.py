"""Wait until a system has nothing left to do. When nothing moves, the clock does: to the next moment that counts.

Nobody sleeps through a lease of 360 seconds here; nobody ends one that somebody might still be working under
either, as long as n8n says that it is busy (up to `BUSY_SECONDS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from faults.system import POLL_SECONDS, LinkedStack

LOOK_SECONDS = 0.1
STILL_SECONDS = 1.2  # nothing moved for so long, and n8n is idle: the clock may move
BUSY_SECONDS = 8.0  # the same while n8n works on something
STUCK_SECONDS = 60.0  # nothing moved for so long, and no moment is left to wait for
LIMIT_SECONDS = 240.0
# The app's defaults, and what the probes' profiles say.
SETTINGS_IN_SQL = {
    "redispatch": 15, "grace": 300, "cut_off": 1800, "last_call": 1200, "wait": 40, "size": 4, "poll": POLL_SECONDS,
}  # fmt: skip

Row = dict[str, Any]
# An execution that was at work when PostgreSQL died stays "running" until n8n starts again: too old is no work.
_BUSY_N8N = """
    SELECT count(*) AS executions FROM execution_entity
    WHERE status = 'running' AND "deletedAt" IS NULL AND "startedAt" > now() - interval '30 seconds'
"""
_NOW = "(clock_timestamp() + coalesce((SELECT ahead FROM test_clock), interval '0'))"
_LOOK = f"""
    SELECT (SELECT count(*) FROM jobs WHERE finished_at IS NULL) AS jobs,
           (SELECT count(*) FROM batch_windows WHERE finished_at IS NULL) AS windows,
           -- jobs that wait for others, to fill a window
           (SELECT count(*) FROM jobs j JOIN queues q ON q.id = j.queue_id
            WHERE j.status = 'queued' AND q.strategy = 'count_only' AND NOT j.has_ridden
              AND (q.not_before IS NULL OR q.not_before < {_NOW})
              AND (SELECT count(*) FROM jobs o WHERE o.queue_id = q.id AND o.status = 'queued') < %(size)s) AS short,
           -- what changes when something gets on; leases and polls come and go without
           (SELECT coalesce(max(id), 0) FROM job_events) AS job_event,
           (SELECT coalesce(max(id), 0) FROM window_events) AS window_event,
           (SELECT string_agg(concat_ws(' ', id, provider_status, create_offered_at, problems), ', ' ORDER BY id)
            FROM batch_windows WHERE finished_at IS NULL) AS window_rows
"""  # noqa: S608  (no value of anybody's is in it)
# The next moment in which the system may do something that it must not do now.
_NEXT_MOMENT = f"""
    WITH moment (at) AS (
        SELECT lease_until FROM jobs WHERE status = 'processing'
        UNION ALL
        SELECT greatest(not_before, dispatched_at + make_interval(secs => %(redispatch)s))
        FROM jobs WHERE status = 'created'
        UNION ALL
        SELECT greatest(j.queued_at + make_interval(secs => %(wait)s), q.not_before)
        FROM jobs j JOIN queues q ON q.id = j.queue_id
        WHERE j.status = 'queued' AND (q.strategy <> 'count_only' OR j.has_ridden OR q.not_before > {_NOW})
        UNION ALL
        SELECT need_by - make_interval(secs => %(cut_off)s) FROM jobs WHERE status = 'queued'
        UNION ALL
        SELECT need_by - make_interval(secs => %(last_call)s) FROM jobs WHERE status IN ('claimed', 'processing')
        UNION ALL
        SELECT cut_off_at FROM batch_windows WHERE finished_at IS NULL
        UNION ALL
        SELECT create_lease_until + make_interval(secs => %(grace)s) FROM batch_windows
        WHERE status = 'open' AND create_offered_at IS NOT NULL
        UNION ALL
        SELECT greatest(due_at, lease_until) FROM batch_windows WHERE finished_at IS NULL
        -- not each look for a create that never was, of which there are a hundred
        AND (status = 'submitted' OR greatest(due_at, lease_until) > {_NOW} + make_interval(secs => %(poll)s + 1))
    )
    SELECT extract(epoch FROM min(at) - {_NOW})::float AS seconds FROM moment WHERE at > {_NOW}
"""  # noqa: S608


@dataclass(frozen=True)
class Outcome:
    """How the wait ended."""

    is_calm: bool  # nothing is left to do
    moved: float  # how far the clock was moved
    said: str  # what is left, if anything


class Patience:
    def __init__(self, stack: LinkedStack) -> None:
        self._stack = stack

    def wait(self, until: Callable[[], bool] = lambda: False, *, is_busy: Callable[[], bool]) -> Outcome:
        """Return when `until` is true, or when nothing is left to do and the load is over (not `is_busy`)."""
        started = moved_at = time.monotonic()
        ahead, last = self._stack.ahead, Row()
        while not until():
            time.sleep(LOOK_SECONDS)
            now = self._look()
            if now != last:
                last, moved_at = now, time.monotonic()
            still = time.monotonic() - moved_at
            if now and not is_busy():
                if now["jobs"] == now["short"] and not now["windows"]:
                    return Outcome(True, self._stack.ahead - ahead, "")
                if still >= self._enough() and self._move_clock():
                    last = Row()
            if still > STUCK_SECONDS or time.monotonic() - started > LIMIT_SECONDS:
                return Outcome(False, self._stack.ahead - ahead, f"nothing moved for {still:.0f} s; {last}")
        return Outcome(False, self._stack.ahead - ahead, "")

    def _look(self) -> Row:
        """What there is; nothing while PostgreSQL is down."""
        return self._ask("sluice", _LOOK)

    def _enough(self) -> float:
        """So long nothing has to move before the clock does."""
        if self._stack.process("n8n").alive and self._ask("n8ndb", _BUSY_N8N).get("executions"):
            return BUSY_SECONDS
        return STILL_SECONDS

    def _move_clock(self) -> bool:
        seconds = self._ask("sluice", _NEXT_MOMENT).get("seconds")
        if seconds is not None:
            self._stack.move_clock_by(seconds + 0.2)
        return seconds is not None

    def _ask(self, database: str, query: str) -> Row:
        try:
            with self._stack.cluster.connect(database) as connection:
                cursor = connection.cursor(row_factory=dict_row)
                return cursor.execute(query, SETTINGS_IN_SQL).fetchone() or Row()
        except psycopg.OperationalError:
            return Row()
