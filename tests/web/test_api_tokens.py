"""What a token may do, how long, and that nobody gets in without one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.domain.errors import InvalidInput
from webapp.domain.scopes import Scope
from webapp.models import ApiToken, User
from webapp.services import accounts
from webapp.services.clock import move_clock
from webapp.views import api as api_module
from webapp.views.api import OPERATIONS


def bearer(session: Session, user: User, *scopes: Scope, days: int | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {accounts.create_token(session, user, 'tests', scopes or Scope, days=days)}"}


def calls(client: FlaskClient) -> list[tuple[str, str, str]]:
    """(name, method, path) of every call of the API."""
    found = []
    for rule in client.application.url_map.iter_rules():
        if rule.endpoint.startswith("api."):
            path = str(rule)
            for argument in rule.arguments:
                path = path.replace(f"<int:{argument}>", "1")
            found += [(rule.endpoint[4:], method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return found


def test_every_call_wants_its_scope_and_says_which(client: FlaskClient, session: Session, alice: User) -> None:
    for name, method, path in calls(client):
        needed = OPERATIONS[name].scope
        if needed is None:
            continue
        others = [scope for scope in Scope if scope is not needed]
        answer = client.open(path, method=method, headers=bearer(session, alice, *others))
        assert (answer.status_code, answer.content_type) == (403, "application/problem+json"), path
        assert (answer.json["code"], answer.json["scope"]) == ("wrong_scope", needed)
        assert needed in answer.json["detail"]
        allowed = client.open(path, method=method, headers=bearer(session, alice, needed))
        assert allowed.status_code in (200, 404, 415), f"{method} {path}"


def test_a_call_without_a_row_is_refused(
    client: FlaskClient, session: Session, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "OPERATIONS", {})
    for _, method, path in calls(client):
        assert client.open(path, method=method, headers=bearer(session, alice)).status_code == 403, path


def test_every_call_has_a_row_and_every_row_a_call(client: FlaskClient) -> None:
    assert {name for name, _, _ in calls(client)} == set(OPERATIONS)


def test_an_expired_token_is_worthless(client: FlaskClient, session: Session, alice: User) -> None:
    header = bearer(session, alice, days=30)
    move_clock(session, ahead=timedelta(days=29, hours=23))
    assert client.get("/api/v1/jobs", headers=header).status_code == 200
    move_clock(session, ahead=timedelta(days=30, minutes=1))
    answer = client.get("/api/v1/jobs", headers=header)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_a_disabled_user_s_token_is_worthless(client: FlaskClient, session: Session, alice: User) -> None:
    header = bearer(session, alice)
    alice.is_enabled = False
    session.commit()
    assert client.get("/api/v1/jobs", headers=header).status_code == 401


def test_the_last_use_is_noted_to_the_minute(client: FlaskClient, session: Session, alice: User) -> None:
    header = bearer(session, alice)

    def last_use() -> Any:
        client.get("/api/v1/jobs", headers=header)
        session.rollback()
        return session.scalars(select(ApiToken.last_used_at)).one()

    first = last_use()
    assert first is not None
    assert last_use() == first
    move_clock(session, ahead=timedelta(seconds=61))
    assert last_use() > first


@pytest.mark.parametrize(
    ("scopes", "days", "fault"), [((), 30, "scopes"), (("jobs:all",), 30, "scopes"), (tuple(Scope), 9, "expiry")]
)
def test_a_token_that_nobody_meant_is_not_made(
    session: Session, alice: User, scopes: tuple[str, ...], days: int, fault: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        accounts.create_token(session, alice, "tests", scopes, days=days)
    assert list(refusal.value.errors) == [fault]


def test_what_there_is_not_is_a_problem(client: FlaskClient) -> None:
    missing, wrong = client.get("/api/v1/nothing"), client.patch("/api/v1/jobs/1")
    assert (missing.status_code, missing.content_type) == (404, "application/problem+json")
    assert (wrong.status_code, wrong.content_type) == (405, "application/problem+json")
    assert set(wrong.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
