"""Debian's Chromium, driven by Playwright. Locally a missing browser is named and skipped; in CI it is an error."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from devstack.stack import ADMIN_EMAIL, Stack
from tests.people import PASSWORD

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing: apt install chromium")
        pytest.skip("Chromium is missing: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=stack.web_url)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page of somebody who has just registered. Whatever the browser complains about fails the test."""
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/register")
    page.fill("input[name=email]", f"b{time.time_ns()}@example.org")
    page.fill("input[name=password]", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_url("**/jobs/new")
    yield page
    # Chromium also reports each 4xx answer; what the pages answer is for the tests to say.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


@pytest.fixture
def admin(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A page of the administrator, in a window of its own."""
    context = browser.new_context(base_url=stack.web_url)
    page = context.new_page()
    sign_in_as_admin(page, stack)
    yield page
    context.close()


def sign_in_as_admin(page: Page, stack: Stack) -> None:
    page.context.clear_cookies()
    page.goto("/login")
    page.fill("input[name=email]", ADMIN_EMAIL)
    page.fill("input[name=password]", stack.secrets.admin_password)
    page.click("input[type=submit]")
    page.wait_for_url("**/jobs")
