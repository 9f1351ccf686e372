"""What only a real browser shows: htmx, polling, CSP, layout and accessibility."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from devstack.stack import Stack
from tests.conftest import DATA

pytestmark = pytest.mark.browser
HISTORY = DATA / "debian-history.pdf"
STANDARD = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}


def submit(page: Page, *names: str, mode: str = "sync") -> None:
    page.goto("/jobs/new")
    page.check(f"input[name=executionMode][value={mode}]")
    page.set_input_files("input[type=file]", [DATA / name for name in names])
    page.get_by_role("button", name="Run").click()


def test_a_sync_run_shows_its_result_in_the_same_flow_and_stops_polling(page: Page) -> None:
    submit(page, "debian-history.pdf")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    expect(page.locator("[data-status=completed]")).to_be_visible()
    expect(page.locator(".result li")).to_have_count(8)
    expect(page.locator("[data-poll]")).to_have_count(0)


def test_dropped_files_become_rows_and_a_job_each(page: Page) -> None:
    submit(page, "two-pages.pdf", "debian-history.pdf", mode="batch")
    page.wait_for_url("**/jobs")
    expect(page.locator("[data-status=queued]").first).to_be_visible()
    page.get_by_role("link", name="Job").first.click()
    expect(page.get_by_text(re.compile(r"[12] of 3 jobs wait; a window opens when it is full."))).to_be_visible()


def test_a_bad_file_is_explained_on_its_field_without_a_new_page(page: Page) -> None:
    submit(page, "not-a-pdf.pdf")
    expect(page.locator(".field-error")).to_contain_text("not-a-pdf.pdf: This file is not a PDF.")
    assert page.url.endswith("/jobs/new")


def test_the_cost_is_said_before_submit_and_the_files_are_sent_once(page: Page) -> None:
    page.goto("/jobs/new")
    page.set_input_files("input[type=file]", [DATA / "two-pages.pdf", HISTORY, DATA / "not-a-pdf.pdf"])
    rows = page.locator(".estimate-files tbody tr")
    expect(rows).to_have_count(2)
    expect(page.locator("#estimate .field-error")).to_contain_text("not-a-pdf.pdf: This file is not a PDF.")
    expect(page.locator(".estimate-ways")).to_contain_text("50 % less")
    assert page.evaluate("document.querySelector('input[type=file]').files.length") == 0
    rows.filter(has_text="two-pages.pdf").get_by_role("checkbox").uncheck()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/jobs/\d+$"))  # one job, of the file that was left
    expect(page.locator(".page-sub")).to_contain_text("debian-history.pdf")


def test_a_file_that_comes_while_an_estimate_is_under_way_is_not_lost(page: Page) -> None:
    page.goto("/jobs/new")
    answers: list[Route] = []
    page.route("**/jobs/estimate", lambda route: answers.append(route))  # held back, until the second file is there
    with page.expect_request("**/jobs/estimate"):
        page.set_input_files("input[type=file]", [DATA / "two-pages.pdf"])
    page.evaluate(
        """() => {
            const input = document.querySelector('input[type=file]'), bag = new DataTransfer();
            bag.items.add(new File(['%PDF-1.7 broken'], 'second.pdf', {type: 'application/pdf'}));
            input.files = bag.files;
        }"""
    )
    answers[0].continue_()
    expect(page.locator(".estimate-files tbody tr")).to_have_count(1)
    assert page.evaluate("[...document.querySelector('input[type=file]').files].map((file) => file.name)") == [
        "second.pdf"
    ]


def test_a_session_that_ended_leads_the_polling_page_to_the_login(page: Page) -> None:
    submit(page, "two-pages.pdf", mode="batch")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    page.context.clear_cookies()
    page.evaluate("htmx.trigger(document.querySelector('[data-poll]'), 'refresh')")
    page.wait_for_url("**/login*")


def visit_everything(page: Page, look: Callable[[str], None]) -> None:
    """Call `look` on each kind of page, with something on it."""
    submit(page, "debian-history.pdf")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    expect(page.locator("[data-status=completed]")).to_be_visible()
    look("job")
    for path in ("/jobs", "/jobs/new", "/nothing-here"):
        page.goto(path)
        look(path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_accessible_and_fits(page: Page, admin: Page, scheme: str, width: int) -> None:
    for visitor in (page, admin):
        visitor.set_viewport_size({"width": width, "height": 900})
        visitor.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]

    def look(name: str, visitor: Page = page) -> None:
        found = Axe().run(visitor, options=STANDARD)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        overflow = visitor.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{name} is {overflow} px too wide"

    visit_everything(page, look)
    for path in ("/admin", "/admin/budgets", "/admin/costs", "/admin/benchmarks", "/admin/simulate"):
        admin.goto(path)
        expect(admin.locator(".chart:not(:has(canvas, .chart-note))")).to_have_count(0)  # all are drawn
        look(path, admin)


def test_everything_works_without_javascript(browser: Browser, stack: Stack) -> None:
    context = browser.new_context(base_url=stack.web_url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/register")
    page.fill("input[name=email]", "noscript@example.org")
    page.fill("input[name=password]", "correct horse battery")
    page.click("input[type=submit]")
    submit(page, "two-pages.pdf")
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    for _ in range(100):
        page.reload()
        if page.locator("[data-status=completed]").count():
            break
        page.wait_for_timeout(100)
    expect(page.locator(".result")).to_be_visible()
    context.close()
