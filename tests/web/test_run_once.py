"""A form that is sent twice runs once."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import PASSWORD, make_user
from webapp.models import Document, IdempotencyKey, Job, Submission, User
from webapp.services import idempotency
from webapp.views.run_once import ALREADY

RUN = {"profile": "text_classification", "text": "All went well.", "labels": "good, bad"}


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def alice(client: FlaskClient, user: User) -> FlaskClient:
    client.post("/login", data={"email": user.email, "password": PASSWORD})
    return client


def open_form(client: FlaskClient, query: str = "profile=text_classification") -> str:
    """The id of a form that was just drawn."""
    [form_id] = re.findall(r'name="form-id" value="([^"]{20,})"', client.get(f"/jobs/new?{query}").text)
    return str(form_id)


def count(session: Session, model: Any) -> int:
    return session.scalar(select(func.count()).select_from(model)) or 0


def test_a_double_click_makes_one_job_and_shows_it_twice(alice: FlaskClient, session: Session) -> None:
    form = RUN | {"form-id": open_form(alice)}
    first, second = (alice.post("/jobs/new", data=form) for _ in range(2))
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.location == second.location
    assert count(session, Job) == 1
    assert ALREADY in alice.get(second.location).text


def test_back_and_another_value_is_another_run(alice: FlaskClient, session: Session) -> None:
    form = RUN | {"form-id": open_form(alice)}
    alice.post("/jobs/new", data=form)
    alice.post("/jobs/new", data=form | {"text": "All went wrong."})
    assert count(session, Job) == 2


def test_a_new_form_with_the_same_values_is_another_run(alice: FlaskClient, session: Session) -> None:
    for form_id in (open_form(alice), open_form(alice)):
        alice.post("/jobs/new", data=RUN | {"form-id": form_id})
    assert count(session, Job) == 2


def test_files_sent_twice_are_stored_and_run_once(alice: FlaskClient, session: Session) -> None:
    form_id = open_form(alice, "profile=pdf_summary")
    content = (DATA / "two-pages.pdf").read_bytes()
    addresses = []
    for _ in range(2):
        files = [(io.BytesIO(content), f"{number}.pdf") for number in range(2)]
        form = {"profile": "pdf_summary", "audience": "general", "bullets": "5", "form-id": form_id, "document": files}
        addresses.append(alice.post("/jobs/new", data=form).location)
    assert addresses == ["/submissions/1"] * 2
    assert (count(session, Submission), count(session, Job), count(session, Document)) == (1, 2, 2)


def test_a_file_of_rows_sent_twice_runs_once_and_another_file_again(alice: FlaskClient, session: Session) -> None:
    form_id = open_form(alice, "profile=text_classification&rows=1")
    for content in (b'{"text": "a"}\n', b'{"text": "a"}\n', b'{"text": "b"}\n'):
        form = {"profile": "text_classification", "for-rows": "1", "form-id": form_id, "labels": "a, b"}
        answer = alice.post("/jobs/new", data=form | {"rows-file": (io.BytesIO(content), "rows.jsonl")})
        assert answer.status_code == 303
    assert (count(session, Submission), count(session, Job)) == (2, 2)


def test_a_form_that_was_refused_can_be_sent_again(alice: FlaskClient, session: Session) -> None:
    form = RUN | {"form-id": open_form(alice), "text": ""}
    assert [alice.post("/jobs/new", data=form).status_code for _ in range(2)] == [422, 422]
    assert alice.post("/jobs/new", data=form | {"text": "mended"}).status_code == 303
    assert count(session, Job) == 1


def test_two_at_the_same_moment_make_one(alice: FlaskClient, user: User, session: Session) -> None:
    form, locations = RUN | {"form-id": open_form(alice)}, []
    clients = [alice, alice.application.test_client()]
    clients[1].post("/login", data={"email": user.email, "password": PASSWORD})
    start = threading.Barrier(2)

    def send(client: FlaskClient) -> None:
        start.wait()
        locations.append(client.post("/jobs/new", data=form).location)

    threads = [threading.Thread(target=send, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert locations == ["/jobs/1"] * 2 or locations == ["/jobs/2"] * 2  # the id of the second is left out
    assert count(session, Job) == 1


def test_the_same_form_of_somebody_else_is_another_form(alice: FlaskClient, session: Session) -> None:
    form = RUN | {"form-id": open_form(alice)}
    alice.post("/jobs/new", data=form)
    bob = alice.application.test_client()
    make_user(session, "bob@example.org")
    bob.post("/login", data={"email": "bob@example.org", "password": PASSWORD})
    assert bob.post("/jobs/new", data=form).location == "/jobs/2"


def test_a_day_later_it_is_forgotten(alice: FlaskClient, session: Session) -> None:
    form = RUN | {"form-id": open_form(alice)}
    alice.post("/jobs/new", data=form)
    session.execute(update(IdempotencyKey).values(created_at=IdempotencyKey.created_at - idempotency.KEPT))
    session.commit()
    alice.post("/jobs/new", data=form)
    assert count(session, Job) == 2
