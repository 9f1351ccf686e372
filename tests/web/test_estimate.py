"""What the form says before submit, and the files that it keeps; budgets on the pages."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import PASSWORD, make_document, make_job, make_user
from tests.fakes import FakeProviderModels
from tests.statements import heard
from webapp.domain.scopes import Scope
from webapp.models import Budget, Document, Job, JobDocument, JobRequest, User
from webapp.parts import Parts
from webapp.services import shutdowns
from webapp.services.clock import clock
from webapp.views import runs as views_of_runs


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


@pytest.mark.parametrize("ticked_at_first", [True, False])
def test_the_box_that_sends_the_file_itself_also_counts_for_what_was_stored_before(
    alice: FlaskClient, session: Session, ticked_at_first: bool
) -> None:
    ticked: dict[str, Any] = {"document-as-file": "y"}
    before, after = (ticked, {}) if ticked_at_first else ({}, ticked)
    kept = kept_in(ask(alice, "two-pages.pdf", **before).text)
    estimated = kept_in(ask(alice, **{"document-kept": kept}, **after).text)
    assert len(estimated) == 1
    for ids in (kept, estimated):  # the form may come back without another estimate
        ask(alice, path="/jobs/new", **{"document-kept": ids}, **after)
    pages = session.scalars(select(JobRequest.file_pages)).all()
    assert pages == ([0, 0] if ticked_at_first else [2, 2])


def test_a_scan_that_was_stored_as_a_file_has_no_text_to_send(alice: FlaskClient, session: Session) -> None:
    kept = kept_in(ask(alice, "no-text-layer.pdf", **{"document-as-file": "y"}).text)
    html = ask(alice, **{"document-kept": kept}).text
    assert kept_in(html) == []
    assert "no-text-layer.pdf: This PDF has no text layer" in html
    answer = ask(alice, path="/jobs/new", **{"document-kept": kept})
    assert (answer.status_code, session.scalar(select(func.count()).select_from(Job))) == (422, 0)


def test_a_document_that_is_named_again_and_again_is_one(alice: FlaskClient, session: Session) -> None:
    kept = kept_in(ask(alice, "two-pages.pdf").text)
    assert kept_in(ask(alice, **{"document-kept": [*(kept * 50), "9" * 30]}).text) == kept
    ask(alice, path="/jobs/new", **{"document-kept": kept * 50})
    assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_one_form_has_an_end(alice: FlaskClient, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views_of_runs, "MOST_RUNS", 1)
    html = ask(alice, "two-pages.pdf", "debian-history.pdf").text
    assert "At most 1 files at once." in html
    assert len(kept_in(html)) == 2  # to be taken out
    assert ask(alice, path="/jobs/new", **{"document-kept": kept_in(html)}).status_code == 422
    assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_what_retention_took_from_the_form_is_said(alice: FlaskClient, session: Session) -> None:
    kept = kept_in(ask(alice, "two-pages.pdf", "debian-history.pdf").text)
    session.query(Document).filter_by(id=int(kept[0])).update({"deleted_at": clock(session)})
    session.commit()
    html = ask(alice, **{"document-kept": kept}).text
    assert kept_in(html) == kept[1:]
    assert "There is no such document of yours." in html


def test_what_a_budget_refused_keeps_its_files(alice: FlaskClient, session: Session) -> None:
    session.add(Budget(user_id=1, monthly_amount=0))
    session.commit()
    answer = ask(alice, "two-pages.pdf", path="/jobs/new")
    assert (answer.status_code, len(kept_in(answer.text))) == (409, 1)
    again = ask(alice, path="/jobs/new", **{"document-kept": kept_in(answer.text)})
    assert kept_in(again.text) == kept_in(answer.text)
    assert session.scalar(select(func.count()).select_from(Document)) == 1


def test_the_files_of_an_estimate_are_shown_without_a_query_each(alice: FlaskClient, session: Session) -> None:
    def asked(count: int) -> int:
        user = session.get_one(User, 1)
        kept = [str(make_document(session, user).id) for _ in range(count)]
        with heard() as said:
            assert kept_in(ask(alice, **{"document-kept": kept}).text) == kept
        return sum("FROM documents" in one.sql for one in said)

    assert asked(9) - asked(1) <= 2 * 8  # each is locked and its text read; not read once more to be shown


def test_a_budget_that_is_removed_meanwhile_breaks_no_page(
    alice: FlaskClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.add(Budget(user_id=1, monthly_amount=1))
    session.commit()
    shown_in = views_of_runs.shown_in

    def remove_first(*given: Any) -> Any:
        session.execute(delete(Budget))
        session.commit()
        return shown_in(*given)

    monkeypatch.setattr(views_of_runs, "shown_in", remove_first)
    answer = ask(alice, "two-pages.pdf")
    assert (answer.status_code, "$1.00 of $1.00 left" in answer.text) == (200, True)


def test_the_page_of_a_job_does_not_read_the_request_and_its_poll_nothing_of_it(
    alice: FlaskClient, session: Session, parts: Parts
) -> None:
    job_id = make_job(session, parts, session.get_one(User, 1)).id
    with heard() as poll:
        assert alice.get(f"/jobs/{job_id}/status").status_code == 200
    with heard() as page:
        assert alice.get(f"/jobs/{job_id}").status_code == 200
    assert poll
    assert not any("job_requests" in one.sql for one in poll)
    assert any("job_requests" in one.sql for one in page)
    assert not any("job_requests.body," in one.sql for one in page)


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
    form = {"name": "t", "expiry": "never", "scopes": [*Scope]}
    token = re.search(r'data-copy="([^"]+)"', alice.post("/account/tokens", data=form).text)
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
