"""File names, e-mails, rows and answers that want to run or fetch something: on every page they are only text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from devstack.stack import Stack
from tests.conftest import DATA
from tests.people import PASSWORD

pytestmark = pytest.mark.browser
PDF = (DATA / "two-pages.pdf").read_bytes()
# Whatever comes through asks for an address with this word in it, or sets a variable of this name.
WORD = "pwned"
TAGS = [
    f"<script>window.{WORD}=1</script>",
    f"<img src=/{WORD}.png onerror=window.{WORD}=1>",
    f'<div hx-get="/{WORD}" hx-trigger="load"></div>',
    f'<a href="javascript:window.{WORD}=1">x</a>',
    f"<svg/onload=window.{WORD}=1>",
    f'"><form action="/{WORD}"><button autofocus onfocus=window.{WORD}=1>',
    f"{{{{ {WORD} }}}}{{% include '/{WORD}' %}}",
]
MARKDOWN = "\n\n".join([
    "# A heading that shows that this was rendered",
    *TAGS,
    f"[a](javascript:window.{WORD}=1) [b](data:text/html,<script>{WORD}</script>) [c](vbscript:{WORD})",
    f"![image](http://127.0.0.1:9/{WORD}.png) ![image](/{WORD}.png)",
    f"<http://127.0.0.1:9/{WORD}> and [d](//127.0.0.1:9/{WORD}) may be links: nobody follows them by himself",
    f"```\n{TAGS[2]}\n```",
    f"| {TAGS[1]} | b |\n|---|---|\n| {TAGS[2]} | d |",
])  # fmt: skip
EMAIL = f'"><img/src=/{WORD}/onerror=window.{WORD}=1><svg/onload=window.{WORD}=1>{{}}@example.org'
FILE_NAME = f"{TAGS[1]}{TAGS[2]}.pdf"
LIVE = ", ".join(
    (f"[hx-get*={WORD}]", f"[src*={WORD}]", f"[action*={WORD}]", "[href^='javascript:' i]", "[href^='data:' i]",
     "[href^='vbscript:' i]", "[onerror]", "[onload]", "[onfocus]", "script:not([src])", "main svg[onload]")
)  # fmt: skip
SEEN_OF_EACH_KIND = 4  # pages that differ in their numbers only


@pytest.fixture
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    """Somebody with a hostile e-mail; the test fails when his browser fetches or says what it should not."""
    heard: list[str] = []
    context = browser.new_context(base_url=stack.web_url)
    context.set_default_timeout(30_000)
    watch(context, heard)
    yield context
    context.close()
    assert heard == []
    stack.ask_provider("DELETE", "/admin/faults")


def watch(context: BrowserContext, heard: list[str]) -> None:
    context.on("request", lambda request: heard.append(request.url) if WORD in urlsplit(request.url).path else None)
    context.on("dialog", lambda dialog: heard.append(f"a dialog: {dialog.message}"))
    context.on("console", lambda message: heard.append(message.text) if "Security Policy" in message.text else None)


@pytest.fixture
def page(context: BrowserContext) -> Page:
    page = context.new_page()
    page.goto("/register")
    page.eval_on_selector_all("form", "(forms) => forms.forEach((form) => { form.noValidate = true })")
    page.eval_on_selector("input[name=email]", "(field) => { field.type = 'text' }")
    page.fill("input[name=email]", EMAIL.format(time.time_ns()))
    page.fill("input[name=password]", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_url("**/jobs/new")
    return page


def run(page: Page, *names: str) -> None:
    """Submit PDFs of these names, to be run now."""
    page.goto("/jobs/new")
    page.check("input[name=executionMode][value=sync]")
    page.set_input_files(
        "input[type=file]", [{"name": name, "mimeType": "application/pdf", "buffer": PDF} for name in names]
    )
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/(jobs|submissions)/\d+$"))


def run_one(page: Page, stack: Stack, ends: str, /, **fault: object) -> None:
    """Run a document of which the provider says what `fault` names, and wait for its end."""
    stack.ask_provider("PUT", "/admin/faults", [fault])
    run(page, FILE_NAME)
    expect(page.locator(f"[data-status={ends}]").first).to_be_visible(timeout=60_000)
    nothing_lives(page)


def nothing_lives(page: Page) -> None:
    found = page.evaluate(
        f"""(live) => [...document.querySelectorAll(live)].map((element) => element.outerHTML)
            .concat(window.{WORD} ? ['it ran'] : [])""",
        LIVE,
    )
    assert found == [], f"{page.url}: {found}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{page.url} is {wide} px too wide"


def look_everywhere(page: Page, *starts: str) -> set[str]:
    """Follow every link within the site; returns the kinds of pages that were seen (`/jobs/#`)."""
    due, kinds = list(starts), {}  # type: ignore[var-annotated]
    known = set(due)
    while due:
        path = due.pop(0)
        kind = re.sub(r"\d+", "#", path.partition("?")[0])
        if kinds.setdefault(kind, 0) == SEEN_OF_EACH_KIND:
            continue
        kinds[kind] += 1
        page.goto(path)
        nothing_lives(page)
        links = page.eval_on_selector_all(
            "a[href]:not([download])", "(links) => links.map((a) => [a.origin, a.pathname + a.search])"
        )
        here = page.evaluate("location.origin")
        for origin, target in links:
            is_file = re.search(r"\.(csv|jsonl?|md)\b|/result\b|/export", target)
            if origin == here and target not in known and not is_file and not target.startswith("/static"):
                known.add(target)
                due.append(target)
    return set(kinds)


def test_hostile_content_is_only_text_on_every_page(
    page: Page, context: BrowserContext, admin: Page, stack: Stack
) -> None:
    run_one(page, stack, "completed", kind="other_text", text=MARKDOWN)
    expect(page.locator(".result h1")).to_have_text("A heading that shows that this was rendered")
    run_one(page, stack, "failed", kind="refusal", text=MARKDOWN)
    run_one(page, stack, "failed", kind="line_error", status=400, code=TAGS[0], message=MARKDOWN)
    stack.ask_provider("DELETE", "/admin/faults")
    run(page, f"1{FILE_NAME}", f"2{FILE_NAME}")
    page.goto("/jobs/new?profile=text_classification&rows=1")
    rows = "\n".join(json.dumps({"text": tag, "labels": f"{tag},{WORD}"}) for tag in TAGS)
    page.set_input_files(
        "input[type=file]", {"name": f"{TAGS[1]}.jsonl", "mimeType": "application/json", "buffer": rows.encode()}
    )
    page.get_by_role("button", name="Run").click()
    page.wait_for_url(re.compile(r"/submissions/\d+$"))
    expect(page.get_by_text(f"All {len(TAGS)} jobs have ended")).to_be_visible(timeout=60_000)

    seen = look_everywhere(page, "/jobs", "/submissions", "/jobs/new?profile=text_classification&rows=1", "/account")
    theirs = {
        "/jobs",
        "/jobs/#",
        "/jobs/#/raw",
        "/jobs/new",
        "/submissions",
        "/submissions/#",
        "/documents",
        "/webhooks",
    }
    assert theirs <= seen
    heard: list[str] = []
    watch(admin.context, heard)
    seen = look_everywhere(admin, "/admin", "/admin/audit")
    parts = {f"/admin/{name}" for name in ("audit", "failures", "queues", "users", "users/#", "windows")}
    assert {"/admin", "/jobs/#"} | parts <= seen
    assert heard == []


def test_a_megabyte_of_markdown_is_shown_in_part_and_whole_as_a_download(page: Page, stack: Stack) -> None:
    text = "\n\n".join([MARKDOWN] * (1_000_000 // len(MARKDOWN) + 1))
    run_one(page, stack, "completed", kind="other_text", text=text)
    expect(page.locator(".result h1").first).to_be_visible()
    assert len(page.content()) < 500_000
    assert page.request.get(f"{urlsplit(page.url).path}/result").text() == text
