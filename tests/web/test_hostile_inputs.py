"""Inputs that no row can hold, by each of the ways in which inputs come: refused in words, and nothing is stored."""

from __future__ import annotations

import io

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.factories import PASSWORD
from webapp.models import Job, Submission, User

INPUTS = [
    r'{"text": "\ud800"}', r'{"text": "a\u0000b"}', r'{"text": ["\udfff"]}', r'{"\ud800": "x", "text": "y"}',
    '{"text": NaN}', '{"text": ' + "9" * 5000 + "}", '{"text": ' + "[" * 5000 + "]" * 5000 + "}",
    '{"text": "x", "labels": {"a": 1}}', '{"text": "x", "executionMode": "\\ud800"}', '{"text": true}',
    '{"text": "x", "needBy": 1e400}', '{"text": "x", "executionMode": "batch", "batchStrategy": "deadline", '
    '"needBy": "0001-01-01T00:00:00+14:00"}',
]  # fmt: skip
PROFILE = '"profile": "text_classification"'


@pytest.fixture(params=INPUTS, ids=range(len(INPUTS)))
def inputs(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(session: Session) -> list[int | None]:
    return [session.scalar(select(func.count()).select_from(model)) for model in (Job, Submission)]


def test_a_program_s_inputs(api: FlaskClient, session: Session, inputs: str) -> None:
    ways = ("jobs", f'"inputs": {inputs}'), ("submissions", f'"jobs": [{inputs}]'), (
        "submissions", f'"common": {inputs}, "jobs": [{{}}]'
    )  # fmt: skip
    for path, said in ways:
        body = f"{{{PROFILE}, {said}}}"
        answer = api.post(f"/api/v1/{path}", data=body, content_type="application/json")
        assert answer.status_code in (400, 422), body[:100]
        assert answer.json["detail"]
    assert made(session) == [0, 0]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_file_of_rows(api: FlaskClient, alice: User, session: Session, inputs: str, name: str) -> None:
    api.post("/login", data={"email": alice.email, "password": PASSWORD})
    for path, status in (("/jobs/estimate", 200), ("/jobs/new", 422)):
        form = {"profile": "text_classification", "for-rows": "1", "rows-file": (io.BytesIO(inputs.encode()), name)}
        assert api.post(path, data=form).status_code == status
    assert made(session) == [0, 0]


def test_lines(api: FlaskClient, session: Session, inputs: str) -> None:
    answer = api.post(
        "/api/v1/submissions?profile=text_classification", data=inputs.encode() + b"\n",
        content_type="application/jsonl",
    )  # fmt: skip
    assert (answer.status_code, len(answer.json["lines"])) == (422, 1)
    assert made(session) == [0, 0]


@pytest.mark.parametrize("key", ["profile", "name"])
def test_a_name_that_is_no_text(api: FlaskClient, session: Session, key: str) -> None:
    for value in (r'"\ud800"', r'"a\u0000"', '"' + "x" * 300 + '"', "5", "null"):
        body = f'{{{PROFILE}, "jobs": [{{"text": "x"}}], "{key}": {value}}}'
        answer = api.post("/api/v1/submissions", data=body, content_type="application/json")
        assert answer.status_code in (404, 422), value
    assert made(session) == [0, 0]
