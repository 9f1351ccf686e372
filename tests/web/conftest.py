"""A user, and a client that speaks for her to the API."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.factories import make_user
from webapp.models import User
from webapp.services import accounts


@pytest.fixture
def alice(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def api(client: FlaskClient, session: Session, alice: User) -> FlaskClient:
    """A client that sends Alice's token."""
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {accounts.create_token(session, alice, 'tests')}"
    return client
