"""The line that the alerts read: once a minute, no failed window lost or told twice, nobody woken up for nothing."""

from __future__ import annotations

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from tests.factories import make_queued_jobs, make_user, make_window
from tests.statements import heard
from webapp import logs
from webapp.domain.states import TERMINAL_WINDOWS, WindowStatus
from webapp.models import BatchWindow, Job, Queue, User
from webapp.parts import Parts
from webapp.services import batches, heartbeat, vitals
from webapp.services.clock import clock, move_clock
from webapp.services.vitals import COMMITTED_AFTER, LINE_EVERY

Line = tuple[int, int]  # queue_age_seconds, windows_failed
SETTLED = COMMITTED_AFTER + LINE_EVERY  # after it an end is sure to be told


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


class Leader:
    """A heartbeat of its own, with what it remembers."""

    def __init__(self, session: Session, parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
        self.session, self.parts, self.caplog, self.overdue = session, parts, caplog, vitals.Overdue()
        caplog.set_level(logging.INFO, "webapp.services.vitals")

    def tell(self, *, after: timedelta = timedelta()) -> list[Line]:
        """The lines that it logs when so much time has passed."""
        if after:
            move_on(self.session, after)
        self.caplog.clear()
        settings, profiles = self.parts.settings, self.parts.profiles
        found = vitals.write_line(self.session, settings, profiles, self.overdue)
        self.overdue = self.overdue if found is None else found
        return lines(self.caplog)


def lines(caplog: pytest.LogCaptureFixture) -> list[Line]:
    told = [vars(record) for record in caplog.records if record.getMessage() == "vitals"]
    return [(line["queue_age_seconds"], line["windows_failed"]) for line in told]


@pytest.fixture
def leader(session: Session, parts: Parts, caplog: pytest.LogCaptureFixture) -> Leader:
    return Leader(session, parts, caplog)


def move_on(session: Session, by: timedelta) -> None:
    real = session.execute(select(func.clock_timestamp())).scalar_one()
    move_clock(session, ahead=clock(session) - real + by)


def end_window(session: Session, parts: Parts, user: User, status: WindowStatus, at: datetime | None = None) -> None:
    window = make_window(session, parts, user)
    values = {"status": status, "finished_at": at or clock(session)}
    session.execute(update(BatchWindow).where(BatchWindow.id == window.id).values(**values))
    session.commit()


def wait_for_hours(session: Session, hours: int = 3) -> None:
    """Every queued job has been there for so long."""
    session.execute(update(Job).values(queued_at=clock(session) - timedelta(hours=hours)))
    session.commit()


def test_it_is_one_line_of_json_as_the_alerts_read_it(
    session: Session, parts: Parts, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure_logging()
    vitals.write_line(session, parts.settings, parts.profiles, {})
    [line] = map(json.loads, capfd.readouterr().out.splitlines())
    assert line["event"] == "vitals"
    assert (line["queue_age_seconds"], line["windows_failed"]) == (0, 0)


def test_it_is_told_once_a_minute(leader: Leader) -> None:
    assert leader.tell() == [(0, 0)]
    assert leader.tell(after=LINE_EVERY / 2) == []
    assert leader.tell(after=LINE_EVERY / 2) == [(0, 0)]


@pytest.mark.parametrize("status", sorted(TERMINAL_WINDOWS))
def test_failed_and_expired_windows_are_counted(
    leader: Leader, session: Session, parts: Parts, user: User, status: WindowStatus
) -> None:
    leader.tell()
    end_window(session, parts, user, status)
    expected = int(status in (WindowStatus.FAILED, WindowStatus.EXPIRED))
    assert leader.tell(after=SETTLED) == [(0, expected)]
    assert leader.tell(after=LINE_EVERY) == [(0, 0)], "it was told before"


def test_windows_that_failed_before_the_first_line_are_history(
    leader: Leader, session: Session, parts: Parts, user: User
) -> None:
    end_window(session, parts, user, WindowStatus.FAILED, clock(session) - timedelta(days=1))
    assert leader.tell() == [(0, 0)]


def test_an_end_that_is_committed_late_is_counted(leader: Leader, session: Session, parts: Parts, user: User) -> None:
    """It names the moment at which its use case began: by then a line may have been told."""
    leader.tell()
    began = clock(session)
    assert leader.tell(after=LINE_EVERY) == [(0, 0)]
    end_window(session, parts, user, WindowStatus.FAILED, began)
    assert sum(failed for _ in range(4) for _, failed in leader.tell(after=LINE_EVERY)) == 1


def test_a_new_leader_tells_what_failed_while_nobody_led(
    leader: Leader, session: Session, parts: Parts, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    leader.tell()
    end_window(session, parts, user, WindowStatus.FAILED)
    move_on(session, timedelta(hours=2))
    assert Leader(session, parts, caplog).tell() == [(0, 1)]
    assert Leader(session, parts, caplog).tell() == [], "its minute is not over"


def test_two_leaders_at_once_tell_one_line(
    leader: Leader, session: Session, parts: Parts, user: User, tables: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    leader.tell()
    end_window(session, parts, user, WindowStatus.FAILED)
    move_on(session, SETTLED)
    caplog.clear()
    barrier = Barrier(2)

    def tell() -> None:
        with Session(tables) as own:
            barrier.wait()
            vitals.write_line(own, parts.settings, parts.profiles, {})

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(tell) for _ in range(2)]:
            one.result()
    assert lines(caplog) == [(0, 1)]


def test_the_age_is_that_of_a_job_whose_window_should_be_open(
    leader: Leader, session: Session, parts: Parts, user: User
) -> None:
    make_queued_jobs(session, parts, user, 3)  # a full window
    wait_for_hours(session)
    assert leader.tell() == [(0, 0)], "the window may open in this second"
    assert leader.tell(after=LINE_EVERY) == [(3 * 3600, 0)]


def test_a_backlog_from_which_windows_keep_opening_is_old(
    leader: Leader, session: Session, parts: Parts, user: User
) -> None:
    """Its oldest job is another one at each line."""
    queue_id, job_ids = make_queued_jobs(session, parts, user, 30)
    for number, job_id in enumerate(job_ids):
        since = clock(session) - timedelta(hours=5) + timedelta(minutes=number)
        session.execute(update(Job).where(Job.id == job_id).values(queued_at=since))
    session.commit()
    leader.tell()
    for _ in range(3):
        batches.open_window(session, parts.settings, parts.profiles, queue_id=queue_id, actor="test")
        [(age, _)] = leader.tell(after=LINE_EVERY)
        assert age == pytest.approx(5 * 3600, abs=600)


def test_a_queue_that_only_just_became_ready_wakes_nobody_up(
    leader: Leader, session: Session, parts: Parts, user: User
) -> None:
    """Strategy count_only: two jobs may wait for days, and that is how it is meant."""
    make_queued_jobs(session, parts, user, 2)
    wait_for_hours(session)
    assert leader.tell() == [(0, 0)]
    make_queued_jobs(session, parts, user, 1)
    assert leader.tell(after=LINE_EVERY) == [(0, 0)]


def test_a_held_queue_does_not_count(leader: Leader, session: Session, parts: Parts, user: User) -> None:
    make_queued_jobs(session, parts, user, 3)
    wait_for_hours(session)
    session.execute(update(Queue).values(held_at=clock(session)))
    session.commit()
    leader.tell()
    assert leader.tell(after=LINE_EVERY) == [(0, 0)]


def test_the_provider_s_pause_does_not_hide_that_jobs_wait(
    leader: Leader, session: Session, parts: Parts, user: User
) -> None:
    make_queued_jobs(session, parts, user, 3)
    wait_for_hours(session)
    session.execute(update(Queue).values(not_before=clock(session) + timedelta(hours=1)))
    session.commit()
    leader.tell()
    [(age, _)] = leader.tell(after=LINE_EVERY)
    assert age == 3 * 3600


def test_the_heartbeat_tells_it(session: Session, parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "webapp.services.vitals")
    beat = heartbeat.Beat()
    heartbeat.tick(session, parts, beat)
    heartbeat.tick(session, parts, beat)
    assert lines(caplog) == [(0, 0)]


def test_what_is_overdue_is_remembered_by_the_beat(session: Session, parts: Parts, user: User) -> None:
    make_queued_jobs(session, parts, user, 3)
    wait_for_hours(session)
    beat = heartbeat.Beat()
    heartbeat.tick(session, parts, beat)
    heartbeat.tick(session, parts, beat)  # no line is due: nothing is forgotten
    assert [round(age) for age in beat.overdue.values()] == [3 * 3600]


def test_no_figure_reads_every_job(session: Session, parts: Parts, user: User) -> None:
    """On an index each: PostgreSQL is asked how it would do it if it were forbidden to read whole tables."""
    make_queued_jobs(session, parts, user, 3)
    with heard() as asked:
        vitals.queue_figures(session, parts.settings, parts.profiles)
        for figures in (vitals.sync_figures, vitals.recent_figures, vitals.cost_figures, vitals.heartbeat_age):
            figures(session)
    connection = session.connection()
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    for query, parameters in asked:
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {query}", parameters).scalars())
        assert not re.search(r"Seq Scan on (jobs|job_\w+|window_events|ledger)\b", plan), plan
    assert len(asked) > 10
