"""Many rows at once, of which some are there already."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import make_jobs, make_user
from webapp.models import JobAnswer
from webapp.parts import Parts
from webapp.services.bulk import FEW, insert_new
from webapp.services.clock import clock

COLUMNS = ("job_id", "attempt", "answer_key", "status_code", "raw", "received_at")
KEY = ["job_id", "attempt", "answer_key"]


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 200])
def test_a_row_that_is_there_stays_and_the_others_come(session: Session, parts: Parts, count: int) -> None:
    [job_id] = make_jobs(session, parts, make_user(session), 1)
    now = clock(session)

    def insert(raw: str, first: int) -> None:
        rows = [(job_id, 1, f"key{number}", 200, raw, now) for number in range(first, first + count)]
        insert_new(session, JobAnswer, COLUMNS, rows, KEY)
        session.commit()

    insert("first", 0)
    insert("second", count // 2)
    found = session.execute(select(JobAnswer.raw).order_by(JobAnswer.id)).scalars().all()
    assert found == ["first"] * count + ["second"] * (count // 2)


def test_twice_in_one_transaction_is_once(session: Session, parts: Parts) -> None:
    [job_id] = make_jobs(session, parts, make_user(session), 1)
    rows = [(job_id, 1, f"key{number}", 200, "x", clock(session)) for number in range(FEW + 5)]
    insert_new(session, JobAnswer, COLUMNS, rows * 2, KEY)
    insert_new(session, JobAnswer, COLUMNS, rows, KEY)
    assert session.query(JobAnswer).count() == FEW + 5
