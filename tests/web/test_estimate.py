"""What the form says before submit, and the files that it keeps; budgets on the pages."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import PASSWORD, make_document, make_user
from tests.fakes import FakeProviderModels
from webapp.models import Budget, Document, Job, JobDocument
from webapp.parts import Parts
from webapp.services import shutdowns
from webapp.services.clock import clock


@pytest.fixture
def alice(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session)
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    return client


@pytest.fixture
def admin(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session, "admin@example.org", role="admin")
    client.post("/login", data={"email": "admin@example.org", "password": PASSWORD})
    return client


def pdf(name: str) -> tuple[io.BytesIO, str]:
    return io.BytesIO((DATA / name).read_bytes()), name


def ask(client: FlaskClient, *names: str, htmx: bool = True, path: str = "/jobs/estimate", **values: Any) -> Any:
    data = {"profile": "pdf_summary", "executionMode": "batch", "audience": "general", "bullets": "8", **values}
    headers = {"HX-Request": "true"} if htmx else {}
    return client.post(path, data=data | {"document": [pdf(name) for name in names]}, headers=headers)


def kept_in(html: str) -> list[str]:
    return re.findall(r'name="document-kept" value="(\d+)" checked', html)


def test_each_file_is_stored_once_and_priced_in_both_modes(alice: FlaskClient, session: Session) -> None:
    html = ask(alice, "two-pages.pdf", "debian-history.pdf").text
    assert len(kept_in(html)) == 2
    assert html.startswith("<section") or '<section id="estimate"' in html  # the fragment, not the page
    assert "<html" not in html
    assert "too few answers yet" in html
    assert "50 % less" in html
    assert "With these, 2 of 3 jobs wait; the window opens when it is full." in html
    again = ask(alice, **{"document-kept": kept_in(html)}).text
    assert kept_in(again) == kept_in(html)
    answer = ask(alice, path="/jobs/new", **{"document-kept": kept_in(html)})
    assert answer.status_code in (200, 303)
    assert session.scalar(select(func.count()).select_from(Document)) == 2
    assert session.scalars(select(JobDocument.document_id).order_by(JobDocument.job_id)).all() == [1, 2]


def test_a_file_that_cannot_be_used_is_named_and_the_others_are_kept(alice: FlaskClient) -> None:
    html = ask(alice, "two-pages.pdf", "not-a-pdf.pdf").text
    assert len(kept_in(html)) == 1
    assert "not-a-pdf.pdf: This file is not a PDF." in html


def test_a_file_that_is_taken_out_is_not_run(alice: FlaskClient, session: Session) -> None:
    kept = kept_in(ask(alice, "two-pages.pdf", "debian-history.pdf").text)
    ask(alice, path="/jobs/new", **{"document-kept": kept[1:]})
    assert session.scalars(select(JobDocument.document_id)).all() == [int(kept[1])]


def test_kept_and_new_files_run_together(alice: FlaskClient, session: Session) -> None:
    kept = kept_in(ask(alice, "two-pages.pdf").text)
    ask(alice, "debian-history.pdf", path="/jobs/new", **{"document-kept": kept})
    assert session.scalar(select(func.count()).select_from(Job)) == 2


def test_a_stranger_s_document_is_neither_shown_nor_run(alice: FlaskClient, session: Session) -> None:
    theirs = make_document(session, make_user(session, "bob@example.org"))
    html = ask(alice, **{"document-kept": [theirs.id, "x", "99999999999999999999"]}).text
    assert kept_in(html) == []
    assert "report.pdf" not in html
    answer = ask(alice, path="/jobs/new", **{"document-kept": [theirs.id]})
    assert (answer.status_code, "There is no such document of yours." in answer.text) == (422, True)
    assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_without_javascript_the_button_brings_the_page_with_everything_in_it(alice: FlaskClient) -> None:
    html = ask(alice, "two-pages.pdf", htmx=False, bullets="5").text
    assert "<html" in html
    assert len(kept_in(html)) == 1
    assert 'value="5"' in html


def test_what_is_not_filled_in_yet_is_no_error(alice: FlaskClient) -> None:
    html = ask(alice, "two-pages.pdf", bullets="99").text
    assert len(kept_in(html)) == 1
    assert "The estimate comes when the form is filled in." in html
    html = alice.post("/jobs/estimate", data={"profile": "text_classification"}, headers={"HX-Request": "true"}).text
    assert "as soon as the form is filled in" in html


def test_a_wrong_form_keeps_its_files(alice: FlaskClient) -> None:
    kept = kept_in(ask(alice, "two-pages.pdf").text)
    answer = ask(alice, path="/jobs/new", bullets="99", **{"document-kept": kept})
    assert answer.status_code == 422
    assert kept_in(answer.text) == kept


def test_a_text_is_priced_without_any_file(alice: FlaskClient) -> None:
    data = {"profile": "text_classification", "executionMode": "sync", "text": "Good.", "labels": "good, bad"}
    html = alice.post("/jobs/estimate", data=data, headers={"HX-Request": "true"}).text
    assert "1 job, while you wait" in html
    assert "up to" in html


def test_the_budget_that_is_left_is_shown_and_what_is_too_much_is_said_before_submit(
    alice: FlaskClient, session: Session
) -> None:
    session.add(Budget(user_id=1, monthly_amount=1))
    session.commit()
    assert "Your budget this month (UTC): $1.00 of $1.00 left" in ask(alice, "two-pages.pdf").text
    session.query(Budget).update({"monthly_amount": 0})
    session.commit()
    html = ask(alice, "two-pages.pdf").text
    assert "These runs may cost up to" in html
    answer = ask(alice, path="/jobs/new", **{"document-kept": kept_in(html)})
    assert answer.status_code == 409
    assert "is left of the budget of alice@example.org" in answer.text
    assert kept_in(answer.text) == kept_in(html)
    assert "Your budget this month" in alice.get("/account").text


def test_the_api_says_what_is_left(alice: FlaskClient, session: Session) -> None:
    session.add(Budget(user_id=1, monthly_amount=0))
    session.commit()
    token = re.search(r'data-copy="([^"]+)"', alice.post("/account/tokens", data={"name": "t"}).text)
    assert token
    answer = alice.post(
        "/api/v1/jobs", json={"profile": "text_classification", "inputs": {"text": "Good."}},
        headers={"Authorization": f"Bearer {token[1]}"},
    )  # fmt: skip
    assert answer.status_code == 409
    assert (answer.json["code"], answer.json["left"]) == ("over_budget", "0.000000000000")


def test_a_model_that_will_be_switched_off_is_flagged(admin: FlaskClient, session: Session, parts: Parts) -> None:
    models = FakeProviderModels()
    models.announced = {"gpt-6-luna": clock(session).date() + timedelta(days=17)}
    shutdowns.refresh(session, models)
    assert "(in 17 days)" in admin.get("/jobs/new?profile=pdf_summary").text
    assert "(in 17 days)" in admin.get("/admin").text


def test_an_administrator_sets_and_removes_a_budget_on_its_page(admin: FlaskClient, session: Session) -> None:
    assert "No budgets" in admin.get("/admin/budgets").text
    wrong = admin.post("/admin/budgets", data={"email": "admin@example.org", "amount": "much", "reason": "trial"})
    assert (wrong.status_code, "Give an amount in USD" in wrong.text, 'value="trial"' in wrong.text) == (
        422,
        True,
        True,
    )
    right = admin.post("/admin/budgets", data={"email": "admin@example.org", "amount": "12.50", "reason": "trial"})
    assert right.status_code == 303
    assert "$12.50" in admin.get("/admin/budgets").text
    assert "trial" in admin.get("/admin/audit").text
    assert admin.post("/admin/budgets/1/remove", data={"reason": ""}).status_code == 303
    assert session.scalar(select(func.count()).select_from(Budget)) == 1  # without a reason nothing is done
    admin.post("/admin/budgets/1/remove", data={"reason": "over"})
    assert session.scalar(select(func.count()).select_from(Budget)) == 0
