"""The clock: what is due gets its turn, and one failure does not stop the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from tests.factories import make_job, make_queued_jobs, make_user
from tests.fakes import FakeN8n
from webapp.models import Heartbeat
from webapp.models.operation import BEAT_ROW
from webapp.parts import Parts
from webapp.services import heartbeat, jobs


def tick(session: Session, parts: Parts, beat: heartbeat.Beat | None = None) -> None:
    heartbeat.tick(session, parts, beat or heartbeat.Beat())


def test_a_full_queue_nudges_n8n_once_until_something_changes(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    make_queued_jobs(session, parts, make_user(session), 3)
    beat = heartbeat.Beat()
    for _ in range(3):
        tick(session, parts, beat)
    assert n8n.nudges == 1


def test_a_short_queue_nudges_nobody(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    make_queued_jobs(session, parts, make_user(session), 2)
    tick(session, parts)
    assert n8n.nudges == 0


def test_a_job_that_was_not_dispatched_is(session: Session, parts: Parts, n8n: FakeN8n) -> None:
    make_job(session, parts, make_user(session))
    tick(session, parts)
    assert len(n8n.runs) == 1


def test_a_place_that_got_free_is_filled_before_the_next_beat(
    tables: Engine, session: Session, parts: Parts, n8n: FakeN8n
) -> None:
    few = replace(parts, settings=parts.settings.model_copy(update={"max_sync_in_flight": 1, "heartbeat_seconds": 60}))
    user = make_user(session)
    first, second = (make_job(session, parts, user) for _ in range(2))
    asked: list[float] = []

    def should_stop(seconds: float) -> bool:
        asked.append(seconds)
        if asked.count(heartbeat.REFILL_SECONDS) == 1:
            jobs.cancel_job(session, first, actor="user:1")
        return asked.count(heartbeat.REFILL_SECONDS) == 2

    heartbeat.run(tables, few, should_stop=should_stop)
    assert [payload["jobId"] for _, payload in n8n.runs] == [first.id, second.id]


def test_a_leader_that_stumbles_leaves_the_lead_to_the_next(tables: Engine, parts: Parts) -> None:
    """The lock must not stay behind on a pooled connection."""
    beats = iter([False, False, False, True])

    def stumble(*_: object) -> None:
        raise DataError("SELECT 1", {}, Exception("disk full"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heartbeat, "tick", stumble)
        heartbeat.run(tables, parts, should_stop=lambda _: next(beats, True))
    with tables.connect() as connection:
        assert connection.execute(select(func.pg_try_advisory_lock(heartbeat.LEADER_LOCK))).scalar_one()
        connection.execute(select(func.pg_advisory_unlock_all()))


def test_an_action_that_fails_does_not_stop_the_rest(
    session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(heartbeat, "dispatch_due", fail)
    tick(session, parts)
    assert session.get(Heartbeat, BEAT_ROW)
