"""The live regions of the admin pages: only a real browser has a focus to lose and text that is half typed."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_in_the_browser import submit

pytestmark = pytest.mark.browser


def poll(page: Page) -> None:
    """As the timer does; returns when the answer is on the page."""
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
        page.evaluate("htmx.trigger('[data-poll]', 'refresh')")
    expect(page.locator(".htmx-request, .htmx-swapping, .htmx-settling")).to_have_count(0)


def test_the_admin_page_shows_what_comes_and_keeps_the_focus(page: Page, admin: Page) -> None:
    admin.goto("/admin")
    expect(admin.locator("[data-poll]")).to_have_count(1)
    admin.focus("#to-queues")
    submit(page, "two-pages.pdf")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    job_id = page.url.rsplit("/", 1)[1]
    poll(admin)
    expect(admin.locator(f"#job-{job_id}")).to_be_visible()
    expect(admin.locator("#to-queues")).to_be_focused()


def test_a_poll_of_a_queues_page_keeps_what_is_typed(page: Page, admin: Page) -> None:
    submit(page, "two-pages.pdf", mode="batch")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    admin.goto("/admin/queues")
    admin.locator("details > summary").first.click()
    admin.locator("details[open] input[name=reason]").fill("the prompt is wrong")
    poll(admin)
    expect(admin.locator("details[open] input[name=reason]")).to_have_value("the prompt is wrong")
