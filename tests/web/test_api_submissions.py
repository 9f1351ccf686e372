"""`/api/v1/submissions`, `/profiles` and `/usage`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.factories import make_document, make_user
from tests.statements import heard
from tests.web.test_api_jobs import GOOD, fail, finish
from webapp.models import Job, User
from webapp.parts import Parts
from webapp.services import accounts, job_lists

MANY = {"profile": "text_classification", "common": {"labels": "up, down"},
        "jobs": [{"text": "It rose."}, {"text": "It fell.", "labels": "a, b"}]}  # fmt: skip


def send_lines(api: FlaskClient, *lines: str, query: str = "profile=text_classification", **headers: str):  # type: ignore[no-untyped-def]
    body = "".join(f"{line}\n" for line in lines)
    return api.post(f"/api/v1/submissions?{query}", data=body, content_type="application/jsonl", headers=headers)


def test_many_jobs_are_one_submission(api: FlaskClient) -> None:
    answer = api.post("/api/v1/submissions", json=MANY)
    assert (answer.status_code, answer.json["jobCount"], answer.json["counts"]) == (202, 2, {"created": 2})
    assert answer.json == api.get(answer.headers["Location"]).json
    found = api.get(f"/api/v1/jobs?submission={answer.json['id']}").json["jobs"]
    inputs = [api.get(f"/api/v1/jobs/{job['id']}").json["inputs"] for job in found]
    assert [one["labels"] for one in inputs] == ["a, b", "up, down"]
    assert [one["id"] for one in api.get("/api/v1/submissions").json["submissions"]] == [answer.json["id"]]


def test_lines_make_a_submission(api: FlaskClient) -> None:
    answer = send_lines(api, *(json.dumps({"text": f"Text {n}", "executionMode": "batch"}) for n in range(700)))
    assert (answer.status_code, answer.json["jobCount"], answer.json["counts"]) == (202, 700, {"queued": 700})


def test_wrong_lines_are_named_and_nothing_is_stored(api: FlaskClient, session: Session) -> None:
    answer = send_lines(api, '{"text": "good"}', '{"text": ""}', "{", '{"text": "x", "colour": "red"}')
    assert answer.status_code == 422
    assert [(fault["line"], list(fault["errors"])) for fault in answer.json["lines"]] == [
        (2, ["text"]), (3, []), (4, ["colour"]),
    ]  # fmt: skip
    assert answer.json["lines"][1]["detail"] == "This line is not JSON."
    answer = api.post("/api/v1/submissions", json={**MANY, "jobs": [{"text": "good"}, {}]})
    assert answer.json["lines"] == [
        {"line": 2, "detail": "Some values are not right.", "errors": {"text": "This field is required."}}
    ]
    assert session.scalar(select(func.count()).select_from(Job)) == 0


@pytest.mark.parametrize(
    ("lines", "query", "status"),
    [([], "profile=text_classification", 422), (['{"text": "x"}'], "", 422), (['{"text": "x"}'], "profile=none", 404)],
)
def test_lines_that_say_too_little_are_refused(api: FlaskClient, lines: list[str], query: str, status: int) -> None:
    assert send_lines(api, *lines, query=query).status_code == status


def test_a_body_that_is_too_large_is_413(api: FlaskClient, parts: Parts) -> None:
    line = json.dumps({"text": "x" * 10_000})
    answer = send_lines(api, *[line] * (parts.settings.max_upload_mb + 1) * 110)
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")


def test_a_nested_fault_has_a_pointer(api: FlaskClient) -> None:
    answer = api.post("/api/v1/submissions", json={**MANY, "jobs": [{}, 5]})
    assert list(answer.json["errors"]) == ["/jobs/1"]


def test_results_come_as_lines_in_portions(
    api: FlaskClient, session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(job_lists, "RESULTS_AT_ONCE", 1)
    made = api.post("/api/v1/submissions", json={**MANY, "jobs": [{"text": "a"}, {"text": "b"}, {"text": "c"}]}).json
    finish(session, parts, 1, GOOD.replace("good", "up"))
    fail(session, 2)
    answer = api.get(f"/api/v1/submissions/{made['id']}/results")
    assert answer.content_type == "application/jsonl"
    first, second = map(json.loads, answer.text.splitlines())
    assert (first["id"], first["status"], first["result"]["label"]) == (1, "completed", "up")
    assert (second["status"], second["result"], second["error"]["message"]) == ("failed", None, "It broke.")
    assert (first["output"], first["files"]) == ("json", [])
    rest = api.get(f"/api/v1/submissions/{made['id']}/results?after={first['id']}").text
    assert [json.loads(line)["id"] for line in rest.splitlines()] == [second["id"]]


def test_each_result_names_its_document(api: FlaskClient, session: Session, alice: User, parts: Parts) -> None:
    document = make_document(session, alice)
    run = {"profile": "pdf_summary", "jobs": [{"document": document.id}]}
    made = api.post("/api/v1/submissions", json=run).json
    finish(session, parts, 1, "- A summary.")
    line = json.loads(api.get(f"/api/v1/submissions/{made['id']}/results").text)
    assert (line["files"], line["output"], line["result"]) == (["report.pdf"], "markdown", "- A summary.")


def test_somebody_else_s_submission_is_not_there(api: FlaskClient, session: Session) -> None:
    api.post("/api/v1/submissions", json=MANY)
    bob = make_user(session, "bob@example.org")
    header = {"Authorization": f"Bearer {accounts.create_token(session, bob, 'tests')}"}
    assert api.get("/api/v1/submissions/1", headers=header).status_code == 404
    assert api.get("/api/v1/submissions/1/results", headers=header).status_code == 404
    assert api.get("/api/v1/submissions", headers=header).json["submissions"] == []


def test_a_list_is_read_with_one_query_however_long_it_is(api: FlaskClient) -> None:
    api.post("/api/v1/submissions", json={**MANY, "jobs": [{"text": f"t{n}"} for n in range(30)]})
    with heard() as said:
        assert len(api.get("/api/v1/jobs?limit=30").json["jobs"]) == 30
    assert len([one for one in said if "FROM jobs" in one.sql]) == 1
    assert len(said) <= 4  # the clock, the token, its last use


def test_profiles_say_what_they_want_to_know(api: FlaskClient) -> None:
    found = {one["id"]: one for one in api.get("/api/v1/profiles").json["profiles"]}
    summary = found["pdf_summary"]
    assert (summary["executionModes"], summary["output"]) == (["sync", "batch"], "markdown")
    assert summary["inputs"]["properties"]["audience"]["enum"] == ["general", "expert", "executive"]
    assert (summary["inputs"]["required"], summary["documentFields"]) == (["document"], ["document"])


def test_usage_is_the_user_s_own(api: FlaskClient, session: Session, parts: Parts) -> None:
    api.post("/api/v1/submissions", json=MANY)
    finish(session, parts, 1, GOOD.replace("good", "up"))
    report = api.get("/api/v1/usage").json
    assert (report["total"]["answers"], report["total"]["inputTokens"]) == (1, 1000)
    assert float(report["total"]["costUsd"]) > 0
    assert [line["key"] for line in report["byProfile"]] == ["text_classification"]
    assert [line["key"] for line in report["byDay"]] == [datetime.now(UTC).date().isoformat()]
    assert api.get("/api/v1/usage?from=2026-01-01&to=2026-01-31").json["total"]["answers"] == 0
    bob = make_user(session, "bob@example.org")
    header = {"Authorization": f"Bearer {accounts.create_token(session, bob, 'tests')}"}
    assert api.get("/api/v1/usage", headers=header).json["total"]["answers"] == 0


@pytest.mark.parametrize(
    ("query", "field"),
    [("from=2026-02-02&to=2026-01-01", "from"), ("to=9999-12-31", "to"), ("from=soon", "from"), ("from=0", "from")],
)
def test_a_wrong_period_is_named(api: FlaskClient, query: str, field: str) -> None:
    answer = api.get(f"/api/v1/usage?{query}")
    assert (answer.status_code, list(answer.json["errors"])) == (422, [field])
