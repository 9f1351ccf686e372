"""The history: filters in the address, search, pages both ways, and rows that change while somebody looks."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import chain

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tests.factories import (
    PASSWORD,
    make_document,
    make_jobs,
    make_submission,
    make_submitted_window,
    make_user,
    make_window,
)
from webapp.domain.states import JobStatus
from webapp.models import BatchItem, Document, Job, User
from webapp.parts import Parts
from webapp.services import history, job_search, lifecycle
from webapp.services.clock import clock

HTMX = {"HX-Request": "true"}


@pytest.fixture
def browser(client: FlaskClient, alice: User) -> FlaskClient:
    """Alice's."""
    client.post("/login", data={"email": alice.email, "password": PASSWORD})
    return client


def listed(client: FlaskClient, address: str = "/jobs") -> list[int]:
    """The ids of the jobs that the page shows, in its order."""
    page = client.get(address)
    assert page.status_code == 200, address
    return [int(number) for number in re.findall(r'<a href="/jobs/(\d+)">Job', page.text)]


def finish(session: Session, ids: list[int], status: JobStatus = JobStatus.FAILED) -> None:
    lifecycle.finish_jobs(session, ids, status, now=clock(session), actor="test", reason="a test")
    session.commit()


def test_each_filter_narrows_the_list(browser: FlaskClient, session: Session, parts: Parts, alice: User) -> None:
    [old] = make_jobs(session, parts, alice, 1)
    made = make_submission(session, parts, alice, 2)
    one, two = make_jobs(session, parts, alice, 2, executionMode="batch")
    finish(session, [one])
    session.execute(update(Job).where(Job.id == old).values(created_at=Job.created_at - timedelta(days=40)))
    session.commit()
    assert len(listed(browser)) == 5
    assert listed(browser, "/jobs?status=failed") == [one]
    assert listed(browser, "/jobs?mode=batch") == [two, one]
    assert listed(browser, "/jobs?mode=batch&status=queued") == [two]
    assert len(listed(browser, f"/jobs?submission={made.id}")) == 2
    assert listed(browser, "/jobs?profile=pdf_summary") == [two, one, old]
    day = (clock(session) - timedelta(days=40)).date()
    assert listed(browser, f"/jobs?from={day}&until={day}") == [old]
    assert listed(browser, f"/jobs?from={day + timedelta(days=1)}")[-1] > old


def test_the_filter_stays_in_the_form_and_the_empty_fields_leave_the_address(browser: FlaskClient) -> None:
    answer = browser.get("/jobs?status=failed&mode=&q=&profile=")
    assert (answer.status_code, answer.location) == (302, "/jobs?status=failed")
    assert '<option value="failed" selected>' in browser.get("/jobs?status=failed").text


@pytest.mark.parametrize(
    "query",
    [
        "status=odd",
        "mode=odd",
        "submission=99999999999999999999",
        "from=yesterday",
        "until=9999-12-31",
        "submission=-1",
    ],
)
def test_what_a_filter_does_not_mean_is_ignored_and_said(
    browser: FlaskClient, session: Session, parts: Parts, alice: User, query: str
) -> None:
    make_submission(session, parts, alice)
    page = browser.get(f"/jobs?{query}")
    assert page.status_code == 200
    assert f"“{query.split('=')[1]}” is no" in page.text
    assert "2 jobs" in page.text


@pytest.mark.parametrize("query", ["q=%00", "before=x", "after=99999999999999999999", "from=0001-01-01", "user=a%00"])
def test_odd_addresses_are_no_crash(browser: FlaskClient, query: str) -> None:
    assert browser.get(f"/jobs?{query}").status_code == 200


def test_the_pages_lead_both_ways_and_keep_the_filter(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    ids = make_jobs(session, parts, alice, 70)
    make_submission(session, parts, alice)
    seen, address = [], "/jobs?profile=pdf_summary"
    while address:
        seen.append(listed(browser, address))
        [*_, address] = re.findall(r'rel="next" href="([^"]+)"', browser.get(address).text) or [""]
        address = address.replace("&amp;", "&")
    assert [*chain(*seen)] == ids[::-1]
    html = browser.get(f"/jobs?profile=pdf_summary&before={seen[1][-1]}").text
    [newer] = re.findall(r'rel="prev" href="([^"]+)"', html)
    assert listed(browser, newer.replace("&amp;", "&")) == seen[1]
    assert listed(browser, f"/jobs?profile=pdf_summary&after={seen[1][0]}") == seen[0]


def test_behind_the_last_page_there_is_a_way_back(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_submission(session, parts, alice)
    page = browser.get("/jobs?before=1").text
    assert "No older jobs" in page
    assert "Start the first run" not in page


def test_without_jobs_it_says_how_to_begin_and_without_a_match_how_to_clear(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    assert "Start the first run" in browser.get("/jobs").text
    assert "Clear the filters" in browser.get("/jobs?status=failed").text


def test_a_search_finds_a_number_a_name_and_what_the_provider_calls_it(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    window = make_submitted_window(session, parts, alice, 2)
    first, second = session.scalars(select(Job.id).order_by(Job.id))
    [other] = make_jobs(session, parts, alice, 1)
    session.execute(update(Document).where(Document.id == 2).values(filename="100%_of_it.pdf"))
    session.commit()
    custom_id = session.scalar(select(BatchItem.custom_id).where(BatchItem.job_id == first))
    for word, found in {
        str(second): [second], f"Job {second}": [second], custom_id: [first], window.provider_batch_id: [second, first],
        "report": [second, first], "100%25_": [other], "0%25of": [], "%25": [other], "_": [other], "nothing": [],
    }.items():  # fmt: skip
        assert listed(browser, f"/jobs?q={word}") == found, word


def test_a_search_does_not_reach_what_is_somebody_elses(browser: FlaskClient, session: Session, parts: Parts) -> None:
    bob = make_user(session, "bob@example.org")
    window = make_submitted_window(session, parts, bob)
    for word in ("1", "report", window.provider_batch_id):
        assert listed(browser, f"/jobs?q={word}") == []
    assert listed(browser, "/jobs?whose=all&user=bob@example.org") == []


def test_a_search_has_its_bounds(session: Session, parts: Parts, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = make_jobs(session, parts, alice, 3)
    assert job_search.search(session, "report", user_id=alice.id) == ids[::-1]
    monkeypatch.setattr(job_search, "MOST_FOUND", 2)
    assert job_search.search(session, "report", user_id=alice.id) == ids[:0:-1]
    make_document(session, alice)
    make_document(session, alice)
    assert job_search.search(session, "report", user_id=alice.id) == []


def test_an_admin_sees_her_own_jobs_everybodys_or_those_of_one(
    client: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_submission(session, parts, alice, 2)
    admin = make_user(session, "root@example.org", role="admin")
    make_submission(session, parts, admin, 1)
    client.post("/login", data={"email": admin.email, "password": PASSWORD})
    assert listed(client) == [3]
    assert listed(client, "/jobs?whose=all") == [3, 2, 1]
    assert listed(client, "/jobs?user=ALICE@example.org") == [2, 1]
    assert "alice@example.org" in client.get("/jobs?whose=all").text
    page = client.get("/jobs?user=nobody@example.org")
    assert "Nobody here has the e-mail address “nobody@example.org”." in page.text
    assert "No job matches" in page.text


def test_there_is_one_poll_as_long_as_a_job_on_the_page_can_change(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_window(session, parts, alice)
    batch = browser.get("/jobs?mode=batch", headers=HTMX).text
    assert "<html" not in batch
    assert re.findall(r'hx-get="([^"]+)" hx-trigger="every 15s', batch) == ["/jobs?mode=batch"]
    [sync] = make_jobs(session, parts, alice, 1)
    assert "every 2s" in browser.get("/jobs").text
    finish(session, [sync])
    finish(session, [1, 2, 3])
    assert "data-poll" not in browser.get("/jobs").text


def test_what_has_been_under_way_for_long_is_looked_at_less_often(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_jobs(session, parts, alice, 1)
    session.execute(update(Job).values(created_at=Job.created_at - timedelta(hours=1)))
    session.commit()
    assert "every 30s" in browser.get("/jobs").text


def test_the_counts_by_state_are_of_the_filter_and_bounded(
    browser: FlaskClient, session: Session, parts: Parts, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = make_jobs(session, parts, alice, 3)
    finish(session, ids[:2])
    page = browser.get("/jobs?mode=sync").text
    assert "3 jobs" in page
    assert re.findall(r'href="/jobs\?status=failed&amp;mode=sync">2 failed', page)
    monkeypatch.setattr(history, "MOST_COUNTED", 2)
    assert "More than 2 jobs" in browser.get("/jobs").text
