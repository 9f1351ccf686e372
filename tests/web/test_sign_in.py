"""Signing in through the page: what is said to whom, and what a session is worth."""

from __future__ import annotations

from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_user

ALICE = {"email": "alice@example.org", "password": PASSWORD}
WRONG = ALICE | {"password": "a wrong password"}


def test_the_page_says_when_to_try_again_and_keeps_the_address(client: FlaskClient, session: Session) -> None:
    make_user(session)
    for _ in range(5):
        assert client.post("/login", data=WRONG).status_code == 422
    answer = client.post("/login", data=ALICE)
    assert answer.status_code == 429
    assert 28 <= int(answer.headers["Retry-After"]) <= 30
    assert "There were too many wrong passwords. Try again in" in answer.text
    assert 'value="alice@example.org"' in answer.text


def test_an_address_without_an_account_is_answered_alike(client: FlaskClient, session: Session) -> None:
    answers = [client.post("/login", data=WRONG | {"email": "nobody@example.org"}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [422] * 5 + [429]
