"""`/healthz` and `/readyz`."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy.orm import Session

from tests.fakes import FakeN8n
from webapp.parts import Parts
from webapp.services import heartbeat


def test_healthz_needs_nothing(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "ok"}


def test_readyz_names_what_is_missing(client: FlaskClient, tables: Any, n8n: FakeN8n) -> None:
    n8n.is_down = True
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"] == {
        "database": "ok", "migrations": "ok", "heartbeat": "has never beaten", "n8n": "no answer",
        "documents": "ok",
    }  # fmt: skip


def test_readyz_is_ok_while_the_heartbeat_beats(client: FlaskClient, session: Session, parts: Parts) -> None:
    heartbeat.tick(session, parts, heartbeat.Beat())
    assert client.get("/readyz").json["status"] == "ok"


NOWHERE = SecretStr("postgresql+psycopg://x@/x?host=/nowhere")


def test_readyz_without_a_database_answers_503(make_app: Any) -> None:
    answer = make_app(database_url=NOWHERE).test_client().get("/readyz")
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "no answer")


def test_pages_without_a_database_say_so(make_app: Any) -> None:
    answer = make_app(database_url=NOWHERE).test_client().post("/login", data={"email": "a@b.co", "password": "x"})
    assert answer.status_code == 503
    assert "The database does not answer." in answer.text
