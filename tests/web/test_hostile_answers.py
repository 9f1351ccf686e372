"""Answers that can be read but not written, or that nest without end: pages, exports and API show them all the same."""

from __future__ import annotations

import json

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_submission
from tests.web.test_api_jobs import finish
from webapp.models import Job, User
from webapp.parts import Parts

HALF = r'{"label": "good", "confidence": 0.9, "reason": "half a pair: \ud800, nothing: \u0000"}'
DEEP = '{"label": "good", "confidence": 0.9, "reason": ' + "[" * 950 + "]" * 950 + "}"


@pytest.fixture(params=[HALF, DEEP, "\ud800", '{"label": "\ud800", "confidence": 1, "reason": "x"}'])
def job(api: FlaskClient, session: Session, parts: Parts, alice: User, request: pytest.FixtureRequest) -> Job:
    made = make_submission(session, parts, alice, 1)
    job = session.scalars(select(Job).where(Job.submission_id == made.id)).one()
    finish(session, parts, job.id, request.param)
    api.post("/login", data={"email": alice.email, "password": PASSWORD})
    return job


@pytest.mark.parametrize(
    "address",
    ["/jobs/{0}", "/jobs/{0}/status", "/jobs", "/submissions/{1}", "/submissions/{1}/results.csv",
     "/submissions/{1}/results.jsonl", "/api/v1/jobs/{0}", "/api/v1/submissions/{1}/results"],
)  # fmt: skip
def test_a_hostile_answer_can_be_looked_at_everywhere(api: FlaskClient, job: Job, address: str) -> None:
    with api.get(address.format(job.id, job.submission_id)) as answer:
        assert answer.status_code == 200
        assert answer.get_data().decode("utf-8")


def test_its_line_of_results_is_json(api: FlaskClient, job: Job) -> None:
    lines = api.get(f"/api/v1/submissions/{job.submission_id}/results").text.splitlines()
    [outcome] = [json.loads(line) for line in lines]
    assert bool(outcome["result"]) is not bool(outcome["error"])
    assert "\ud800" not in json.dumps(outcome, ensure_ascii=False)
