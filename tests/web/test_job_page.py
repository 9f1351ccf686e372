"""The page of one job: its result, whatever the model wrote."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from tests.factories import items_of, make_job, make_submitted_window, make_user, make_window, response, sign_in
from webapp.domain.answers import read_answer
from webapp.models import AuditEvent, Document, Job, JobResult, User
from webapp.parts import Parts
from webapp.services import jobs, lifecycle
from webapp.services.clock import clock
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer
from webapp.services.registry import Profiles

BLOCK = "Some **bold** words and `code` with a [link](https://example.org/x).\n\n"


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def alice(client: FlaskClient, user: User) -> FlaskClient:
    return sign_in(client)


def classify(session: Session, parts: Parts, user: User, **values: Any) -> Job:
    """A job whose answer is JSON."""
    [job_id] = jobs.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="text_classification",
        runs=[{"text": "A <fine> day.", "labels": "good, bad", **values}],
    )  # fmt: skip
    return session.get_one(Job, job_id)


def answer(session: Session, parts: Parts, job: Job, text: str, **more: Any) -> None:
    """The provider answers this job."""
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e1")
    record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=1, execution_id="e1",
        answer=read_answer(200, response(text, **more)), raw={}, elapsed_ms=5,
    )  # fmt: skip


def test_of_a_megabyte_of_markdown_the_beginning_is_shown_and_all_is_a_download(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    job, text = make_job(session, parts, user), BLOCK * 15_000
    answer(session, parts, job, text)
    page = alice.get(f"/jobs/{job.id}")
    assert len(text) > 10**6
    assert len(page.data) < 500_000
    assert "This is the beginning of a long answer" in page.text
    assert page.text.count("<strong>bold</strong>") > 800
    assert alice.get(f"/jobs/{job.id}/result").data == text.encode()


@pytest.mark.parametrize(
    "text",
    ["*\n+\n-\n" * 170_000, "|" + "a|" * 5000 + "\n|" + "-|" * 5000 + "\n" + "x\n" * 20_000, "[a]: /nothing"],
)
def test_markdown_that_makes_far_too_much_or_nothing_is_shown_as_text(
    alice: FlaskClient, session: Session, parts: Parts, user: User, text: str
) -> None:
    job = make_job(session, parts, user)
    answer(session, parts, job, text)
    page = alice.get(f"/jobs/{job.id}")
    assert len(page.data) < 500_000
    assert 'aria-label="Result as text"' in page.text


def test_the_raw_view_has_all_of_the_answer_in_parts(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    job, text = make_job(session, parts, user), "<b>&" + "x" * 64_000 + "the end"
    answer(session, parts, job, text)
    first, second = (alice.get(f"/jobs/{job.id}/raw?part={part}").text for part in (1, 2))
    assert "\n&lt;b&gt;&amp;xxx" in first
    assert "part 1 of 2" in first
    assert "xxxxthe end</pre>" in second
    for part in ("0", "3", "-1", "9" * 30):
        assert alice.get(f"/jobs/{job.id}/raw?part={part}").status_code == 404


def test_json_is_shown_as_a_table(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = classify(session, parts, user)
    answer(session, parts, job, '{"label": "good", "confidence": 0.9, "reason": "<b>fine</b>"}')
    page = alice.get(f"/jobs/{job.id}").text
    assert "<tr><td>reason</td><td>&lt;b&gt;fine&lt;/b&gt;</td></tr>" in page
    assert "beginning of a long answer" not in page


def test_json_that_nests_500_deep_is_no_crash(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = classify(session, parts, user)
    answer(session, parts, job, '{"label": "good", "confidence": 1, "reason": ""}')
    deep = '{"more": ' + "[" * 500 + "]" * 500 + "}"
    session.execute(update(JobResult).values(text=deep))  # stored before answers of such depth were refused
    session.commit()
    page = alice.get(f"/jobs/{job.id}")
    assert page.status_code == 200
    assert "<td>[[[[[[…]]]]]]</td>" in page.text
    assert alice.get(f"/jobs/{job.id}/result").text == deep


def test_a_megabyte_of_json_is_a_small_page(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = classify(session, parts, user)
    text = json.dumps(
        {"label": "good", "confidence": 1, "reason": "&" * 10**6} | {f"k{n}": "&" * 290 for n in range(900)}
    )
    answer(session, parts, job, text)
    page = alice.get(f"/jobs/{job.id}")
    assert len(page.data) < 500_000
    assert "of 903 rows" in page.text


def test_a_stranger_finds_nothing_of_it(client: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    answer(session, parts, job, "secret")
    make_user(session, "bob@example.org")
    sign_in(client, "bob@example.org")
    for path in ("", "/status", "/result", "/raw"):
        assert client.get(f"/jobs/{job.id}{path}").status_code == 404
    assert client.post(f"/jobs/{job.id}/cancel").status_code == 404


def test_the_timeline_says_in_words_who_did_it(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    answer(session, parts, job, "Fine.")
    page = alice.get(f"/jobs/{job.id}").text
    assert "by you" in page
    assert "by n8n" in page
    assert "user:" not in page
    assert "n8n:e1" not in page


def test_an_administrator_sees_who_did_it_and_the_windows_page(
    client: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    window = make_submitted_window(session, parts, user, 1)
    [item] = items_of(session, window)
    assert "/admin/" not in sign_in(client).get(f"/jobs/{item.job_id}").text
    make_user(session, "admin@example.org", role="admin")
    page = sign_in(client, "admin@example.org").get(f"/jobs/{item.job_id}").text
    assert "by its user" in page
    assert "by the system" in page
    assert page.count(f'<a href="/admin/windows/{window.id}">') >= 2


def test_the_cost_shows_how_it_comes_about(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    usage = {"input_tokens": 1000, "output_tokens": 200, "input_tokens_details": {"cached_tokens": 400}}
    answer(session, parts, job, "Fine.", usage=usage)
    page = alice.get(f"/jobs/{job.id}").text
    cell = '<td class="num">(.*?)</td>'
    rows = re.findall(rf'<tr><th scope="row">(.*?)</th>{cell}{cell}{cell}', page)
    assert rows == [
        ("Input", "600", "$0.1", "$0.000060"), ("Cached input", "400", "$0.01", "$0.000004"),
        ("Output", "200", "$0.5", "$0.000100"),
    ]  # fmt: skip
    assert "Prices of gpt-6-luna now, valid from 22 Sep 2026." in page
    assert "<strong>$0.000164</strong>" in page


def test_a_job_without_a_result_says_why(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    assert "The result appears here in a moment." in alice.get(f"/jobs/{job.id}").text
    page = alice.post(f"/jobs/{job.id}/cancel", follow_redirects=True).text
    assert "There is no result: this job was cancelled before it ran, and cost nothing." in page
    failed = make_job(session, parts, user)
    start_attempt(session, parts.settings, job_id=failed.id, attempt=1, execution_id="e1")
    error = read_answer(400, {"error": {"code": "bad", "message": "No such model."}})
    record_answer(
        session, parts.settings, parts.prices, job_id=failed.id, attempt=1, execution_id="e1", answer=error, raw={},
        elapsed_ms=5,
    )  # fmt: skip
    page = alice.get(f"/jobs/{failed.id}").text
    assert "There is no result: this job failed." in page
    assert page.count("No such model.") == 3  # the status, the attempt, the timeline


def test_what_retention_took_is_said(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    answer(session, parts, job, "Fine.")
    session.execute(update(Job).values(request_deleted_at=clock(session)))
    session.execute(update(Document).values(deleted_at=clock(session)))
    session.execute(delete(JobResult))
    session.commit()
    page = alice.get(f"/jobs/{job.id}").text
    assert "The result is not here any more." in page
    assert ", after its time</dd>" in page
    assert "report.pdf<small>deleted " in page
    assert alice.get(f"/jobs/{job.id}/raw").location == f"/jobs/{job.id}"


def poll_of(alice: FlaskClient, job: Job) -> str:
    """The address that the job's page polls."""
    return html.unescape(re.findall(r'hx-get="(/jobs/\d+/status[^"]*)"', alice.get(f"/jobs/{job.id}").text)[0])


def test_a_poll_gets_the_small_card_until_something_has_happened(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    job = make_job(session, parts, user)
    poll = poll_of(alice, job)
    for said in ("", "&said=nothing"):
        card = alice.get(poll.partition("&said=")[0] + said, headers={"HX-Request": "true"})
        assert (card.status_code, len(card.data) < 3000) == (200, True)
        assert "HX-Retarget" not in card.headers
    nothing = alice.get(poll, headers={"HX-Request": "true"})
    assert (nothing.status_code, nothing.data) == (204, b"")  # what it shows is still so
    answer(session, parts, job, "The answer.")
    body = alice.get(poll, headers={"HX-Request": "true"})
    assert body.headers["HX-Retarget"] == f"#job-{job.id}"
    assert "<p>The answer.</p>" in body.text
    assert "hx-trigger" not in body.text


@pytest.mark.parametrize(
    ("change", "status"),
    [("is_enabled = false", 401), ("session_epoch = session_epoch + 1", 401), ("role = 'admin'", 204)],
)  # fmt: skip
def test_nothing_new_is_told_only_to_who_is_still_let_in(
    alice: FlaskClient, session: Session, parts: Parts, user: User, change: str, status: int
) -> None:
    job = make_job(session, parts, user)
    poll = poll_of(alice, job)
    session.execute(text(f"UPDATE users SET {change}"))
    session.commit()
    assert alice.get(poll, headers={"HX-Request": "true"}).status_code == status


def test_a_stranger_is_not_told_that_there_is_nothing_new(
    alice: FlaskClient, make_app: Any, session: Session, parts: Parts, user: User
) -> None:
    job = make_job(session, parts, user)
    poll = poll_of(alice, job)
    make_user(session, "mallory@example.org")
    mallory = sign_in(make_app().test_client(), "mallory@example.org")
    assert mallory.get(poll, headers={"HX-Request": "true"}).status_code == 404


def test_only_what_may_be_cancelled_has_a_button_for_it(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    job = make_job(session, parts, user)
    assert f'action="/jobs/{job.id}/cancel"' in alice.get(f"/jobs/{job.id}").text
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e1")
    page = alice.get(f"/jobs/{job.id}").text
    assert f'action="/jobs/{job.id}/cancel"' not in page
    assert "cannot be cancelled any more" in page
    assert alice.post(f"/jobs/{job.id}/cancel").status_code == 409


def test_a_job_of_a_profile_that_is_gone_is_shown_but_cannot_be_run_again(
    make_app: Any, session: Session, parts: Parts, user: User
) -> None:
    job = make_job(session, parts, user)
    app = make_app()
    app.extensions["sluice"] = replace(app.extensions["sluice"], profiles=Profiles({}))
    client = sign_in(app.test_client())
    page = client.get(f"/jobs/{job.id}")
    assert page.status_code == 200
    assert "/jobs/new?from=" not in page.text
    again = client.get(f"/jobs/new?from={job.id}")
    assert (again.status_code, "is not there any more" in again.text) == (404, True)


def test_an_administrator_says_why_when_cancelling_somebodys_job(
    client: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    job = make_job(session, parts, user)
    make_user(session, "admin@example.org", role="admin")
    sign_in(client, "admin@example.org")
    [action] = re.findall(r'action="(/jobs/\d+/cancel)"', client.get(f"/jobs/{job.id}").text)
    client.post(action, data={"reason": "not needed"})
    assert session.scalars(select(AuditEvent.reason)).all() == ["not needed"]


def test_what_happens_again_and_again_is_told_once(
    alice: FlaskClient, session: Session, parts: Parts, user: User
) -> None:
    window = make_window(session, parts, user, 1)
    for _ in range(40):
        lifecycle.write_window_event(session, window.id, "create_refused", now=clock(session), actor="provider")
    session.commit()
    page = alice.get(f"/jobs/{items_of(session, window)[0].job_id}").text
    assert page.count("the provider refused the batch for now") == 1
    assert "for now, 40 times</p>" in page


def test_a_job_and_its_repeat_name_each_other(alice: FlaskClient, session: Session, parts: Parts, user: User) -> None:
    job = make_job(session, parts, user)
    alice.post(f"/jobs/{job.id}/cancel")
    [again] = jobs.retry_jobs(session, [job.id], actor=f"user:{user.id}").new_ids
    session.commit()
    assert f'<dt>Repeated by</dt><dd><a href="/jobs/{again}">job {again}</a></dd>' in alice.get(f"/jobs/{job.id}").text
    assert f'It repeats <a href="/jobs/{job.id}">job {job.id}</a>.' in alice.get(f"/jobs/{again}").text
