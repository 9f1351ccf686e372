"""`/api/v1`: bearer tokens only, the same rules as the form."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_document, make_job, make_user
from tests.fakes import FakeN8n
from webapp.models import User
from webapp.parts import Parts
from webapp.services import accounts


def test_a_job_is_created_and_dispatched(api: FlaskClient, session: Session, alice: User, n8n: FakeN8n) -> None:
    inputs = {"document": make_document(session, alice).id, "executionMode": "sync"}
    answer = api.post("/api/v1/jobs", json={"profile": "pdf_summary", "inputs": inputs})
    assert (answer.status_code, answer.headers["Location"]) == (202, "/api/v1/jobs/1")
    assert (answer.json["status"], answer.json["inputs"]["bullets"]) == ("created", 8)
    assert len(n8n.runs) == 1


def test_wrong_inputs_are_named_by_field(api: FlaskClient, session: Session, alice: User) -> None:
    inputs = {"document": make_document(session, alice).id, "bullets": 99, "colour": "red"}
    answer = api.post("/api/v1/jobs", json={"profile": "pdf_summary", "inputs": inputs})
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert set(answer.json["errors"]) == {"bullets", "colour"}


@pytest.mark.parametrize("body", [[], "x", {"profile": 1}, {"profile": "pdf_summary", "inputs": [], "more": 1}])
def test_a_body_of_the_wrong_shape_is_422(api: FlaskClient, body: Any) -> None:
    assert api.post("/api/v1/jobs", json=body).status_code == 422


def test_what_is_not_json_is_refused(api: FlaskClient) -> None:
    assert api.post("/api/v1/jobs", data="{", content_type="application/json").status_code == 400
    assert api.post("/api/v1/jobs", data="profile=x").status_code == 415


def test_an_unknown_profile_is_404(api: FlaskClient) -> None:
    assert api.post("/api/v1/jobs", json={"profile": "nothing", "inputs": {}}).status_code == 404


def test_somebody_else_s_document_is_not_there(api: FlaskClient, session: Session) -> None:
    document = make_document(session, make_user(session, "bob@example.org"))
    answer = api.post("/api/v1/jobs", json={"profile": "pdf_summary", "inputs": {"document": document.id}})
    assert answer.json["errors"] == {"document": "There is no such document of yours."}


def test_somebody_else_s_job_is_not_there(api: FlaskClient, session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session, "bob@example.org"))
    assert api.get(f"/api/v1/jobs/{job.id}").status_code == 404


def test_a_waiting_job_says_why(api: FlaskClient, session: Session, alice: User, parts: Parts) -> None:
    job = make_job(session, parts, alice, executionMode="batch")
    answer = api.get(f"/api/v1/jobs/{job.id}").json
    assert answer["waiting"] == "1 of 3 jobs wait; a window opens when it is full."
    assert (answer["result"], answer["costUsd"]) == (None, None)


def test_without_a_token_nothing_is_told(client: FlaskClient, session: Session, parts: Parts, alice: User) -> None:
    make_job(session, parts, alice)
    assert client.get("/api/v1/jobs/1").status_code == 401
    assert client.get("/api/v1/jobs/1", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_session_is_no_token(client: FlaskClient, session: Session, parts: Parts, alice: User) -> None:
    client.post("/login", data={"email": alice.email, "password": PASSWORD})
    make_job(session, parts, alice)
    assert client.get("/api/v1/jobs/1").status_code == 401


def test_a_revoked_token_is_worthless(api: FlaskClient, session: Session, alice: User) -> None:
    [token] = accounts.list_tokens(session, alice)
    accounts.revoke_token(session, alice, token.id)
    assert api.get("/api/v1/jobs/1").status_code == 401


@pytest.mark.parametrize("depth", [500, 900, 100_000])
def test_json_that_nests_without_end_is_refused(api: FlaskClient, depth: int) -> None:
    body = '{"profile": "text_classification", "inputs": {"text": ' + "[" * depth + "]" * depth + "}}"
    for key in ({}, {"Idempotency-Key": "deep"}):
        answer = api.post("/api/v1/jobs", data=body, content_type="application/json", headers=key)
        assert answer.status_code in (400, 422)


def test_an_answer_names_a_hundred_faults_at_most(api: FlaskClient) -> None:
    answer = api.post("/api/v1/submissions", json={"profile": "text_classification", "jobs": [1] * 5000})
    assert (answer.status_code, len(answer.json["errors"])) == (422, 100)
