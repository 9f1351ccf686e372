"""Files that come and go while requests are under way: what runs is what the person sees."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.conftest import DATA
from tests.people import await_

pytestmark = pytest.mark.browser
BOTH = [DATA / "two-pages.pdf", DATA / "debian-history.pdf"]


def await_held(page: Page, held: list[Route], count: int) -> None:
    await_(lambda: page.evaluate("true") and len(held) == count, f"request {count}")


def test_a_file_removed_while_it_is_sent_is_not_waited_for_and_not_run(page: Page) -> None:
    page.goto("/jobs/new")
    held: list[Route] = []
    page.route("**/jobs/documents", lambda route: held.append(route))
    with page.expect_request("**/jobs/documents"):
        page.set_input_files("input[type=file]", [DATA / "two-pages.pdf"])
    with page.expect_event("requestfailed"):  # nobody wants it any more
        page.get_by_role("button", name="Remove two-pages.pdf").click()
    expect(page.locator("[data-upload-state]")).to_have_text("")
    page.unroute("**/jobs/documents")
    page.set_input_files("input[type=file]", [DATA / "debian-history.pdf"])
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/jobs/\d+$"))  # one job
    expect(page.locator(".page-sub")).to_contain_text("debian-history.pdf")


def test_a_removed_file_that_comes_again_runs_once(page: Page) -> None:
    page.goto("/jobs/new")
    held: list[Route] = []
    page.route("**/jobs/documents", lambda route: held.append(route))
    page.set_input_files("input[type=file]", [DATA / "two-pages.pdf"])
    await_held(page, held, 1)
    page.get_by_role("button", name="Remove two-pages.pdf").click()
    page.set_input_files("input[type=file]", [DATA / "two-pages.pdf"])
    await_held(page, held, 2)
    held[1].continue_()
    expect(page.locator(".estimate-files tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/jobs/\d+$"))


@pytest.mark.parametrize("is_row", [True, False], ids=["as a row", "in the estimate"])
def test_a_file_taken_out_while_the_estimate_is_under_way_stays_out(page: Page, is_row: bool) -> None:
    page.goto("/jobs/new")
    rows = page.locator(".estimate-files tbody tr")
    held: list[Route] = []
    if not is_row:
        page.set_input_files("input[type=file]", BOTH)
        expect(rows).to_have_count(2)
    page.route("**/jobs/estimate", lambda route: held.append(route) if not held else route.continue_())
    if is_row:
        page.set_input_files("input[type=file]", BOTH)
    else:
        page.get_by_label("Bullets").fill("4")
        page.keyboard.press("Tab")
    await_held(page, held, 1)
    answer = held[0].fetch()
    # Both at once: the answer comes before htmx has asked again.
    taken = ".file-row:has-text('two-pages.pdf') [data-remove]" if is_row else "tr:has-text('two-pages.pdf') input"
    page.locator(taken).click()
    held[0].fulfill(response=answer)
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("debian-history.pdf")
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/jobs/\d+$"))
