"""The pages, through the client: what a person can do, and what a stranger cannot."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import (
    PASSWORD,
    end_batch,
    items_of,
    make_job,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    output_line,
    response,
)
from tests.fakes import FakeN8n, FakeProviderFiles
from webapp.domain.answers import read_answer
from webapp.domain.profiles import load_profiles
from webapp.gateways.pdf import PdfReader
from webapp.models import Document, Job, JobRequest, Submission, User
from webapp.parts import Parts
from webapp.services import batch_ingest
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer
from webapp.services.registry import Profiles


def log_in(client: FlaskClient, email: str = "alice@example.org") -> None:
    assert client.post("/login", data={"email": email, "password": PASSWORD}).status_code == 303


def pdf(name: str = "two-pages.pdf") -> tuple[io.BytesIO, str]:
    return io.BytesIO((DATA / name).read_bytes()), name


def submit(client: FlaskClient, *names: str, **values: Any) -> Any:
    data = {"profile": "pdf_summary", "executionMode": "sync", "audience": "general", "bullets": "8", **values}
    return client.post("/jobs/new", data=data | {"document": [pdf(name) for name in names]})


def send_megabytes(client: FlaskClient, count: int) -> Any:
    """A run with one PDF a little larger than so many MiB."""
    part = "--b\r\nContent-Disposition: form-data; name="
    head = f'{part}"profile"\r\n\r\npdf_summary\r\n{part}"document"; filename="big.pdf"\r\n\r\n%PDF-1.7'
    body = head.encode() + b"x" * count * 2**20 + b"\r\n--b--\r\n"
    return client.post("/jobs/new", data=body, content_type="multipart/form-data; boundary=b")


@pytest.fixture
def alice(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session)
    log_in(client)
    return client


def test_register_signs_in_and_leads_to_the_first_run(client: FlaskClient, tables: Any) -> None:
    answer = client.post("/register", data={"email": "new@example.org", "password": PASSWORD})
    assert (answer.status_code, answer.location) == (303, "/jobs/new")
    assert client.get("/jobs/new").status_code == 200


def test_register_says_what_is_wrong_on_the_field(client: FlaskClient, tables: Any) -> None:
    answer = client.post("/register", data={"email": "nobody", "password": "short"})
    assert answer.status_code == 422
    assert "This is not an e-mail address." in answer.text
    assert "Use 10 to 200 characters." in answer.text


def test_closed_registration_is_not_there(make_app: Any) -> None:
    assert make_app(registration="closed").test_client().get("/register").status_code == 404


def test_wrong_password_and_unknown_address_look_the_same(client: FlaskClient, session: Session) -> None:
    make_user(session)
    wrong = client.post("/login", data={"email": "alice@example.org", "password": "x" * 12})
    unknown = client.post("/login", data={"email": "bob@example.org", "password": "x" * 12})
    assert wrong.status_code == unknown.status_code == 422
    assert "do not fit together" in wrong.text
    assert "do not fit together" in unknown.text


def test_login_returns_to_a_page_of_this_site_only(client: FlaskClient, session: Session) -> None:
    make_user(session)
    data = {"email": "alice@example.org", "password": PASSWORD}
    assert client.post("/login", data=data | {"next": "/jobs/7"}).location == "/jobs/7"
    assert client.post("/login", data=data | {"next": "https://evil.example/"}).location == "/jobs"
    assert client.post("/login", data=data | {"next": "//evil.example/"}).location == "/jobs"


def test_the_form_is_drawn_from_the_profile(alice: FlaskClient) -> None:
    page = alice.get("/jobs/new").text
    assert 'name="executionMode"' in page
    assert 'accept="application/pdf"' in page
    assert 'max="15"' in page


def test_a_sync_run_is_stored_and_handed_to_n8n(alice: FlaskClient, session: Session, n8n: FakeN8n) -> None:
    answer = submit(alice, "two-pages.pdf")
    assert (answer.status_code, answer.location) == (303, "/jobs/1")
    assert [payload["jobId"] for _, payload in n8n.runs] == [1]
    assert "It was handed to n8n" in alice.get("/jobs/1").text


def test_several_files_make_a_job_each(alice: FlaskClient, session: Session) -> None:
    answer = submit(alice, "two-pages.pdf", "debian-history.pdf", executionMode="batch")
    assert (answer.status_code, answer.location) == (303, "/submissions/1")
    assert session.scalars(select(Submission.name)).all() == ["2 documents"]
    assert session.scalar(select(func.count()).select_from(Job)) == 2
    assert "2 of 3 jobs wait; a window opens when it is full." in alice.get("/jobs/1").text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not-a-pdf.pdf", "This file is not a PDF."),
        ("encrypted.pdf", "This PDF is encrypted."),
        ("zero-pages.pdf", "This PDF has no pages."),
        ("damaged.pdf", "This PDF is damaged"),
        ("no-text-layer.pdf", "This PDF has no text layer"),
        ("compression-bomb.pdf", "memory or time"),
    ],
)
def test_a_bad_document_is_refused_on_its_field_and_the_others_are_kept(
    alice: FlaskClient, session: Session, name: str, message: str
) -> None:
    answer = submit(alice, "two-pages.pdf", name)
    assert answer.status_code == 422
    assert f"{name}: " in answer.text
    assert message in answer.text
    assert session.scalar(select(func.count()).select_from(Job)) == 0
    assert session.scalars(select(Document.filename)).all() == ["two-pages.pdf"]
    assert 'name="document-kept" value="1" checked' in answer.text  # the good one need not be sent again


def test_a_scan_may_be_sent_as_the_file_itself(alice: FlaskClient, session: Session, files: FakeProviderFiles) -> None:
    assert "You can send the file itself" in submit(alice, "no-text-layer.pdf").text
    assert submit(alice, "no-text-layer.pdf", **{"document-as-file": "y"}).status_code == 303
    body = json.loads(session.scalars(select(JobRequest.body)).one())
    assert body["input"] == [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]
    assert files.contents["file-1"].startswith(b"%PDF-")


def test_a_provider_that_does_not_take_the_file_is_said_on_the_field(
    alice: FlaskClient, session: Session, files: FakeProviderFiles
) -> None:
    files.is_down = True
    answer = submit(alice, "no-text-layer.pdf", **{"document-as-file": "y"})
    assert answer.status_code == 422
    assert "The provider did not take the document" in answer.text
    assert session.scalar(select(func.count()).select_from(Document)) == 0


def test_a_slow_pdf_is_given_up(alice: FlaskClient, make_app: Any) -> None:
    app = make_app()
    app.extensions["sluice"] = replace(app.extensions["sluice"], pdf=PdfReader(500, 512, 1))
    client = app.test_client()
    log_in(client)
    assert "too much memory or time" in submit(client, "many-slow-pages.pdf").text


def test_a_classification_asks_for_two_labels(alice: FlaskClient, session: Session) -> None:
    run = {"profile": "text_classification", "text": "A fine day.", "labels": "sunny"}
    answer = alice.post("/jobs/new", data=run)
    assert answer.status_code == 422
    assert "At least two labels, separated by commas." in answer.text
    assert alice.post("/jobs/new", data=run | {"labels": "sunny, rainy ,sunny"}).status_code == 303
    body = json.loads(session.scalars(select(JobRequest.body)).one())
    assert body["text"]["format"]["schema"]["properties"]["label"]["enum"] == ["sunny", "rainy"]


def test_a_planned_profile_can_be_seen_but_not_run(make_app: Any, session: Session, tmp_path: Path) -> None:
    planned = {"id": "later", "name": "Later", "status": "planned", "fields": [],
               "request": {"endpoint": "/v1/responses", "body": {}}}  # fmt: skip
    (tmp_path / "later.json").write_text(json.dumps(planned))
    app = make_app()
    app.extensions["sluice"] = replace(app.extensions["sluice"], profiles=Profiles(load_profiles(tmp_path)))
    make_user(session)
    client = app.test_client()
    log_in(client)
    assert "This profile is planned" in client.get("/jobs/new?profile=later").text
    answer = client.post("/jobs/new", data={"profile": "later"})
    assert (answer.status_code, "is planned" in answer.text) == (409, True)
    assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_a_document_over_the_limit_is_refused(make_app: Any, session: Session) -> None:
    make_user(session)
    client = make_app(max_upload_mb=1).test_client()
    log_in(client)
    answer = send_megabytes(client, 1)
    assert answer.status_code == 422
    assert "larger than the 1 MB" in answer.text


def test_a_body_over_the_limit_is_refused_as_a_whole(make_app: Any, session: Session) -> None:
    make_user(session)
    client = make_app(max_upload_mb=1).test_client()
    log_in(client)
    answer = send_megabytes(client, 3)
    assert answer.status_code == 413
    assert "At most 1 MB can be sent at once. Nothing was stored." in answer.text


def test_values_outside_the_options_are_refused_on_their_fields(alice: FlaskClient, session: Session) -> None:
    answer = submit(alice, "two-pages.pdf", audience="martians", bullets="99")
    assert answer.status_code == 422
    assert "Must be one of: general, expert, executive." in answer.text
    assert "less than or equal to 15" in answer.text
    assert session.scalar(select(func.count()).select_from(Document)) == 0


def test_an_unknown_profile_is_not_found(alice: FlaskClient) -> None:
    assert alice.get("/jobs/new?profile=nothing").status_code == 404
    assert alice.post("/jobs/new", data={"profile": "nothing"}).status_code == 404


def test_a_missing_document_is_asked_for(alice: FlaskClient) -> None:
    answer = submit(alice)
    assert answer.status_code == 422
    assert "This field is required." in answer.text


def test_the_result_is_shown_as_safe_markdown_with_its_cost(alice: FlaskClient, session: Session, parts: Parts) -> None:
    submit(alice, "two-pages.pdf")
    start_attempt(session, parts.settings, job_id=1, attempt=1, execution_id="e1")
    text = "- **Bold** <script>alert(1)</script> ![x](http://evil.example/x.png) [a](javascript:alert(1))"
    record_answer(
        session, parts.settings, parts.prices, job_id=1, attempt=1, execution_id="e1",
        answer=read_answer(200, response(text)), raw={}, elapsed_ms=5,
    )  # fmt: skip
    page = alice.get("/jobs/1").text
    assert "<strong>Bold</strong>" in page
    assert "<script>alert" not in page
    assert "<img" not in page
    assert 'href="javascript:' not in page
    assert "$0.000200" in page


def test_json_that_cannot_be_shown_prettily_is_shown_all_the_same(
    alice: FlaskClient, session: Session, parts: Parts
) -> None:
    alice.post("/jobs/new", data={"profile": "text_classification", "text": "Fine.", "labels": "a,b"})
    start_attempt(session, parts.settings, job_id=1, attempt=1, execution_id="e1")
    said = '{"label": "a", "confidence": 1, "reason": "\\ud800 <b>"}'
    record_answer(
        session, parts.settings, parts.prices, job_id=1, attempt=1, execution_id="e1",
        answer=read_answer(200, response(said)), raw={}, elapsed_ms=5,
    )  # fmt: skip
    page = alice.get("/jobs/1")
    assert page.status_code == 200
    assert "&lt;b&gt;" in page.text


@pytest.mark.parametrize(
    "path", ["/jobs/99999999999999999999", "/jobs?before=99999999999999999999", "/login?next=/%09/%5B"]
)
def test_impossible_numbers_and_addresses_are_no_crash(alice: FlaskClient, path: str) -> None:
    assert alice.get(path).status_code in (200, 404)


@pytest.mark.parametrize("email", ["a\x00@b.co", "a@b\x00.co"])
def test_control_characters_in_an_address_are_refused(client: FlaskClient, tables: Any, email: str) -> None:
    assert client.post("/register", data={"email": email, "password": PASSWORD}).status_code == 422
    assert client.post("/login", data={"email": email, "password": PASSWORD}).status_code == 422


def test_a_next_that_is_no_address_is_ignored(client: FlaskClient, session: Session) -> None:
    make_user(session)
    data = {"email": "alice@example.org", "password": PASSWORD, "next": "/\t/["}
    assert client.post("/login", data=data).location == "/jobs"


def test_only_a_running_job_polls(alice: FlaskClient, session: Session) -> None:
    submit(alice, "two-pages.pdf")
    assert "hx-trigger" in alice.get("/jobs/1/status").text
    alice.post("/jobs/1/cancel")
    assert "hx-trigger" not in alice.get("/jobs/1/status").text


def test_a_file_name_cannot_write_html(alice: FlaskClient) -> None:
    data = {"profile": "pdf_summary", "document": (pdf()[0], "<img src=x onerror=alert(1)>.pdf")}
    alice.post("/jobs/new", data=data)
    assert "<img src=x" not in alice.get("/jobs/1").text


def test_a_poll_whose_session_is_gone_leads_the_page_to_the_login(client: FlaskClient, tables: Any) -> None:
    answer = client.get("/jobs/1/status", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")


def test_strangers_find_nothing(client: FlaskClient, session: Session, parts: Parts) -> None:
    job = make_job(session, parts, make_user(session))
    make_user(session, "bob@example.org")
    log_in(client, "bob@example.org")
    assert client.get(f"/jobs/{job.id}").status_code == 404
    assert client.get(f"/jobs/{job.id}/status").status_code == 404
    assert client.post(f"/jobs/{job.id}/cancel").status_code == 404
    assert client.get("/admin").status_code == 404


def test_the_admin_page_shows_all_jobs_queues_and_windows(client: FlaskClient, session: Session, parts: Parts) -> None:
    user = make_user(session)
    window = make_window(session, parts, user)
    make_user(session, "admin@example.org", role="admin")
    log_in(client, "admin@example.org")
    page = client.get("/admin").text
    assert f"Window {window.id}" in page
    assert "alice@example.org" in page
    assert "w1-j1-a1" in client.get(f"/admin/windows/{window.id}").text


def test_security_headers_are_on_every_page(client: FlaskClient, tables: Any) -> None:
    headers = client.get("/login").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_csrf_is_asked_for_on_forms(make_app: Any) -> None:
    app = make_app()
    app.config["WTF_CSRF_ENABLED"] = True
    answer = app.test_client().post("/login", data={"email": "a@b.co", "password": PASSWORD})
    assert answer.status_code == 419


def sign_in_admin(client: FlaskClient, session: Session) -> None:
    make_user(session, "admin@example.org", role="admin")
    log_in(client, "admin@example.org")


def test_an_administrator_holds_and_resumes_a_queue(client: FlaskClient, session: Session, parts: Parts) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, make_user(session), 2)
    sign_in_admin(client, session)
    page = client.post(f"/admin/queues/{queue_id}/hold", data={"reason": "an incident"}, follow_redirects=True).text
    assert "an administrator holds this queue" in page
    assert "Hold queue: an incident" in page
    assert "an administrator holds this queue" in client.get("/admin").text
    assert "an administrator holds this queue" in client.get(f"/jobs/{job_ids[0]}").text
    page = client.post(f"/admin/queues/{queue_id}/resume", data={"reason": "over"}, follow_redirects=True).text
    assert "2 of 3 jobs wait; a window opens when it is full." in page
    audit = client.get("/admin/audit").text.partition("<tbody>")[2]
    assert audit.index("Resume queue") < audit.index("Hold queue")


def test_an_administrator_flushes_a_queue_and_cancels_its_window(
    client: FlaskClient, session: Session, parts: Parts
) -> None:
    queue_id, _ = make_queued_jobs(session, parts, make_user(session), 2)
    sign_in_admin(client, session)
    page = client.post(f"/admin/queues/{queue_id}/flush", data={"reason": "now"}, follow_redirects=True).text
    assert "Window 1 was opened with 2 jobs." in page
    assert "Window 1 is being handed to the provider." in client.get("/admin/windows/1").text
    form = {"reason": "wrong labels", "jobs": "cancel"}
    page = client.post("/admin/windows/1/cancel", data=form, follow_redirects=True).text
    assert "its jobs are cancelled with it" in page
    assert 'data-status="cancelled"' in page


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"jobs": "back"}, "Say why"),
        ({"reason": "because"}, "Say what becomes of its jobs"),
        ({"reason": "because", "jobs": "explode"}, "Say what becomes of its jobs"),
    ],
)
def test_a_deed_that_is_not_clear_is_not_done(
    client: FlaskClient, session: Session, parts: Parts, form: dict[str, str], words: str
) -> None:
    make_window(session, parts, make_user(session))
    sign_in_admin(client, session)
    page = client.post("/admin/windows/1/cancel", data=form, follow_redirects=True).text
    assert words in page
    assert 'data-status="open"' in page


def test_an_administrator_repeats_a_cancelled_job(alice: FlaskClient, session: Session, parts: Parts) -> None:
    job = make_job(session, parts, session.scalars(select(User)).one())
    alice.post(f"/jobs/{job.id}/cancel")
    assert "Repeat it" not in alice.get(f"/jobs/{job.id}").text
    alice.post("/logout")
    sign_in_admin(alice, session)
    page = alice.post(f"/admin/jobs/{job.id}/retry", data={"reason": "by mistake"}, follow_redirects=True).text
    assert f"Job {job.id + 1} repeats this one." in page
    assert f'It repeats <a href="/jobs/{job.id}">' in alice.get(f"/jobs/{job.id + 1}").text


def test_an_administrator_hears_how_many_jobs_of_a_window_could_not_be_repeated(
    client: FlaskClient, session: Session, parts: Parts
) -> None:
    window = make_submitted_window(session, parts, make_user(session))
    lines = [output_line(item, {"error": {"message": "bad"}}, 400) for item in items_of(session, window)]
    lease = end_batch(session, parts, window, "completed", error_lines=lines)
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )  # fmt: skip
    session.execute(update(JobRequest).where(JobRequest.job_id == 1).values(body=None))
    session.commit()
    sign_in_admin(client, session)
    page = client.post("/admin/windows/1/retry", data={"reason": "it was down"}, follow_redirects=True).text
    assert "2 new jobs repeat what failed. 1 could not be repeated: The request of job 1 was deleted" in page


def test_a_deadline_is_asked_for_on_its_field(alice: FlaskClient, session: Session) -> None:
    values = {"profile": "text_classification", "text": "Fine.", "executionMode": "batch", "batchStrategy": "deadline"}
    soon = datetime.now(UTC) + timedelta(days=3)
    page = alice.post("/jobs/new", data=values)
    assert page.status_code == 422
    assert "needs to know by when" in page.text
    made = alice.post("/jobs/new", data=values | {"needBy": f"{soon:%Y-%m-%dT%H:%M}"}, follow_redirects=True).text
    assert "Needed by" in made
    assert f"It is needed by {soon:%d %b %H:%M}" in made
