"""Jobs that are made together: all or none, kept together, and the wrong lines named."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from tests.factories import make_user
from webapp.domain.errors import InvalidInput, InvalidRows, NotFound, OverBudget
from webapp.domain.rows import Row, read_rows
from webapp.domain.states import JobStatus
from webapp.models import Job, JobEvent, JobRequest, Submission, User
from webapp.parts import Parts
from webapp.services import budgets, jobs, submissions
from webapp.services.clock import clock

PROFILE = "text_classification"
GOOD = {"text": "All went well.", "labels": "good, bad"}


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


def jsonl(*values: Any) -> Iterator[Row]:
    data = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in values).encode()
    return read_rows(io.BytesIO(data), "rows.jsonl", None, ZoneInfo("UTC"))  # type: ignore[arg-type]


def submit(session: Session, parts: Parts, user: User, *values: Any, **more: Any) -> Submission:
    return submissions.submit_rows(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id=PROFILE, rows=jsonl(*values),
        **{"common": {"executionMode": "batch"}, "source": "rows", "name": "rows.jsonl", **more},
    )  # fmt: skip


def stored(session: Session) -> tuple[int, ...]:
    return tuple(session.scalar(select(func.count()).select_from(table)) or 0 for table in
                 (Submission, Job, JobEvent, JobRequest))  # fmt: skip


def test_each_row_is_a_job_of_one_submission(session: Session, parts: Parts, user: User) -> None:
    made = submit(session, parts, user, GOOD, {**GOOD, "executionMode": "sync"}, GOOD)
    session.rollback()
    assert stored(session) == (1, 3, 3, 3)
    assert made.job_count == 3
    found = session.scalars(select(Job).where(Job.submission_id == made.id).order_by(Job.id)).all()
    assert [(job.status, job.inputs["text"]) for job in found] == [
        (JobStatus.QUEUED, GOOD["text"]), (JobStatus.CREATED, GOOD["text"]), (JobStatus.QUEUED, GOOD["text"]),
    ]  # fmt: skip


def test_wrong_lines_are_named_together_and_nothing_is_stored(session: Session, parts: Parts, user: User) -> None:
    with pytest.raises(InvalidRows) as refused:
        submit(session, parts, user, GOOD, "", "{nonsense", {"labels": "a, b"}, GOOD, {**GOOD, "colour": "red"})
    assert {line: (fault.errors or fault.message) for line, fault in refused.value.rows.items()} == {
        3: "This line is not JSON.", 4: {"text": "This field is required."},
        6: {"colour": "This profile has no such field."},
    }  # fmt: skip
    session.commit()
    assert stored(session) == (0, 0, 0, 0)


def test_a_bad_line_alone_is_found_too(session: Session, parts: Parts, user: User) -> None:
    with pytest.raises(InvalidRows) as refused:
        submit(session, parts, user, GOOD, "[]")
    assert list(refused.value.rows) == [2]
    session.commit()
    assert stored(session) == (0, 0, 0, 0)


def test_a_file_without_rows_is_refused(session: Session, parts: Parts, user: User) -> None:
    with pytest.raises(InvalidInput, match="There is nothing to run"):
        submit(session, parts, user)
    session.commit()
    assert stored(session) == (0, 0, 0, 0)


def test_there_is_a_limit_and_nothing_is_stored_beyond_it(session: Session, parts: Parts, user: User) -> None:
    settings = parts.settings.model_copy(update={"max_rows": 2})
    with pytest.raises(InvalidInput) as refused:
        submissions.submit_rows(
            session, settings, parts.profiles, parts.prices, user=user, profile_id=PROFILE,
            rows=jsonl(GOOD, GOOD, GOOD), common={}, source="rows", name="x",
        )  # fmt: skip
    assert refused.value.errors["rows"].startswith("At most 2 rows")
    session.commit()
    assert stored(session) == (0, 0, 0, 0)


def test_a_budget_holds_for_all_rows_together(session: Session, parts: Parts, user: User) -> None:
    one = submit(session, parts, user, GOOD)
    ceiling = session.scalars(select(JobRequest.ceiling)).one()
    assert ceiling is not None
    session.execute(text("UPDATE jobs SET status = 'cancelled', finished_at = now()"))
    budgets.set_budget(
        session, parts.profiles, email=user.email, profile_id="", amount=format(ceiling * 2, "f"), user=user,
        reason="a test",
    )  # fmt: skip
    with pytest.raises(OverBudget):
        submit(session, parts, user, GOOD, GOOD, GOOD)
    session.commit()
    assert stored(session)[0] == 1
    assert submit(session, parts, user, GOOD, GOOD).id > one.id


def test_more_rows_than_a_chunk_keep_their_order(session: Session, parts: Parts, user: User) -> None:
    made = submit(session, parts, user, *({**GOOD, "text": f"row {number}"} for number in range(1201)))
    assert made.job_count == 1201
    found = session.scalars(select(Job.inputs).where(Job.submission_id == made.id).order_by(Job.id)).all()
    assert [inputs["text"] for inputs in found] == [f"row {number}" for number in range(1201)]


def test_the_dry_run_says_what_would_be_made_and_stores_nothing(session: Session, parts: Parts, user: User) -> None:
    found = submissions.forecast_rows(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile=parts.profiles.get(PROFILE),
        rows=jsonl(GOOD, GOOD), common={"executionMode": "batch"},
    )  # fmt: skip
    assert found.count == 2
    assert found.batch.ceiling is not None
    assert found.now.ceiling == 2 * found.batch.ceiling
    session.commit()
    assert stored(session) == (0, 0, 0, 0)
    with pytest.raises(InvalidRows) as refused:
        submissions.forecast_rows(
            session, parts.settings, parts.profiles, parts.prices, user=user, profile=parts.profiles.get(PROFILE),
            rows=jsonl("[]"), common={},
        )  # fmt: skip
    assert list(refused.value.rows) == [1]


def test_progress_counts_the_jobs_and_ends_once(session: Session, parts: Parts, user: User) -> None:
    made = submit(session, parts, user, GOOD, GOOD)
    first, second = session.scalars(select(Job).where(Job.submission_id == made.id).order_by(Job.id))
    jobs.cancel_job(session, first, actor="user:1")
    progress = submissions.get_progress(session, made.id, user_id=user.id)
    assert (progress.counts, progress.ended, progress.is_over) == (
        {JobStatus.QUEUED: 1, JobStatus.CANCELLED: 1}, 1, False,
    )  # fmt: skip
    assert submissions.end_submissions(session, clock(session)) == []
    jobs.cancel_job(session, second, actor="user:1")
    assert submissions.get_progress(session, made.id, user_id=None).is_over
    assert submissions.end_submissions(session, clock(session)) == [made.id]
    session.commit()
    assert submissions.end_submissions(session, clock(session)) == []


def test_a_submission_is_its_users_alone(session: Session, parts: Parts, user: User) -> None:
    made = submit(session, parts, user, GOOD)
    other = make_user(session, "other@example.org")
    with pytest.raises(NotFound):
        submissions.get_progress(session, made.id, user_id=other.id)
    assert submissions.list_progress(session, user_id=other.id) == ([], None)
    [mine], older = submissions.list_progress(session, user_id=user.id)
    assert (mine.submission.id, mine.counts, older) == (made.id, {JobStatus.QUEUED: 1}, None)
