"""`Idempotency-Key`: asked twice, or by twenty at once, made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.factories import make_user
from tests.fakes import FakeN8n
from webapp.models import Budget, IdempotencyKey, Job, JobRequest, Submission, User
from webapp.parts import Parts
from webapp.services import accounts, retention
from webapp.services.clock import move_clock

RUN = {"profile": "text_classification", "inputs": {"text": "All went well."}}
MANY = {"profile": "text_classification", "jobs": [{"text": "a"}, {"text": "b"}]}
SEVERAL = 20


@pytest.fixture
def header(session: Session, alice: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {accounts.create_token(session, alice, 'tests')}", "Idempotency-Key": "key 1"}


def count(session: Session, table: type) -> int:
    session.rollback()
    return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_same_request_makes_one_job(
    client: FlaskClient, session: Session, header: dict[str, str], n8n: FakeN8n
) -> None:
    first = client.post("/api/v1/jobs", json=RUN, headers=header)
    second = client.post("/api/v1/jobs", json=dict(reversed(RUN.items())), headers=header)
    assert "Idempotency-Replayed" not in first.headers
    assert (second.status_code, second.headers["Idempotency-Replayed"]) == (202, "true")
    assert (second.json, second.headers["Location"]) == (first.json, first.headers["Location"])
    assert (count(session, Job), len(n8n.runs)) == (1, 1)


@pytest.mark.parametrize(
    ("address", "body"),
    [("/api/v1/jobs", {**RUN, "inputs": {"text": "Other."}}), ("/api/v1/submissions", MANY),
     ("/api/v1/jobs/1/retry", {})],
)  # fmt: skip
def test_another_request_with_the_key_is_refused(
    client: FlaskClient, session: Session, header: dict[str, str], address: str, body: dict[str, Any]
) -> None:
    client.post("/api/v1/jobs", json=RUN, headers=header)
    answer = client.post(address, json=body, headers=header)
    assert (answer.status_code, answer.json["code"]) == (409, "reused_key")
    assert count(session, Job) == 1


def test_a_refused_request_leaves_the_key_free(client: FlaskClient, session: Session, header: dict[str, str]) -> None:
    wrong = {**RUN, "inputs": {}}
    assert client.post("/api/v1/jobs", json=wrong, headers=header).status_code == 422
    assert count(session, IdempotencyKey) == 0
    assert client.post("/api/v1/jobs", json=RUN, headers=header).status_code == 202


def test_a_key_is_its_user_s_own(client: FlaskClient, session: Session, header: dict[str, str]) -> None:
    client.post("/api/v1/jobs", json=RUN, headers=header)
    bob = accounts.create_token(session, make_user(session, "bob@example.org"), "tests")
    answer = client.post("/api/v1/jobs", json=RUN, headers={**header, "Authorization": f"Bearer {bob}"})
    assert (answer.status_code, "Idempotency-Replayed" in answer.headers) == (202, False)


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "sch\u00f6n"])
def test_a_key_that_is_none_is_named(client: FlaskClient, header: dict[str, str], key: str) -> None:
    answer = client.post("/api/v1/jobs", json=RUN, headers={**header, "Idempotency-Key": key})
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["Idempotency-Key"])


def test_a_key_counts_for_a_day(client: FlaskClient, session: Session, header: dict[str, str], parts: Parts) -> None:
    client.post("/api/v1/jobs", json=RUN, headers=header)
    move_clock(session, ahead=timedelta(hours=23, minutes=59))
    retention.delete_due(session, parts.settings, parts.storage, parts.files)
    assert client.post("/api/v1/jobs", json=RUN, headers=header).headers["Idempotency-Replayed"] == "true"
    move_clock(session, ahead=timedelta(hours=24, minutes=1))
    again = client.post("/api/v1/jobs", json=RUN, headers=header)
    assert (again.status_code, "Idempotency-Replayed" in again.headers) == (202, False)
    move_clock(session, ahead=timedelta(hours=49))
    retention.delete_due(session, parts.settings, parts.storage, parts.files)
    assert (count(session, IdempotencyKey), count(session, Job)) == (0, 2)


@pytest.mark.parametrize(("address", "body", "jobs"), [("/api/v1/jobs", RUN, 1), ("/api/v1/submissions", MANY, 2)])
def test_twenty_at_once_make_it_once(
    make_app: Any, session: Session, header: dict[str, str], address: str, body: dict[str, Any], jobs: int
) -> None:
    answers = _all_at_once(make_app, header, address, body)
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == SEVERAL - 1
    assert (count(session, Job), count(session, IdempotencyKey)) == (jobs, 1)
    assert count(session, Submission) == jobs - 1


def test_twenty_at_once_fit_into_a_budget_for_one(
    make_app: Any, session: Session, alice: User, header: dict[str, str], client: FlaskClient
) -> None:
    client.post("/api/v1/jobs", json=RUN, headers={**header, "Idempotency-Key": "before"})
    ceiling = session.scalars(select(JobRequest.ceiling)).one()
    session.add(Budget(user_id=alice.id, monthly_amount=(ceiling or 0) * Decimal("2.5")))
    session.commit()
    answers = _all_at_once(make_app, header, "/api/v1/jobs", RUN)
    assert {answer.status_code for answer in answers} == {202}
    assert count(session, Job) == 2


def _all_at_once(make_app: Any, header: dict[str, str], address: str, body: dict[str, Any]) -> list[Any]:
    app, ready = make_app(database_pool_size=SEVERAL), Barrier(SEVERAL)

    def ask(_: int) -> Any:
        ready.wait(20)
        return app.test_client().post(address, json=body, headers=header)

    with ThreadPoolExecutor(SEVERAL) as pool:
        return list(pool.map(ask, range(SEVERAL)))
