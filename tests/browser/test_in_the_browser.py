"""What only a real browser shows: htmx, polling, CSP, layout and accessibility."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from devstack.stack import Stack
from tests.browser.conftest import sign_in_as_admin
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
    page.wait_for_url(re.compile(r"/submissions/\d+$"))
    expect(page.locator("tbody tr")).to_have_count(2)
    page.locator("tbody a").first.click()
    expect(page.get_by_role("heading", name=re.compile(r"^Job \d+$"))).to_be_visible()


def test_a_bad_file_is_explained_on_its_field_without_a_new_page(page: Page) -> None:
    submit(page, "not-a-pdf.pdf")
    row = page.locator(".file-row.is-bad")
    expect(row).to_contain_text("This file is not a PDF.")
    expect(page.get_by_text("Not run: some files could not be used.")).to_be_visible()
    page.get_by_role("button", name="Remove not-a-pdf.pdf").click()
    expect(row).to_have_count(0)
    assert page.url.endswith("/jobs/new")


def test_the_cost_is_said_before_submit_and_the_files_are_sent_once(page: Page) -> None:
    page.goto("/jobs/new")
    page.set_input_files("input[type=file]", [DATA / "two-pages.pdf", HISTORY, DATA / "not-a-pdf.pdf"])
    rows = page.locator(".estimate-files tbody tr")
    expect(rows).to_have_count(2)
    expect(page.locator(".file-row")).to_have_count(1)
    page.get_by_role("button", name="Remove not-a-pdf.pdf").click()
    expect(page.locator(".estimate-ways")).to_contain_text("50 % less")
    assert page.evaluate("document.querySelector('input[type=file]').files.length") == 0
    rows.filter(has_text="two-pages.pdf").get_by_role("checkbox").uncheck()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/jobs/\d+$"))  # one job, of the file that was left
    expect(page.locator(".page-sub")).to_contain_text("debian-history.pdf")


def test_a_run_that_is_pressed_during_the_upload_waits_and_sends_each_file_once(page: Page) -> None:
    page.goto("/jobs/new")
    answers: list[Route] = []
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url.rsplit("/jobs/", 1)[-1].split("?")[0])
            if request.method == "POST" else None)  # fmt: skip
    page.route("**/jobs/documents", lambda route: answers.append(route))  # held back, until Run was pressed
    with page.expect_request("**/jobs/documents"):
        page.set_input_files("input[type=file]", [DATA / "two-pages.pdf"])
    page.get_by_role("button", name="Run").click()
    expect(page.locator("[data-upload-state]")).to_have_text("1 file is still being sent; it runs when they have come.")
    answers[0].continue_()
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
    assert sent == ["documents", "new"]


def test_a_file_that_did_not_arrive_is_tried_again_and_one_that_is_there_is_not_added_twice(page: Page) -> None:
    page.goto("/jobs/new")
    page.route("**/jobs/documents", lambda route: route.abort())
    page.set_input_files("input[type=file]", [DATA / "two-pages.pdf"])
    expect(page.locator(".file-row.is-bad")).to_contain_text("The server cannot be reached.")
    page.unroute("**/jobs/documents")
    page.get_by_role("button", name="Try two-pages.pdf again").click()
    rows = page.locator(".estimate-files tbody tr")
    expect(rows).to_have_count(1)
    page.set_input_files("input[type=file]", [DATA / "two-pages.pdf"])
    expect(page.get_by_text("What is in the list already was not added again.")).to_be_visible()
    rows.get_by_role("checkbox").uncheck()
    expect(rows).to_have_count(0)
    page.set_input_files("input[type=file]", [DATA / "two-pages.pdf"])  # it was taken out: it may come again
    expect(rows).to_have_count(1)


def test_rows_are_checked_as_soon_as_they_are_chosen_and_again_when_the_file_was_mended(
    page: Page, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,labels\nFine.,one\n")
    page.goto("/jobs/new?profile=text_classification&rows=1")
    page.set_input_files("input[type=file]", rows)
    expect(page.locator("#estimate tbody")).to_contain_text("At least two labels, separated by commas.")
    rows.write_text("text,labels\nFine.,\nAlso fine.,\n")
    with page.expect_file_chooser() as chooser:  # a person's click: the same file again changes nothing by itself
        page.locator("input[type=file]").click()
    chooser.value.set_files(rows)
    expect(page.locator(".estimate-ways")).to_contain_text("2 jobs, a few at a time")
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/submissions/\d+$"))
    expect(page.get_by_text("All 2 jobs have ended")).to_be_visible(timeout=60_000)
    expect(page.locator("[data-poll]")).to_have_count(0)


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
    submit(page, "two-pages.pdf", "debian-history.pdf", mode="batch")
    page.wait_for_url(re.compile(r"/submissions/\d+$"))
    look("submission")
    rows = "/jobs/new?profile=text_classification&rows=1"
    for path in ("/jobs", "/jobs/new", rows, "/submissions", "/documents", "/webhooks", "/account", "/nothing-here"):
        page.goto(path)
        look(path)


ADMIN_PAGES = (
    *("/admin", "/admin/queues", "/admin/windows", "/admin/windows/1", "/admin/failures", "/admin/health"),
    "/admin/latency",
    *("/admin/users", "/admin/audit", "/admin/budgets", "/admin/costs", "/admin/benchmarks", "/admin/simulate"),
)


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
    for path in ADMIN_PAGES:
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
    for path in ("/jobs", "/jobs/new", "/submissions", "/documents", "/webhooks", "/account"):
        page.goto(path)
        nothing_needs_a_script(page)
    sign_in_as_admin(page, stack)
    for path in ADMIN_PAGES:
        page.goto(path)
        nothing_needs_a_script(page)
    context.close()


def nothing_needs_a_script(page: Page) -> None:
    """Every button that is seen sends a form, or opens what the browser opens by itself."""
    idle = page.evaluate("""[...document.querySelectorAll('button, [role=button], a:not([href])')]
        .filter((one) => one.checkVisibility() && !(one.form && one.type === 'submit') && !one.popoverTargetElement)
        .map((one) => one.outerHTML)""")
    assert idle == [], page.url
