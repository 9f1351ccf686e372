"""The admin's lists: queues, windows and their items, and what can be done from there."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import Session

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
)
from webapp.models import BatchWindow, User
from webapp.parts import Parts
from webapp.services import batch_ingest, control, window_reports
from webapp.services.audit import list_audit

HOSTILE = "<img/src=x/onerror=alert(1)>@example.org"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def alice(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def root(session: Session) -> User:
    return make_user(session, "admin@example.org", role="admin")


@pytest.fixture
def admin(client: FlaskClient, root: User) -> FlaskClient:
    client.post("/login", data={"email": root.email, "password": PASSWORD})
    return client


def test_queues_say_how_many_wait_and_when_a_window_opens(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_queued_jobs(session, parts, alice, 2)
    page = admin.get("/admin/queues").text
    assert "2 of 3 jobs wait; a window opens when it is full." in page
    assert 'action="/admin/queues/1/hold"' in page
    assert 'formaction="/admin/queues/1/flush"' in page
    assert admin.post("/admin/queues/1/flush", data={"reason": "month end"}).status_code == 303
    assert "No job waits for a window" in admin.get("/admin/queues").text


def test_a_held_queue_is_listed_and_can_be_resumed(
    admin: FlaskClient, session: Session, parts: Parts, alice: User, root: User
) -> None:
    queue_id, _ = make_queued_jobs(session, parts, alice, 1)
    control.hold_queue(session, queue_id, user=root, reason="a wrong prompt")
    page = admin.get("/admin/queues").text
    assert "an administrator holds this queue" in page
    assert f'action="/admin/queues/{queue_id}/resume"' in page
    assert "/flush" not in page


@pytest.mark.parametrize(("path", "region"), [("/admin/queues", "queue-list"), ("/admin/windows", "window-list")])
def test_a_poll_gets_the_live_region_alone(
    admin: FlaskClient, session: Session, parts: Parts, alice: User, path: str, region: str
) -> None:
    make_window(session, parts, alice)
    fragment = admin.get(path, headers=HTMX)
    assert fragment.text.strip().startswith(f'<div id="{region}"')
    assert "data-poll" in fragment.text
    assert "<input" not in fragment.text  # what somebody types would be lost
    assert fragment.headers["Vary"].startswith("HX-Request")


def test_windows_show_the_providers_words_beside_ours(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    window = make_submitted_window(session, parts, alice)
    counts = {"request_counts": {"total": 3, "completed": 2, "failed": 1}}
    session.execute(update(BatchWindow).values(provider_status="in_progress", provider_batch=counts))
    session.commit()
    page = admin.get("/admin/windows").text
    for words in ("Submitted", "in progress", "2 of 3", "1 failed", f"Window {window.id}"):
        assert words in page, words


def test_windows_are_filtered_by_status(admin: FlaskClient, session: Session, parts: Parts, alice: User) -> None:
    make_window(session, parts, alice)
    assert "/admin/windows/1" in admin.get("/admin/windows?status=open").text
    assert "No such window" in admin.get("/admin/windows?status=failed").text
    assert "No such window" in admin.get("/admin/windows?status=attention").text
    session.execute(update(BatchWindow).values(needs_attention="2 lines are not ours"))
    session.commit()
    assert "/admin/windows/1" in admin.get("/admin/windows?status=attention").text


@pytest.mark.parametrize("path", ["/admin/windows?status=lost", "/admin/windows/1?outcome=lost"])
def test_a_filter_that_is_not_known_is_said(
    admin: FlaskClient, session: Session, parts: Parts, alice: User, path: str
) -> None:
    make_window(session, parts, alice)
    page = admin.get(path).text
    assert "“lost”: all are shown" in page
    assert "/admin/windows/1" in page


def test_windows_are_paged_from_the_newest(session: Session, parts: Parts, alice: User) -> None:
    for _ in range(3):
        make_window(session, parts, alice, 1)
    first, older = window_reports.list_windows(session, size=2)
    rest, end = window_reports.list_windows(session, size=2, before=older)
    assert ([window.id for window in first], [window.id for window in rest], end) == ([3, 2], [1], None)


def test_the_items_of_a_window_are_filtered_and_paged(session: Session, parts: Parts, alice: User) -> None:
    window = make_submitted_window(session, parts, alice)
    good, *_ = items_of(session, window)
    lease = end_batch(session, parts, window, "completed", output=[output_line(good)])
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    found, more = window_reports.window_items(session, window.id, outcome="missing", size=1)
    assert ([item.job_id for item, _ in found], more) == ([2], 2)
    rest, end = window_reports.window_items(session, window.id, outcome="missing", size=1, after=2)
    assert ([item.job_id for item, _ in rest], end) == ([3], None)


def test_the_page_of_a_window_filters_its_items(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    window = make_window(session, parts, alice)
    page = admin.get(f"/admin/windows/{window.id}?outcome=open").text
    assert "w1-j3-a1" in page
    assert "Open 3" in page
    assert "No such item" in admin.get(f"/admin/windows/{window.id}?outcome=failed").text


def test_the_page_of_a_window_polls_until_it_has_ended(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    window = make_submitted_window(session, parts, alice)
    running = admin.get(f"/admin/windows/{window.id}", headers=HTMX)
    assert running.text.strip().startswith('<section class="card status-card" id="window-status"')
    assert "data-poll" in running.text
    lease = end_batch(session, parts, window, "failed")
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    ended = admin.get(f"/admin/windows/{window.id}", headers=HTMX)
    assert ended.headers["HX-Refresh"] == "true"
    assert "data-poll" not in ended.text


def test_the_page_of_a_queue_polls_what_waits_and_not_its_form(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    queue_id, _ = make_queued_jobs(session, parts, alice, 2)
    page = admin.get(f"/admin/queues/{queue_id}")
    assert page.headers["Vary"].startswith("HX-Request")
    fragment = admin.get(f"/admin/queues/{queue_id}", headers=HTMX).text
    assert "2 of 3" in fragment
    assert "<input" not in fragment


def test_a_job_that_an_administrator_cancels_leaves_an_audit_row(
    admin: FlaskClient, session: Session, parts: Parts, alice: User, root: User
) -> None:
    job, own = make_job(session, parts, alice), make_job(session, parts, root)
    admin.post(f"/jobs/{job.id}/cancel", data={"reason": "the wrong document"})
    admin.post(f"/jobs/{own.id}/cancel")
    assert admin.post(f"/jobs/{job.id}/cancel").status_code == 409
    [deed] = list_audit(session)
    assert (deed.action, deed.target, deed.reason) == ("cancel_job", f"job:{job.id}", "the wrong document")
    session.refresh(job)
    assert job.status == "cancelled"


@pytest.mark.parametrize("path", ["/admin", "/admin/queues", "/admin/windows", "/admin/windows/1", "/admin/queues/1"])
def test_hostile_names_are_only_text(admin: FlaskClient, session: Session, parts: Parts, root: User, path: str) -> None:
    window = make_window(session, parts, make_user(session, HOSTILE))
    session.execute(
        update(BatchWindow).values(problem=HOSTILE, failure_message=HOSTILE, needs_attention=HOSTILE,
                                   provider_status=HOSTILE, provider_batch_id=HOSTILE)
    )  # fmt: skip
    session.commit()
    control.hold_queue(session, window.queue_id, user=root, reason=HOSTILE)
    page = admin.get(path).text
    assert "<img" not in page
