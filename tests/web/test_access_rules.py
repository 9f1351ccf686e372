"""Everybody else against every route of both listeners: by rules, from `url_map`. A route that no rule names fails.

test_access.py says what anonymous, a stranger, the owner and an admin get of each page; the rest follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tests.factories import PASSWORD
from tests.web.test_access import TABLE, job_of_owner, path_of  # noqa: F401  (a fixture)
from webapp.domain.scopes import Scope
from webapp.models import ApiToken, User
from webapp.parts import Parts
from webapp.services import accounts
from webapp.services.clock import clock
from webapp.views.api import OPERATIONS

Route = tuple[str, str, str]  # method, rule, endpoint
Headers = dict[str, str]
OPEN_TO_ALL = {"health.alive", "health.ready", "static"}  # of the internal listener
METRICS = "metrics.show_metrics"

pytestmark = pytest.mark.usefixtures("job_of_owner")


def routes(app: Flask) -> Iterator[Route]:
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield method, str(rule), rule.endpoint


def api_routes(client: FlaskClient) -> list[Route]:
    """What deletes a thing comes last."""
    names = {(method, rule): endpoint for method, rule, endpoint in routes(client.application)}
    found = [(*key, names[key]) for key in TABLE if key[1].startswith("/api/v1/")]
    return sorted(found, key=lambda route: route[0] == "DELETE")


def user(session: Session, name: str) -> User:
    return session.scalars(select(User).where(User.email == f"{name}@example.org")).one()


def bearer(session: Session, name: str, *scopes: Scope) -> Headers:
    return {"Authorization": f"Bearer {accounts.create_token(session, user(session, name), 'tests', scopes or Scope)}"}


def status(client: FlaskClient, method: str, rule: str, headers: Headers | None = None) -> int:
    return client.open(path_of(rule), method=method, headers=headers, buffered=True).status_code


# Who is nobody on the pages


def a_disabled_user(client: FlaskClient, session: Session, parts: Parts) -> Headers:
    """Who was signed in when it happened."""
    client.post("/login", data={"email": "owner@example.org", "password": PASSWORD})
    session.execute(update(User).where(User.email == "owner@example.org").values(is_enabled=False))
    session.commit()
    return {}


def an_ended_session(client: FlaskClient, session: Session, parts: Parts) -> Headers:
    client.post("/login", data={"email": "owner@example.org", "password": PASSWORD})
    session.execute(update(User).values(session_epoch=User.session_epoch + 1))
    session.commit()
    return {}


def an_admin_s_api_token(client: FlaskClient, session: Session, parts: Parts) -> Headers:
    return bearer(session, "admin")


def the_internal_token(client: FlaskClient, session: Session, parts: Parts) -> Headers:
    return {"X-Internal-Token": parts.settings.internal_token.get_secret_value()}


@pytest.mark.parametrize("who", [a_disabled_user, an_ended_session, an_admin_s_api_token, the_internal_token])
def test_on_the_pages_they_are_anonymous(
    client: FlaskClient, session: Session, parts: Parts, who: Callable[..., Headers]
) -> None:
    headers = who(client, session, parts)
    for (method, rule), (anonymous, *_others) in TABLE.items():
        if not rule.startswith("/api/"):
            assert status(client, method, rule, headers) == anonymous, f"{method} {rule}"


# Who is nobody in the API


def revoked(session: Session, parts: Parts) -> Headers:
    headers = bearer(session, "owner")
    session.execute(update(ApiToken).values(revoked_at=clock(session)))
    session.commit()
    return headers


def expired(session: Session, parts: Parts) -> Headers:
    headers = bearer(session, "owner")
    session.execute(update(ApiToken).values(expires_at=clock(session) - timedelta(seconds=1)))
    session.commit()
    return headers


def of_a_disabled_user(session: Session, parts: Parts) -> Headers:
    headers = bearer(session, "owner")
    session.execute(update(User).where(User.email == "owner@example.org").values(is_enabled=False))
    session.commit()
    return headers


def of_n8n(session: Session, parts: Parts) -> Headers:
    token = parts.settings.internal_token.get_secret_value()
    return {"X-Internal-Token": token, "Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("token", [revoked, expired, of_a_disabled_user, of_n8n])
def test_a_token_that_is_none_opens_nothing(
    client: FlaskClient, session: Session, parts: Parts, token: Callable[..., Headers]
) -> None:
    headers = token(session, parts)
    for method, rule, _endpoint in api_routes(client):
        assert status(client, method, rule, headers) == 401, f"{method} {rule}"


# Tokens


def test_a_token_of_another_scope_is_refused(client: FlaskClient, session: Session) -> None:
    tokens = {scope: bearer(session, "owner", *set(Scope) - {scope}) for scope in Scope}
    for method, rule, endpoint in api_routes(client):
        if scope := OPERATIONS[endpoint.removeprefix("api.")].scope:
            assert status(client, method, rule, tokens[scope]) == 403, f"{method} {rule}"


@pytest.mark.parametrize("name", ["stranger", "admin"])
def test_a_token_reaches_what_is_its_user_s_own(client: FlaskClient, session: Session, name: str) -> None:
    theirs, own = bearer(session, name), bearer(session, "owner")
    for method, rule, _endpoint in api_routes(client):
        if "<int:" in rule:
            assert status(client, method, rule, theirs) == 404, f"{name}: {method} {rule}"
        found = status(client, method, rule, own)
        assert found < 500, f"{method} {rule}"
        assert found not in (401, 403, 404), f"owner: {method} {rule}: {found}"


# The internal listener


def is_for_n8n(rule: str) -> bool:
    return rule.startswith("/api/internal/")


def test_every_route_of_the_internal_listener_has_a_rule(make_app: Any) -> None:
    for method, rule, endpoint in routes(make_app("internal")):
        assert is_for_n8n(rule) or endpoint in OPEN_TO_ALL | {METRICS}, f"{method} {rule}"


def test_without_its_token_the_internal_api_is_closed(make_app: Any, session: Session) -> None:
    client = make_app("internal").test_client()
    for headers in ({}, {"X-Internal-Token": "an internal token for test"}, bearer(session, "admin")):
        for method, rule, endpoint in routes(client.application):
            if endpoint not in OPEN_TO_ALL:
                assert status(client, method, rule, headers) == 401, f"{method} {rule} {headers}"


def test_with_its_token_it_is_open_and_no_answer_is_a_crash(internal: FlaskClient) -> None:
    for method, rule, endpoint in routes(internal.application):
        if endpoint not in OPEN_TO_ALL:
            found = status(internal, method, rule)
            assert found != 401, f"{method} {rule}"
            assert found < 500, f"{method} {rule}"


def test_a_session_counts_for_nothing_there(client: FlaskClient, make_app: Any) -> None:
    client.post("/login", data={"email": "admin@example.org", "password": PASSWORD})
    cookie = client.get_cookie("session")
    assert cookie
    door = make_app("internal").test_client()
    door.set_cookie("session", cookie.value)
    assert status(door, "GET", "/api/internal/queues") == 401


def test_the_token_of_the_metrics_opens_the_metrics_only(make_app: Any) -> None:
    client = make_app("internal", metrics_token=SecretStr("a token for metrics only")).test_client()
    headers = {"Authorization": "Bearer a token for metrics only", "X-Internal-Token": "a token for metrics only"}
    for method, rule, endpoint in routes(client.application):
        if endpoint not in OPEN_TO_ALL:
            assert status(client, method, rule, headers) == (200 if endpoint == METRICS else 401), f"{method} {rule}"


def test_no_listener_has_the_other_s_routes(make_app: Any) -> None:
    web, door = ({(method, rule) for method, rule, _ in routes(make_app(name))} for name in ("web", "internal"))
    assert {rule for _, rule in web & door} == {"/healthz", "/readyz", "/static/<path:filename>"}
