"""Webhooks on their pages and by the API."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_job, make_user
from webapp.domain.webhooks import SENTENCES
from webapp.models import User, Webhook, WebhookDelivery
from webapp.parts import Parts
from webapp.services import accounts, jobs
from webapp.services.webhooks import MOST_WEBHOOKS

HOOK = {"url": "https://example.org/hook", "events": list(SENTENCES)}


@pytest.fixture
def alice(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def page(client: FlaskClient, alice: User) -> FlaskClient:
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    return client


@pytest.fixture
def api(make_app: Any, session: Session, alice: User) -> FlaskClient:
    client = make_app().test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {accounts.create_token(session, alice, 'tests')}"
    return client


def stored(session: Session) -> Webhook:
    return session.get_one(Webhook, 1, populate_existing=True)


def test_a_secret_is_shown_once(page: FlaskClient, session: Session) -> None:
    made = page.post("/webhooks", data=HOOK)
    secret = re.search(r"whsec_[\w+/]{43}=", made.text.replace("&#43;", "+"))
    assert (made.status_code, secret is not None) == (201, True)
    assert "whsec_" not in page.get("/webhooks/1").text
    assert made.headers["Cache-Control"] == "no-store"
    assert "https://example.org/hook" in page.get("/webhooks").text
    again = page.post("/webhooks/1/secret")
    assert re.findall(r"whsec_[\w+/]{43}=", again.text.replace("&#43;", "+"))[0] != (secret and secret[0])


@pytest.mark.parametrize(("given", "said"), [
    ({"url": "http://127.0.0.1:8001/api/internal"}, "not on the internet"),
    ({"url": "http://localhost/"}, "not on the internet"), ({"url": "http://[::ffff:7f00:1]/"}, "not on the internet"),
    ({"url": "ftp://example.org"}, "starts with https://"), ({"events": []}, "Choose what it should hear of."),
    ({"events": ["job.started"]}, "There is no event job.started."),
])  # fmt: skip
def test_what_is_wrong_is_said_and_what_was_given_kept(
    page: FlaskClient, session: Session, given: dict[str, Any], said: str
) -> None:
    answer = page.post("/webhooks", data=HOOK | given)
    assert (answer.status_code, said in answer.text) == (422, True)
    assert f'value="{(HOOK | given)["url"]}"' in answer.text
    assert session.scalars(select(Webhook.id)).all() == []


def test_the_log_says_what_became_of_each_message(
    page: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    page.post("/webhooks", data=HOOK)
    jobs.cancel_job(session, make_job(session, parts, alice), actor="user:1")
    assert page.post("/webhooks/1/test").status_code == 303
    told = session.get_one(WebhookDelivery, 1)
    told.attempts, told.due_at, told.last_status, told.last_error = 7, None, 500, "It answered 500: <b>no</b>"
    session.commit()
    text = page.get("/webhooks/1").text
    assert [word in text for word in ("Given up", "On its way", "&lt;b&gt;no", 'href="/jobs/1"')] == [True] * 4
    assert page.post("/webhooks/1/deliveries/1/redeliver").status_code == 303
    session.refresh(told)
    assert (told.attempts, told.due_at is not None) == (0, True)


def test_a_disabled_webhook_says_why_and_can_be_enabled(page: FlaskClient, session: Session) -> None:
    page.post("/webhooks", data=HOOK)
    assert page.post("/webhooks/1/disable").status_code == 303
    assert "You disabled it." in page.get("/webhooks/1").text
    assert [page.post(f"/webhooks/1/{deed}").status_code for deed in ("test", "deliveries/1/redeliver")] == [409, 409]
    page.post("/webhooks/1/enable")
    assert stored(session).disabled_at is None


def test_a_webhook_is_changed_and_deleted(page: FlaskClient, session: Session) -> None:
    page.post("/webhooks", data=HOOK)
    changed = {"url": "https://example.org/other", "events": ["job.failed"]}
    assert page.post("/webhooks/1/change", data=changed).status_code == 303
    assert (stored(session).url, stored(session).event_types) == ("https://example.org/other", ["job.failed"])
    page.post("/webhooks/1/test")
    assert page.post("/webhooks/1/delete").status_code == 303
    assert [page.get("/webhooks/1").status_code, session.scalars(select(WebhookDelivery)).all()] == [404, []]


def test_there_is_an_end_to_it(page: FlaskClient) -> None:
    assert {page.post("/webhooks", data=HOOK).status_code for _ in range(MOST_WEBHOOKS)} == {201}
    refused = page.post("/webhooks", data=HOOK)
    assert (refused.status_code, "delete one" in refused.text) == (422, True)


def test_a_program_does_the_same(api: FlaskClient) -> None:
    made = api.post("/api/v1/webhooks", json={"url": HOOK["url"], "events": ["submission.finished"]})
    assert (made.status_code, made.headers["Location"]) == (201, "/api/v1/webhooks/1")
    assert made.json["secret"].startswith("whsec_")
    assert "secret" not in api.get("/api/v1/webhooks").json["webhooks"][0]
    assert api.post("/api/v1/webhooks/1/secret").json["secret"] != made.json["secret"]
    assert api.patch("/api/v1/webhooks/1", json={"isEnabled": False}).json["disabledBecause"] == "You disabled it."
    assert api.post("/api/v1/webhooks/1/test").status_code == 409
    assert api.patch("/api/v1/webhooks/1", json={"isEnabled": True, "events": ["job.failed"]}).json["isEnabled"]
    sent = api.post("/api/v1/webhooks/1/test")
    assert (sent.status_code, sent.json["event"], sent.json["target"]) == (202, "webhook.test", None)
    assert [one["id"] for one in api.get("/api/v1/webhooks/1/deliveries").json["deliveries"]] == [sent.json["id"]]
    assert api.post("/api/v1/webhooks/1/deliveries/1/redeliver").status_code == 202
    assert api.delete("/api/v1/webhooks/1").status_code == 204


def test_a_program_is_told_which_field_is_wrong(api: FlaskClient) -> None:
    refused = api.post("/api/v1/webhooks", json={"url": "http://10.0.0.1/"})
    assert (refused.status_code, list(refused.json["errors"])) == (422, ["url"])
    refused = api.post("/api/v1/webhooks", json={"url": HOOK["url"], "events": ["webhook.test"]})
    assert (refused.status_code, "/events/0" in str(refused.json["errors"])) == (422, True)
