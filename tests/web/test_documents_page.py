"""The page of documents: what they are, which jobs were made from them, and their deletion."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_document, make_jobs, make_user
from webapp.models import Document, Job, User
from webapp.parts import Parts
from webapp.services import document_lists, jobs


@pytest.fixture
def browser(client: FlaskClient, alice: User) -> FlaskClient:
    """Alice's."""
    client.post("/login", data={"email": alice.email, "password": PASSWORD})
    return client


def test_each_document_says_its_pages_its_size_and_its_jobs(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_jobs(session, parts, alice, 2)
    session.execute(update(Document).values(filename="<b>minutes</b>.pdf", bytes=3 * 2**20, pages=17))
    session.commit()
    page = browser.get("/documents").text
    assert "&lt;b&gt;minutes&lt;/b&gt;.pdf" in page
    assert ">17<" in page
    assert "3.0 MB" in page
    assert '<a href="/jobs?document=1">2</a>' in page
    assert "2 jobs wait" in page
    assert re.findall(r'<a href="/jobs/(\d+)">Job', browser.get("/jobs?document=1").text) == ["2", "1"]


def test_one_that_a_job_waits_for_stays_and_else_it_goes(
    browser: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    [job_id] = make_jobs(session, parts, alice, 1)
    assert browser.post("/documents/1/delete").status_code == 303
    assert "Unfinished jobs need this document: 1." in browser.get("/documents").text
    jobs.cancel_job(session, session.get_one(Job, job_id), actor="test")
    browser.post("/documents/1/delete")
    page = browser.get("/documents").text
    assert "The document was deleted." in page
    assert "No documents yet" in page
    session.rollback()
    assert session.scalars(select(Document.deleted_at)).one() is not None


def test_those_of_others_are_nowhere(browser: FlaskClient, session: Session) -> None:
    make_document(session, make_user(session, "bob@example.org"))
    assert "No documents yet" in browser.get("/documents").text
    assert browser.post("/documents/1/delete").status_code == 404
    session.rollback()
    assert session.scalars(select(Document.deleted_at)).one() is None


def test_the_pages_lead_both_ways(
    session: Session, alice: User, browser: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [make_document(session, alice).id for _ in range(5)][::-1]
    first = document_lists.list_page(session, alice.id, size=2)
    second = document_lists.list_page(session, alice.id, before=first.older, size=2)
    third = document_lists.list_page(session, alice.id, before=second.older, size=2)
    assert [one.id for page in (first, second, third) for one in page.documents] == ids
    assert (first.newer, third.older) == (None, None)
    assert document_lists.list_page(session, alice.id, after=third.newer, size=2).documents == second.documents
    assert document_lists.list_page(session, alice.id, after=second.newer, size=2) == first
    assert "No older documents" in browser.get("/documents?before=1").text


def test_the_count_of_jobs_has_its_bound(
    browser: FlaskClient, session: Session, parts: Parts, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_lists, "MOST_COUNTED", 2)
    make_jobs(session, parts, alice, 4)
    assert "more than 2" in browser.get("/documents").text
