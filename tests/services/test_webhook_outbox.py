"""What is to be told is written in the commit that it tells of: once, for those who listen, and for nobody else."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from tests.factories import end_batch, items_of, make_job, make_submission, make_submitted_window, make_user
from tests.factories import output_line as line
from tests.statements import heard
from webapp.domain.states import JobStatus
from webapp.models import User, Webhook, WebhookDelivery
from webapp.parts import Parts
from webapp.services import batch_ingest, heartbeat, jobs, lifecycle, submissions
from webapp.services.clock import clock

ENDS = ["job.completed", "job.failed", "job.cancelled", "submission.finished"]


@pytest.fixture
def alice(session: Session) -> User:
    return make_user(session)


def listen(session: Session, user: User, *events: str, disabled_at: datetime | None = None) -> Webhook:
    webhook = Webhook(
        user_id=user.id, url="https://example.org/hook", event_types=list(events) or ENDS, salt="salt",
        created_at=clock(session), disabled_at=disabled_at,
    )  # fmt: skip
    session.add(webhook)
    session.commit()
    return webhook


def told(session: Session) -> list[tuple[int, str, int]]:
    row = WebhookDelivery
    found = session.execute(select(row.webhook_id, row.event_type, row.target_id).order_by(row.id))
    return [tuple(one) for one in found]  # type: ignore[misc]


def test_nothing_is_written_where_nobody_listens(session: Session, parts: Parts, alice: User) -> None:
    listen(session, make_user(session, "bob@example.org"), "job.completed")
    job = make_job(session, parts, alice)
    with heard() as said:
        jobs.cancel_job(session, job, actor="user:1")
    assert (told(session), [one.sql for one in said if "webhook_deliveries" in one.sql]) == ([], [])


def test_only_who_listens_is_told(session: Session, parts: Parts, alice: User) -> None:
    first, second = listen(session, alice, "job.cancelled", "job.failed"), listen(session, alice)
    listen(session, alice, "job.completed")
    listen(session, alice, disabled_at=clock(session))
    listen(session, make_user(session, "bob@example.org"))
    job = make_job(session, parts, alice)
    jobs.cancel_job(session, job, actor="user:1")
    assert told(session) == [(first.id, "job.cancelled", job.id), (second.id, "job.cancelled", job.id)]


def test_an_end_that_is_rolled_back_is_not_told(session: Session, parts: Parts, alice: User) -> None:
    listen(session, alice)
    job = make_job(session, parts, alice)
    lifecycle.move_job(session, job.id, JobStatus.CANCELLED, now=clock(session), actor="test", reason="test")
    assert told(session) == [(1, "job.cancelled", job.id)]
    session.rollback()
    assert told(session) == []


def test_a_window_s_ends_are_told(session: Session, parts: Parts, alice: User) -> None:
    listen(session, alice)
    window = make_submitted_window(session, parts, alice)
    items = items_of(session, window)
    output = [line(items[0]), line(items[1]), line(items[2], {"error": {"message": "no"}}, 400)]
    lease = end_batch(session, parts, window, "completed", output=output)
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    ends = [(1, "job.completed", items[0].job_id), (1, "job.completed", items[1].job_id)]
    assert told(session) == [*ends, (1, "job.failed", items[2].job_id)]


def test_a_submission_is_told_once_when_its_last_job_ends(session: Session, parts: Parts, alice: User) -> None:
    listen(session, alice, "submission.finished")
    made = make_submission(session, parts, alice, 2)
    first, second = submissions.list_jobs(session, made.id)[0]
    for job, expected in ((first, []), (second, [(1, "submission.finished", made.id)])):
        jobs.cancel_job(session, job, actor="user:1")
        for _ in range(2):
            heartbeat.tick(session, parts, heartbeat.Beat())
        assert told(session) == expected


def test_of_two_at_once_one_tells(session: Session, tables: Engine, parts: Parts, alice: User) -> None:
    listen(session, alice, "submission.finished")
    made = make_submission(session, parts, alice)
    submissions.cancel_waiting(session, made.id, user=alice)
    with Session(tables) as other:
        assert submissions.end_submissions(session, clock(session)) == [made.id]
        assert submissions.end_submissions(other, clock(other)) == []  # and does not wait
        session.commit()
        assert submissions.end_submissions(other, clock(other)) == []
    assert len(told(session)) == 1
