"""API tokens on the account page."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_user
from webapp.domain.scopes import Scope
from webapp.models import ApiToken
from webapp.services.clock import move_clock

NIGHTLY = {"name": "nightly", "expiry": "90", "scopes": [Scope.JOBS_READ, Scope.JOBS_WRITE]}


@pytest.fixture
def alice(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session)
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    return client


def test_a_token_is_shown_once_and_stored_hashed(alice: FlaskClient, session: Session) -> None:
    page = alice.post("/account/tokens", data=NIGHTLY)
    token = re.search(r"sluice_[\w-]{40,}", page.text)
    assert token
    assert (page.status_code, page.headers["Cache-Control"], token[0] in alice.get("/account").text) == (
        201,
        "no-store",
        False,
    )
    assert token[0] not in session.scalars(select(ApiToken.token_hash)).one()
    assert alice.get("/api/v1/jobs/1", headers={"Authorization": f"Bearer {token[0]}"}).status_code == 404


def test_a_revoked_token_is_gone(alice: FlaskClient, session: Session) -> None:
    alice.post("/account/tokens", data=NIGHTLY)
    assert alice.post("/account/tokens/1/revoke").status_code == 303
    assert "nightly" not in alice.get("/account").text
    assert alice.post("/account/tokens/1/revoke").status_code == 404


def test_somebody_else_s_token_cannot_be_revoked(alice: FlaskClient, session: Session) -> None:
    alice.post("/account/tokens", data=NIGHTLY)
    make_user(session, "bob@example.org")
    alice.post("/login", data={"email": "bob@example.org", "password": PASSWORD})
    assert alice.post("/account/tokens/1/revoke").status_code == 404


def test_the_form_says_what_is_missing_and_keeps_what_was_given(alice: FlaskClient, session: Session) -> None:
    page = alice.post("/account/tokens", data={"name": "night shift", "expiry": "9"})
    assert page.status_code == 422
    assert "Choose what this token may do." in page.text
    assert 'value="night shift"' in page.text
    page = alice.post("/account/tokens", data={**NIGHTLY, "expiry": "9"})
    assert (page.status_code, "Choose one of the times offered." in page.text) == (422, True)
    assert session.scalars(select(ApiToken.id)).all() == []


def test_the_list_says_what_a_token_may_and_when_it_was_used(alice: FlaskClient, session: Session) -> None:
    token = re.search(r"sluice_[\w-]{40,}", alice.post("/account/tokens", data=NIGHTLY).text)
    page = alice.get("/account").text
    assert "<code>jobs:read</code> <code>jobs:write</code>" in page
    assert "not yet" in page
    assert token
    alice.get("/api/v1/jobs", headers={"Authorization": f"Bearer {token[0]}"})
    assert "not yet" not in alice.get("/account").text
    move_clock(session, ahead=timedelta(days=91))
    assert "expired" in alice.get("/account").text
