"""A job's page that stays open: the answer comes to it, and when nothing comes it says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session
from werkzeug.serving import make_server

from tests.factories import PASSWORD, make_job, make_user, response
from webapp.domain.answers import read_answer
from webapp.models import Job
from webapp.parts import Parts
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer

pytestmark = pytest.mark.browser


@pytest.fixture
def job(session: Session, parts: Parts) -> Job:
    return make_job(session, parts, make_user(session))


@pytest.fixture
def page(browser: Browser, make_app: Any, job: Job) -> Iterator[Page]:
    """The job's page, as its user sees it."""
    server = make_server("127.0.0.1", 0, make_app(), threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    context = browser.new_context(base_url=f"http://127.0.0.1:{server.port}")
    page = context.new_page()
    page.goto(f"/login?next=/jobs/{job.id}")
    page.fill("input[name=email]", "alice@example.org")
    page.fill("input[name=password]", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_url(f"**/jobs/{job.id}")
    yield page
    context.close()
    server.shutdown()
    serving.join()
    server.server_close()


def test_the_answer_appears_without_a_reload_and_the_polling_ends(
    page: Page, session: Session, parts: Parts, job: Job
) -> None:
    expect(page.get_by_text("The result appears here in a moment.")).to_be_visible()
    page.evaluate("window.isSamePage = true")
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e1")
    record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=1, execution_id="e1",
        answer=read_answer(200, response("**The answer**")), raw={}, elapsed_ms=5,
    )  # fmt: skip
    expect(page.locator(".result strong")).to_have_text("The answer", timeout=20_000)
    expect(page.locator("[data-poll]")).to_have_count(0)
    expect(page.get_by_role("heading", name="Attempts")).to_be_visible()
    assert page.evaluate("window.isSamePage")


def test_a_page_that_hears_nothing_says_since_when(page: Page) -> None:
    page.route("**/status*", lambda route: route.abort())
    expect(page.locator("#stale")).to_contain_text("Not updated since", timeout=20_000)
    page.unroute("**/status*")
    expect(page.locator("#stale")).to_be_empty(timeout=20_000)


def test_the_copy_button_copies_all_of_the_answer(page: Page, session: Session, parts: Parts, job: Job) -> None:
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e1")
    text = "**Bold** words.\n\n" * 10_000
    record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=1, execution_id="e1",
        answer=read_answer(200, response(text)), raw={}, elapsed_ms=5,
    )  # fmt: skip
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click(timeout=20_000)
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == text
