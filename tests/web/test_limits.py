"""How often one may ask: who asked too often is told when to come back, in the form that they read."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from devstack.stack import LIMITS
from tests.factories import PASSWORD, make_user
from webapp.config import Settings
from webapp.services import accounts
from webapp.views import limits

ALICE = {"email": "alice@example.org", "password": PASSWORD}
HERE, THERE = {"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": "198.51.100.7"}


def sign_in(client: FlaskClient, email: str = "alice@example.org") -> FlaskClient:
    assert client.post("/login", data=ALICE | {"email": email}).status_code == 303
    return client


def statuses(client: FlaskClient, count: int, path: str, **request: Any) -> list[int]:
    return [client.post(path, **request).status_code for _ in range(count)]


def test_sign_ins_are_limited_by_address(make_app: Any, session: Session) -> None:
    make_user(session)
    client = make_app(sign_ins_per_minute=3).test_client()
    assert statuses(client, 4, "/login", data=ALICE, environ_base=HERE) == [303, 303, 303, 429]
    assert client.post("/login", data=ALICE, environ_base=THERE).status_code == 303
    assert client.get("/login", environ_base=HERE).status_code == 200  # the page is there


def test_the_page_says_when_to_come_back(make_app: Any, tables: Any) -> None:
    client = make_app(registrations_per_hour=1).test_client()
    statuses(client, 1, "/register", data={"email": "x"})
    answer = client.post("/register", data={"email": "x"})
    assert (answer.status_code, answer.mimetype) == (429, "text/html")
    assert 1 <= int(answer.headers["Retry-After"]) <= 3600
    assert "<!doctype html>" in answer.text
    assert "At most 1 per hour: try again in" in answer.text


def test_htmx_gets_a_fragment(make_app: Any, session: Session) -> None:
    make_user(session)
    client = sign_in(make_app(estimates_per_minute=1).test_client())
    statuses(client, 1, "/jobs/estimate", data={"profile": "pdf_summary"})
    answer = client.post("/jobs/estimate", data={"profile": "pdf_summary"}, headers={"HX-Request": "true"})
    assert (answer.status_code, "<html" in answer.text) == (429, False)
    assert 'data-error="At most 1 per minute: try again' in answer.text


def test_uploads_of_one_user_count_together_wherever_they_go(make_app: Any, session: Session) -> None:
    alice = make_user(session)
    make_user(session, "bob@example.org")
    app = make_app(uploads_per_minute=2)
    bearer = {"Authorization": f"Bearer {accounts.create_token(session, alice, 'tests')}"}
    client = sign_in(app.test_client())
    statuses(client, 1, "/jobs/documents")
    statuses(client, 1, "/jobs/new")
    assert statuses(client, 1, "/jobs/documents") == [429]
    assert app.test_client().post("/api/v1/documents", headers=bearer).status_code == 429
    assert statuses(sign_in(app.test_client(), "bob@example.org"), 1, "/jobs/documents") == [404]


def test_a_program_is_limited_by_its_token_and_reads_a_problem(make_app: Any, session: Session) -> None:
    alice = make_user(session)
    one, two = ({"Authorization": f"Bearer {accounts.create_token(session, alice, name)}"} for name in "ab")
    client = make_app(api_calls_per_minute=2).test_client()
    assert [client.get("/api/v1/jobs", headers=one).status_code for _ in range(2)] == [200, 200]
    answer = client.get("/api/v1/profiles", headers=one)
    assert (answer.status_code, answer.content_type) == (429, "application/problem+json")
    assert (answer.json["code"], 1 <= int(answer.headers["Retry-After"]) <= 60) == ("too_often", True)
    assert client.get("/api/v1/jobs", headers=two).status_code == 200


def test_who_sends_no_token_is_limited_by_address(make_app: Any) -> None:
    client = make_app(api_calls_per_minute=2).test_client()
    found = [client.get("/api/v1/jobs", environ_base=HERE).status_code for _ in range(3)]
    assert found == [401, 401, 429]
    assert client.get("/api/v1/jobs", environ_base=THERE).status_code == 401


@pytest.mark.parametrize("setting", LIMITS)
def test_nothing_is_limited_at_0(settings: Settings, setting: str) -> None:
    assert getattr(settings, setting) == 0
    assert Settings.model_fields[setting].default > 0


def test_the_settings_are_those_of_the_limits() -> None:
    assert set(LIMITS) == {*limits.LIMITS, limits.API_SETTING}
