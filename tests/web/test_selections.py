"""Many jobs at once in the history: picked, asked about, then cancelled or run again."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.crowd import crowd
from tests.factories import PASSWORD, make_jobs, make_submission, make_user
from webapp.domain.errors import InvalidInput
from webapp.domain.states import JobStatus
from webapp.models import AuditEvent, Job, Submission, User
from webapp.parts import Parts
from webapp.services import lifecycle, selections, submissions
from webapp.services.clock import clock
from webapp.services.dispatch import start_attempt
from webapp.services.job_lists import Wanted


@pytest.fixture
def browser(client: FlaskClient, alice: User) -> FlaskClient:
    """Alice's."""
    client.post("/login", data={"email": alice.email, "password": PASSWORD})
    return client


@pytest.fixture
def root(session: Session) -> User:
    return make_user(session, "root@example.org", role="admin")


def sign_in(client: FlaskClient, user: User) -> FlaskClient:
    client.post("/login", data={"email": user.email, "password": PASSWORD})
    return client


def finish(session: Session, ids: list[int], status: JobStatus = JobStatus.FAILED) -> None:
    lifecycle.finish_jobs(session, ids, status, now=clock(session), actor="test", reason="a test")
    session.commit()


def states(session: Session) -> dict[int, str]:
    session.rollback()
    return {row.id: str(row.status) for row in session.execute(select(Job.id, Job.status).order_by(Job.id))}


def audited(session: Session) -> list[tuple[str, str, str]]:
    session.rollback()
    return [(one.action, one.target, one.reason) for one in session.scalars(select(AuditEvent).order_by(AuditEvent.id))]


def test_the_question_says_how_many_can_be_and_why_the_others_cannot(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    first, second, third = make_jobs(session, parts, alice, 3)
    finish(session, [first])
    start_attempt(session, parts.settings, job_id=second, attempt=1, execution_id="e1")
    page = browser.get(f"/jobs/selection?do=cancel&job={first}&job={second}&job={third}").text
    assert "1 job can be cancelled." in page
    assert "2 left as they are: 1 under way, 1 ended already." in page
    assert 'name="reason"' not in page
    assert states(session)[third] == "created"


def test_what_was_ticked_is_cancelled_and_the_rest_is_counted(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    first, second, third = make_jobs(session, parts, alice, 3)
    finish(session, [first])
    answer = browser.post("/jobs/selection", data={"do": "cancel", "job": [first, second], "status": "created"})
    assert (answer.status_code, answer.location) == (303, "/jobs?status=created")
    assert states(session) == {first: "failed", second: "cancelled", third: "created"}
    assert "1 job cancelled. 1 left as it is: 1 ended already." in browser.get("/jobs").text
    assert audited(session) == []


def test_all_that_match_are_those_of_the_question_and_no_newer_ones(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_jobs(session, parts, alice, 2)
    [batch] = make_jobs(session, parts, alice, 1, executionMode="batch")
    page = browser.get("/jobs/selection?do=cancel&which=match&mode=sync").text
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    assert (fields["newest"], fields["which"], fields["mode"]) == ("2", "match", "sync")
    [newer] = make_jobs(session, parts, alice, 1)
    browser.post("/jobs/selection", data=fields)
    assert states(session) == {1: "cancelled", 2: "cancelled", batch: "queued", newer: "created"}


def test_all_on_the_page_are_those_between_its_first_and_its_last(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    ids = make_jobs(session, parts, alice, 4)
    browser.post("/jobs/selection", data={"do": "cancel", "which": "page", "oldest": ids[1], "newest": ids[2]})
    assert [*states(session).values()] == ["created", "cancelled", "cancelled", "created"]
    assert 'name="oldest" value="1"' in browser.get("/jobs").text


def test_run_again_makes_new_jobs_once_and_keeps_them_together(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    ids = make_jobs(session, parts, alice, 3)
    finish(session, ids[:2])
    form = {"do": "retry", "which": "match"}
    assert "2 jobs can be run again." in browser.get("/jobs/selection", query_string=form).text
    assert browser.post("/jobs/selection", data=form).location == "/submissions/1"
    again = session.scalars(select(Job).where(Job.retry_of.is_not(None)).order_by(Job.id)).all()
    assert [(job.retry_of, job.submission_id, job.status) for job in again] == [(1, 1, "created"), (2, 1, "created")]
    made = session.get_one(Submission, 1)
    assert (made.job_count, made.source, made.name) == (2, "retry", "2 jobs run again")
    assert browser.post("/jobs/selection", data=form).location == "/jobs"
    assert "5 left as they are: 3 not ended, 2 repeated already." in browser.get("/jobs").text
    assert session.scalar(select(func.count()).select_from(Job)) == 5


def test_two_who_press_at_once_make_one_new_job_of_each(session: Session, parts: Parts, alice: User) -> None:
    ids = make_jobs(session, parts, alice, 2)
    finish(session, ids)

    def press(own: Session) -> selections.Done:
        return selections.retry_selected(own, Wanted(user_id=1), user=own.get_one(User, 1))

    with crowd(session) as others:
        session.execute(select(Job.id).where(Job.id == ids[0]).with_for_update())
        two = [others.start(press), others.start(press)]
        others.wait_until_blocked(2)
        session.rollback()
    assert sorted(one.result().count for one in two) == [0, 2]
    assert session.scalar(select(func.count()).where(Job.retry_of.is_not(None))) == 2


def test_a_job_that_runs_again_alone_makes_no_submission(session: Session, parts: Parts, alice: User) -> None:
    ids = make_jobs(session, parts, alice, 1)
    made = make_submission(session, parts, alice, 1)
    finish(session, [*ids, 2])
    done = selections.retry_selected(session, Wanted(user_id=alice.id), user=alice)
    assert (done.count, done.submission_id) == (2, None)
    assert session.scalars(select(Submission.id)).all() == [made.id]


def test_nobody_reaches_the_jobs_of_others(browser: FlaskClient, session: Session, parts: Parts) -> None:
    ids = make_jobs(session, parts, make_user(session, "bob@example.org"), 2)
    for which in ({"job": ids}, {"which": "match", "whose": "all"}, {"which": "page", "oldest": 1, "newest": 2}):
        browser.post("/jobs/selection", data={"do": "cancel", **which})
        assert "No job is picked" in browser.get("/jobs/selection", query_string={"do": "retry", **which}).text
    assert {*states(session).values()} == {"created"}


def test_an_admin_says_why_and_it_is_kept(
    client: FlaskClient, session: Session, parts: Parts, alice: User, root: User
) -> None:
    make_jobs(session, parts, alice, 2)
    make_jobs(session, parts, root, 1)
    form = {"do": "cancel", "which": "match", "whose": "all"}
    page = sign_in(client, root).get("/jobs/selection", query_string=form).text
    assert "2 of the picked belong to other users." in page
    refused = client.post("/jobs/selection", data=form)
    assert (refused.status_code, "Say why" in refused.text) == (422, True)
    assert {*states(session).values()} == {"created"}
    assert client.post("/jobs/selection", data={**form, "reason": "a wrong price"}).status_code == 303
    assert {*states(session).values()} == {"cancelled"}
    assert audited(session) == [("cancel_jobs", "jobs:1-2", "a wrong price")]


def test_an_admins_retry_of_a_job_of_somebody_else_stays_that_ones(
    session: Session, parts: Parts, alice: User, root: User
) -> None:
    finish(session, make_jobs(session, parts, alice, 1))
    with pytest.raises(InvalidInput):
        selections.retry_selected(session, Wanted(user_id=None), user=root)
    done = selections.retry_selected(session, Wanted(user_id=None), user=root, reason="our fault")
    assert done.count == 1
    assert session.scalars(select(Job.user_id).where(Job.retry_of == 1)).all() == [alice.id]
    assert audited(session) == [("retry_jobs", "job:1", "our fault")]


def test_what_an_admin_does_to_a_submission_of_somebody_else_is_kept_too(
    client: FlaskClient, session: Session, parts: Parts, alice: User, root: User
) -> None:
    made = make_submission(session, parts, alice, 2)
    finish(session, [1])
    assert 'name="reason"' in sign_in(client, root).get(f"/submissions/{made.id}").text
    for deed in ("cancel", "retry"):
        client.post(f"/submissions/{made.id}/{deed}")
        assert "Say why" in client.get(f"/submissions/{made.id}").text
    assert states(session) == {1: "failed", 2: "created"}
    for deed in ("cancel", "retry"):
        client.post(f"/submissions/{made.id}/{deed}", data={"reason": "they asked"})
    assert audited(session) == [
        ("cancel_submission", "submission:1", "they asked"), ("retry_submission", "submission:1", "they asked"),
    ]  # fmt: skip
    assert 'name="reason"' not in sign_in(client, alice).get(f"/submissions/{made.id}").text


def test_a_filter_that_was_not_understood_does_nothing(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_jobs(session, parts, alice, 1)
    form = {"do": "cancel", "which": "match", "status": "quued"}
    assert browser.get("/jobs/selection", query_string=form).status_code == 303
    assert browser.post("/jobs/selection", data=form).location == "/jobs"
    assert "Nothing was done." in browser.get("/jobs").text
    assert states(session) == {1: "created"}


@pytest.mark.parametrize(
    "query", ["do=cancel&job=x&job=999999999999999999999", "do=retry&which=odd", "do=cancel&which=page"]
)
def test_odd_selections_pick_nothing(
    browser: FlaskClient, session: Session, parts: Parts, alice: User, query: str
) -> None:
    make_jobs(session, parts, alice, 1)
    assert "No job is picked" in browser.get(f"/jobs/selection?{query}").text
    assert browser.get("/jobs/selection?do=explode").status_code == 404


def test_a_selection_has_its_bound_and_says_so(
    browser: FlaskClient, session: Session, parts: Parts, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selections, "MOST_SELECTED", 2)
    make_jobs(session, parts, alice, 3)
    page = browser.get("/jobs/selection?do=cancel&which=match").text
    assert "More than 2 match" in page
    browser.post("/jobs/selection", data={"do": "cancel", "which": "match"})
    assert [*states(session).values()] == ["created", "cancelled", "cancelled"]


def test_repeated_jobs_are_kept_together_by_user_and_profile(
    session: Session, parts: Parts, alice: User, root: User
) -> None:
    ids = [*make_jobs(session, parts, alice, 2), *make_jobs(session, parts, root, 2)]
    assert submissions.keep_together(session, ids) == [1, 2]
    owners = session.execute(select(Submission.user_id, Submission.job_count).order_by(Submission.id)).all()
    assert [tuple(row) for row in owners] == [(alice.id, 2), (root.id, 2)]
