"""`/healthz` and `/readyz`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.fakes import FakeN8n
from webapp.extensions import migrate
from webapp.gateways.storage import LocalStorage, not_done
from webapp.parts import Parts
from webapp.services import heartbeat, reporting


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


@pytest.mark.parametrize(
    ("revision", "says"), [("0003", "run `flask db upgrade`"), ("of a newer version", "ok")], ids=["older", "newer"]
)
def test_readyz_serves_on_newer_tables_and_not_on_older_ones(
    make_app: Any, session: Session, parts: Parts, revision: str, says: str
) -> None:
    session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})  # not committed
    make_app()
    checks = reporting.readiness_checks(lambda: session, migrate.directory, parts.n8n, parts.storage)
    assert checks["migrations"] == says


def test_readyz_says_what_to_do_before_there_are_tables(make_app: Any, session: Session, parts: Parts) -> None:
    make_app()
    session.execute(text("ALTER TABLE alembic_version RENAME TO gone"))  # not committed: check_migrations rolls back
    checks = reporting.readiness_checks(lambda: session, migrate.directory, parts.n8n, parts.storage)
    assert (checks["database"], checks["migrations"]) == ("ok", "run `flask db upgrade`")
    assert reporting.check_migrations(session, migrate.directory) == "ok"


class CountedStorage(LocalStorage):
    asked = 0
    is_down = False

    def check(self) -> None:
        self.asked += 1
        if self.is_down:
            raise not_done("be reached", "ServerBusy")


def test_readyz_asks_the_document_store_at_most_every_ten_seconds(
    make_app: Any, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, storage, now = make_app(), CountedStorage(tmp_path), 1_000.0
    app.extensions["sluice"] = replace(parts, storage=storage)
    monkeypatch.setattr(reporting, "time", SimpleNamespace(monotonic=lambda: now))
    client = app.test_client()
    for _ in range(3):
        assert client.get("/readyz").json["checks"]["documents"] == "ok"
    assert storage.asked == 1
    storage.is_down, now = True, now + 10
    for _ in range(3):
        assert "ServerBusy" in client.get("/readyz").json["checks"]["documents"]
    assert storage.asked == 2


NOWHERE = SecretStr("postgresql+psycopg://x@/x?host=/nowhere")


def test_readyz_without_a_database_answers_503(make_app: Any) -> None:
    answer = make_app(database_url=NOWHERE).test_client().get("/readyz")
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "no answer")


def test_pages_without_a_database_say_so(make_app: Any) -> None:
    answer = make_app(database_url=NOWHERE).test_client().post("/login", data={"email": "a@b.co", "password": "x"})
    assert answer.status_code == 503
    assert "The database does not answer." in answer.text
