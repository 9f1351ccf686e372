"""Keys, and what a page says when the server is away: only a real browser presses and loses its network."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from devstack.stack import ADMIN_EMAIL, Stack
from tests.browser.test_in_the_browser import STANDARD, submit

pytestmark = pytest.mark.browser


def test_slash_goes_to_the_search_of_the_page_or_else_of_the_history(page: Page) -> None:
    page.goto("/submissions")
    page.keyboard.press("/")
    page.wait_for_url("**/jobs#search")
    field = page.locator("main [data-search]")
    expect(field).to_be_focused()
    field.blur()
    page.keyboard.press("/")
    expect(field).to_be_focused()
    expect(field).to_have_value("")


def test_g_and_a_letter_go_where_the_navigation_goes(page: Page, admin: Page) -> None:
    for key, path in (("s", "/submissions"), ("h", "/jobs"), ("n", "/jobs/new")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(f"**{path}")
    page.keyboard.press("g")
    page.keyboard.press("a")  # is nothing for her
    expect(page).to_have_url(re.compile("/jobs/new$"))
    admin.keyboard.press("g")
    admin.keyboard.press("a")
    admin.wait_for_url("**/admin")


def test_keys_do_nothing_in_a_field_with_control_or_when_they_are_off(page: Page) -> None:
    page.goto("/jobs")
    page.locator("main [data-search]").focus()
    page.keyboard.type("gn?/")
    expect(page.locator("main [data-search]")).to_have_value("gn?/")
    page.locator("main [data-search]").blur()
    page.keyboard.press("g")
    page.keyboard.press("Control+n")
    page.goto("/keys")
    page.locator("main [data-keys-switch]").uncheck()
    page.locator("main [data-keys-switch]").blur()
    page.keyboard.press("?")
    expect(page.locator("#keys")).not_to_be_visible()
    expect(page).to_have_url(re.compile("/keys$"))


def test_the_help_opens_and_closes_by_key_and_names_every_place(page: Page) -> None:
    page.goto("/jobs")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    expect(dialog).to_be_visible()
    for link in page.locator("[data-key]").all():
        expect(dialog).to_contain_text(f"g {link.get_attribute('data-key')}")
    found = Axe().run(page, options=STANDARD)
    assert found.violations_count == 0, found.generate_report()
    page.keyboard.press("?")
    expect(dialog).not_to_be_visible()
    page.get_by_role("link", name="Keyboard").click()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()


def test_a_region_that_cannot_be_asked_for_says_since_when_and_catches_up(admin: Page) -> None:
    submit(admin, "two-pages.pdf", mode="batch")
    admin.wait_for_url(re.compile(r"/jobs/\d+$"))
    note = admin.get_by_text(re.compile(r"Not updated since .* The server cannot be reached\."))
    ask = "htmx.trigger(document.querySelector('[data-poll]'), 'refresh')"
    admin.context.set_offline(True)
    admin.evaluate(ask)
    expect(note).to_be_visible()
    admin.evaluate(ask)
    expect(note).to_have_count(1)
    admin.context.set_offline(False)
    admin.evaluate(ask)
    expect(note).to_have_count(0)
    expect(admin.locator(".is-stale")).to_have_count(0)


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_of_users_and_deeds_are_accessible_and_fit(page: Page, admin: Page, width: int) -> None:
    admin.set_viewport_size({"width": width, "height": 900})
    admin.goto("/admin/users")
    admin.get_by_role("link", name=ADMIN_EMAIL).first.wait_for()
    paths = ["/admin/users", "/admin/audit", "/keys", admin.locator("main td a").first.get_attribute("href") or ""]
    for path in paths:
        admin.goto(path)
        for summary in admin.locator("main summary").all():
            summary.click()
        found = Axe().run(admin, options=STANDARD)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        overflow = admin.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{path} is {overflow} px too wide"


def test_users_are_disabled_without_javascript(browser: Browser, stack: Stack, page: Page) -> None:
    page.goto("/account")
    email = page.locator(".page-sub").inner_text()
    context = browser.new_context(base_url=stack.web_url, java_script_enabled=False)
    admin = context.new_page()
    admin.goto("/login")
    admin.fill("input[name=email]", ADMIN_EMAIL)
    admin.fill("input[name=password]", stack.secrets.admin_password)
    admin.click("input[type=submit]")
    admin.goto(f"/admin/users?q={email}")
    admin.get_by_role("link", name=email).click()
    admin.locator("summary", has_text="Disable").click()
    form = admin.locator("form[action$='/disable']")
    form.get_by_label("Why").fill("left the team")
    form.get_by_label("Cancel them").check()
    form.get_by_role("button", name="Disable").click()
    expect(admin.get_by_text("Disabled: the sessions have ended")).to_be_visible()
    page.reload()
    expect(page).to_have_url(re.compile("/login"))
    context.close()
