"""A run again: the form as it was filled in, and what could not be taken over. And files that come one by one."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import make_document, make_job, make_submission, make_user, sign_in
from tests.fakes import FakeProviderFiles
from webapp.config import ROOT
from webapp.domain.profiles import parse_profile
from webapp.models import Document, Job, JobDocument, User
from webapp.parts import Parts
from webapp.services import jobs
from webapp.services.clock import clock
from webapp.services.registry import Profiles


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def alice(client: FlaskClient, user: User) -> FlaskClient:
    return sign_in(client)


def classify(session: Session, parts: Parts, user: User, **values: Any) -> int:
    [job_id] = jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="text_classification",
        runs=[{"text": "A <fine> day.", "labels": "good, bad", **values}],
    )  # fmt: skip
    return job_id


def test_the_form_is_filled_in_and_its_job_names_the_one_that_it_repeats(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    job = make_job(session, parts, user, executionMode="batch", bullets=5)
    html = alice.get(f"/jobs/new?from={job.id}").text
    assert f'name="retry-of" value="{job.id}"' in html
    assert 'value="5"' in html
    assert re.search(r'value="batch" id="executionMode-1" checked', html)
    [document_id] = re.findall(r'name="document-kept" value="(\d+)" checked', html)
    assert "In a batch" in html
    answer = alice.post("/jobs/new", data={
        "profile": "pdf_summary", "executionMode": "batch", "audience": "general", "bullets": "6",
        "document-kept": document_id, "retry-of": str(job.id),
    })  # fmt: skip
    assert answer.status_code == 303
    made = session.get_one(Job, job.id + 1)
    assert (made.retry_of, made.inputs["bullets"]) == (job.id, 6)
    assert session.scalars(select(JobDocument.document_id).where(JobDocument.job_id == made.id)).all() == [
        int(document_id)
    ]


def test_text_is_filled_in_as_text(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    html = alice.get(f"/jobs/new?from={classify(session, parts, user)}").text
    assert "A &lt;fine&gt; day.</textarea>" in html
    assert 'value="good, bad"' in html


def test_a_deleted_document_and_a_moment_that_has_passed_are_named(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    job = make_job(session, parts, user)
    session.execute(update(Document).values(deleted_at=clock(session)))
    session.execute(update(Job).values(need_by=clock(session)))
    session.commit()
    html = alice.get(f"/jobs/new?from={job.id}").text
    assert "report.pdf was deleted after its time: choose it again." in html
    assert "The moment in “Needed by” has passed: choose another one." in html
    assert "document-kept" not in html


def test_what_a_newer_version_of_the_profile_does_not_have_is_named(
    make_app: Any, session: Session, parts: Parts, user: User
) -> None:
    job_id = classify(session, parts, user)
    profile = json.loads((ROOT / "profiles" / "text_classification.json").read_text())
    profile["fields"] = [field for field in profile["fields"] if field["key"] != "labels"]
    profile["request"]["body"] = {"model": "{{ model }}", "input": "{{ inputs.text }}"}
    app = make_app()
    newer = Profiles({"text_classification": parse_profile(json.dumps(profile), "x.json")})
    app.extensions["sluice"] = replace(app.extensions["sluice"], profiles=newer)
    html = sign_in(app.test_client()).get(f"/jobs/new?from={job_id}").text
    assert "This profile has no field “Labels” any more." in html
    assert "A &lt;fine&gt; day.</textarea>" in html


def test_only_ones_own_job_can_be_run_again(client: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job_id = classify(session, parts, user)
    make_user(session, "bob@example.org", role="admin")
    sign_in(client, "bob@example.org")
    for given in (job_id, "nonsense", 99999999999999999999):
        assert client.get(f"/jobs/new?from={given}").status_code == 404
    run = {"profile": "text_classification", "text": "x", "labels": "a, b", "retry-of": str(job_id)}
    assert client.post("/jobs/new", data=run).status_code == 404
    assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_a_profile_whose_file_is_gone_is_named(make_app: Any, session: Session, parts: Parts, user: User) -> None:
    job_id = classify(session, parts, user)
    app = make_app()
    left = Profiles({one.id: one for one in parts.profiles if one.id != "text_classification"})
    app.extensions["sluice"] = replace(app.extensions["sluice"], profiles=left)
    client = sign_in(app.test_client())
    answer = client.get(f"/jobs/new?from={job_id}")
    assert (answer.status_code, "which made job 1, is not there any more" in answer.text) == (404, True)
    run = {"profile": "text_classification", "retry-of": str(job_id)}
    assert [client.post(path, data=run).status_code for path in ("/jobs/new", "/jobs/estimate")] == [404, 404]


KINDS: list[dict[str, Any]] = [
    {"type": "text"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "datetime"},
    {"type": "document"}, {"type": "select", "options": ["a", "b"]}, {"type": "multiselect", "options": ["a", "b"]},
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind["type"]))
@pytest.mark.parametrize("value", ["a", "9999-12-31T23:59:59-12:00", 7, 1.5, True, ["a", "c"], {"a": 1}, 2**70])
def test_a_value_of_a_field_that_is_of_another_kind_now_breaks_nothing(
    make_app: Any, session: Session, parts: Parts, user: User, kind: dict[str, Any], value: Any
) -> None:  # fmt: skip
    job_id = classify(session, parts, user)
    session.execute(update(Job).values(inputs={"text": value}))
    session.commit()
    profile = json.loads((ROOT / "profiles" / "text_classification.json").read_text())
    profile["fields"] = [{"key": "text", "label": "It"} | kind]
    profile["request"]["body"] = {"model": "{{ model }}", "input": "x"}
    app = make_app()
    newer = Profiles({"text_classification": parse_profile(json.dumps(profile), "x.json")})
    app.extensions["sluice"] = replace(app.extensions["sluice"], profiles=newer)
    assert sign_in(app.test_client()).get(f"/jobs/new?from={job_id}").status_code == 200


@pytest.mark.parametrize("given", ["-5", "0", "x", "1e3", "99999999999999999999", "1", "\ud800"])
@pytest.mark.parametrize("path", ["/jobs/new", "/jobs/estimate"])
def test_a_form_that_repeats_nothing_is_a_form(alice: FlaskClient, given: str, path: str) -> None:
    bad = {"profile": "text_classification", "text": "", "retry-of": given.encode("utf-8", "replace").decode()}
    assert alice.post(path, data=bad).status_code in (200, 404, 422)


def send(client: FlaskClient, name: str, **values: Any) -> Any:
    data = {"profile": "pdf_summary", "field": "document", "file": (io.BytesIO((DATA / name).read_bytes()), name)}
    return client.post("/jobs/documents", data=data | values, headers={"HX-Request": "true"})


def test_a_file_that_comes_alone_is_stored_and_answered_by_its_row(alice: FlaskClient, session: Session) -> None:
    answer = send(alice, "two-pages.pdf")
    assert answer.status_code == 201
    document = session.scalars(select(Document)).one()
    assert f'name="document-kept" value="{document.id}"' in answer.text
    assert "2 pages, 2 KB" in answer.text
    assert "<html" not in answer.text


def test_a_bad_file_that_comes_alone_is_answered_by_a_row_that_says_why(alice: FlaskClient, session: Session) -> None:
    answer = send(alice, "not-a-pdf.pdf")
    assert answer.status_code == 422
    assert '<span class="file-note">This file is not a PDF.</span>' in answer.text
    assert "document-kept" not in answer.text
    assert session.scalar(select(func.count()).select_from(Document)) == 0


def test_of_several_files_each_has_its_row_in_their_order(alice: FlaskClient, session: Session) -> None:
    names = ("not-a-pdf.pdf", "two-pages.pdf", "zero-pages.pdf", "debian-history.pdf")
    answer = alice.post("/jobs/documents", data={
        "profile": "pdf_summary", "field": "document",
        "file": [(io.BytesIO((DATA / name).read_bytes()), name) for name in names],
    })  # fmt: skip
    assert answer.status_code == 201
    rows = answer.text.split("<li ")[1:]
    assert [(name in row, "is-bad" in row) for name, row in zip(names, rows, strict=True)] == [
        (True, True), (True, False), (True, True), (True, False),
    ]  # fmt: skip
    stored = {document.filename: document.id for document in session.scalars(select(Document))}
    assert f'value="{stored["two-pages.pdf"]}"' in rows[1]
    assert f'value="{stored["debian-history.pdf"]}"' in rows[3]


def test_a_provider_that_takes_no_file_is_said_in_each_row(
    alice: FlaskClient, session: Session, files: FakeProviderFiles
) -> None:
    files.is_down = True
    answer = send(alice, "two-pages.pdf", **{"document-as-file": "y"})
    assert answer.status_code == 422
    assert "The provider did not take the document" in answer.text
    assert session.scalar(select(func.count()).select_from(Document)) == 0


def test_the_box_that_sends_the_file_itself_counts_for_one_file_too(
    alice: FlaskClient, session: Session
) -> None:  # fmt: skip
    assert send(alice, "no-text-layer.pdf").status_code == 422
    assert send(alice, "no-text-layer.pdf", **{"document-as-file": "y"}).status_code == 201
    assert session.scalars(select(Document.provider_file_id)).one()


def test_a_file_for_no_field_is_refused(alice: FlaskClient, session: Session) -> None:
    assert send(alice, "two-pages.pdf", field="audience").status_code == 404
    assert alice.post("/jobs/documents", data={"profile": "pdf_summary", "field": "document"}).status_code == 404
    make_document(session, session.get_one(User, 1))
    assert session.scalar(select(func.count()).select_from(Document)) == 1


def test_a_job_page_leads_to_the_filled_form_and_to_its_submission(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    made = make_submission(session, parts, user)
    job_id = session.scalars(select(Job.id).order_by(Job.id).limit(1)).one()
    page = alice.get(f"/jobs/{job_id}").get_data(as_text=True)
    assert f'href="/jobs/new?from={job_id}"' in page
    assert f'href="/submissions/{made.id}"' in page
