"""Signing in through the page: what is said to whom, and what a session is worth."""

from __future__ import annotations

import re
from typing import Any

from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_user
from webapp.config import Settings

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


# Sessions


def sign_in(client: FlaskClient, password: str = PASSWORD) -> FlaskClient:
    assert client.post("/login", data=ALICE | {"password": password}).status_code == 303
    return client


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/jobs").status_code == 200


def age(client: FlaskClient, **seconds: int) -> None:
    """Move moments of the session into the past."""
    with client.session_transaction() as cookie:
        for moment, by in seconds.items():
            cookie[moment] -= by


def test_a_session_that_nobody_uses_ends(client: FlaskClient, session: Session, settings: Settings) -> None:
    make_user(session)
    age(sign_in(client), seen=settings.session_idle_minutes * 60 - 5)
    assert is_signed_in(client)  # which is a use
    age(client, seen=settings.session_idle_minutes * 60 - 5)
    assert is_signed_in(client)
    age(client, seen=settings.session_idle_minutes * 60)
    assert not is_signed_in(client)


def test_a_poll_is_no_use_of_a_session(client: FlaskClient, session: Session) -> None:
    make_user(session)
    age(sign_in(client), seen=3000)
    with client.session_transaction() as cookie:
        seen = cookie["seen"]
    assert client.get("/jobs", headers={"HX-Request": "true"}).status_code == 200
    with client.session_transaction() as cookie:
        assert cookie["seen"] == seen


def test_a_session_ends_however_much_it_is_used(client: FlaskClient, session: Session, settings: Settings) -> None:
    make_user(session)
    age(sign_in(client), began=settings.session_hours * 3600 - 5)
    assert is_signed_in(client)
    age(client, began=5)
    assert not is_signed_in(client)


def test_a_session_that_does_not_say_when_it_began_is_over(client: FlaskClient, session: Session) -> None:
    make_user(session)
    with sign_in(client).session_transaction() as cookie:
        del cookie["began"], cookie["seen"]  # as sessions before this version
    assert not is_signed_in(client)


def test_nothing_of_the_anonymous_session_survives_a_sign_in(client: FlaskClient, session: Session) -> None:
    make_user(session)
    with client.session_transaction() as cookie:
        cookie["csrf_token"] = cookie["planted"] = "by somebody else"
    with sign_in(client).session_transaction() as cookie:
        assert not {"planted", "csrf_token"} & set(cookie)


def test_on_https_the_cookie_belongs_to_this_host_alone(make_app: Any, session: Session) -> None:
    make_user(session)
    client = make_app(public_url="https://sluice.example").test_client()
    answer = client.post("/login", data=ALICE, base_url="https://sluice.example")
    name, *attributes = re.split("[=;] ?", answer.headers["Set-Cookie"])
    assert name == "__Host-session"
    assert {"Secure", "HttpOnly", "Path", "SameSite", "Lax"} <= set(attributes)
    assert "Domain" not in attributes


def test_a_changed_key_leaves_people_signed_in_while_the_previous_one_is_named(make_app: Any, session: Session) -> None:
    make_user(session)
    old_key = SecretStr("the key of yesterday")
    cookie = sign_in(make_app(secret_key=old_key).test_client()).get_cookie("session")
    assert cookie
    for previous, expected in ((old_key, True), (None, False)):
        client = make_app(secret_key_previous=previous).test_client()
        client.set_cookie("session", cookie.value)
        assert is_signed_in(client) is expected


def test_signing_out_everywhere_ends_every_session(make_app: Any, session: Session) -> None:
    make_user(session)
    app = make_app()
    here, there = sign_in(app.test_client()), sign_in(app.test_client())
    assert here.post("/account/sessions/end").location == "/"
    assert not is_signed_in(here)
    assert not is_signed_in(there)


# The password


def test_a_changed_password_ends_all_sessions_but_this_one(make_app: Any, session: Session) -> None:
    make_user(session)
    app = make_app()
    here, there = sign_in(app.test_client()), sign_in(app.test_client())
    form = {"old": PASSWORD, "new": "another good password"}
    assert here.post("/account/password", data=form).status_code == 303
    assert is_signed_in(here)
    assert not is_signed_in(there)
    assert there.post("/login", data=ALICE).status_code == 422
    sign_in(there, "another good password")


def test_the_old_password_is_asked_for_and_guesses_are_counted(client: FlaskClient, session: Session) -> None:
    make_user(session)
    sign_in(client)
    form = {"old": "a wrong password", "new": "another good password"}
    answers = [client.post("/account/password", data=form) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [422] * 5 + [429]
    assert "This is not your present password." in answers[0].text
    assert "too many wrong passwords" in answers[5].text
    assert is_signed_in(client)


def test_a_short_new_password_is_refused_on_its_field(client: FlaskClient, session: Session) -> None:
    make_user(session)
    answer = sign_in(client).post("/account/password", data={"old": PASSWORD, "new": "short"})
    assert (answer.status_code, "Use 10 to 200 characters." in answer.text) == (422, True)


# n8n's token


def test_two_internal_tokens_are_valid_while_one_is_changed(make_app: Any, settings: Settings) -> None:
    old, new = SecretStr("the token of yesterday"), settings.internal_token
    client = make_app("internal", internal_token_previous=old).test_client()
    for token, expected in ((old, 200), (new, 200), (SecretStr("the token of tomorrow"), 401), (SecretStr(""), 401)):
        answer = client.get("/api/internal/queues", headers={"X-Internal-Token": token.get_secret_value()})
        assert answer.status_code == expected
