"""API tokens on the account page."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_user
from webapp.models import ApiToken


@pytest.fixture
def alice(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session)
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    return client


def test_a_token_is_shown_once_and_stored_hashed(alice: FlaskClient, session: Session) -> None:
    page = alice.post("/account/tokens", data={"name": "nightly"})
    token = re.search(r"sluice_[\w-]{40,}", page.text)
    assert token
    assert (page.status_code, token[0] in alice.get("/account").text) == (201, False)
    assert token[0] not in session.scalars(select(ApiToken.token_hash)).one()
    assert alice.get("/api/v1/jobs/1", headers={"Authorization": f"Bearer {token[0]}"}).status_code == 404


def test_a_revoked_token_is_gone(alice: FlaskClient, session: Session) -> None:
    alice.post("/account/tokens", data={"name": "nightly"})
    assert alice.post("/account/tokens/1/revoke").status_code == 303
    assert "nightly" not in alice.get("/account").text
    assert alice.post("/account/tokens/1/revoke").status_code == 404


def test_somebody_else_s_token_cannot_be_revoked(alice: FlaskClient, session: Session) -> None:
    alice.post("/account/tokens", data={"name": "nightly"})
    make_user(session, "bob@example.org")
    alice.post("/login", data={"email": "bob@example.org", "password": PASSWORD})
    assert alice.post("/account/tokens/1/revoke").status_code == 404
