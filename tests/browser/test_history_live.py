"""The history in a browser: one poll, that rests while somebody ticks, and nothing for axe to find."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.conftest import DATA

pytestmark = pytest.mark.browser
STANDARD = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
POLL = "htmx.trigger('#job-table', 'refresh')"


def make_waiting_jobs(page: Page) -> None:
    page.goto("/jobs/new")
    page.check("input[name=executionMode][value=batch]")
    page.set_input_files("input[type=file]", [DATA / "two-pages.pdf", DATA / "debian-history.pdf"])
    page.get_by_role("button", name="Run").click()
    page.wait_for_url("**/submissions/*")


def test_a_table_in_which_somebody_ticks_rests_and_then_catches_up(page: Page) -> None:
    make_waiting_jobs(page)
    page.goto("/jobs")
    page.get_by_label("All on this page").check()
    expect(page.locator("input[name=job]:checked")).to_have_count(2)
    polls: list[str] = []
    page.on("request", lambda request: polls.append(request.url) if request.resource_type == "xhr" else None)
    page.evaluate(POLL)
    page.get_by_label("All on this page").uncheck()
    with page.expect_response("**/jobs"):
        page.evaluate(POLL)
    assert len(polls) == 1
    expect(page.locator("input[name=job]")).to_have_count(2)


def test_what_is_ticked_is_cancelled_after_a_question(page: Page) -> None:
    make_waiting_jobs(page)
    page.goto("/jobs")
    page.locator("input[name=job]").first.check()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("1 job can be cancelled.")).to_be_visible()
    assert Axe().run(page, options=STANDARD).response["violations"] == []
    page.get_by_role("button", name="Cancel 1 job").click()
    expect(page.get_by_text("1 job cancelled.")).to_be_visible()
    expect(page.locator("[data-status=cancelled]")).to_have_count(1)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_history_and_the_documents_fit_and_are_accessible(page: Page, width: int) -> None:
    make_waiting_jobs(page)
    page.set_viewport_size({"width": width, "height": 900})
    for address in ("/jobs", "/jobs?status=queued&q=debian", "/jobs?status=odd&q=zzz", "/documents"):
        page.goto(address)
        assert Axe().run(page, options=STANDARD).response["violations"] == [], address
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), address
