"""The main pages as pictures, light and dark, wide and narrow, for docs/pages.md.

    python3 -m devstack tool python -m tools.screenshots [FOLDER]

A throw-away stack is filled through its own forms: jobs now and in batches, failed ones among them. A page that is
wider than its window is named.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from devstack.stack import ADMIN_EMAIL, Stack
from tests.browser.conftest import ARGUMENTS
from tests.people import PASSWORD, Person, await_

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
SIZES = {1280: 860, 390: 844}  # width: height, in CSS pixels
MOST_HEIGHT = 1300
EMAIL = "ada@example.org"
TEXTS = ("I was charged twice.", "Where is my parcel?", "The app does not start.", "Thank you, it works.")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"MAX_BATCH_SIZE": "20", "POLL_SECONDS": "1", "OFFLINE_IN_PROGRESS_SECONDS": "2"}
    with Stack.throwaway(environment) as stack, sync_playwright() as playwright:
        person = Person(stack, EMAIL)
        _fill(person, stack)
        person.http.close()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for scheme, width in product(("light", "dark"), SIZES):
            for name, page in _pages(browser, stack, scheme, width):
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if wide > 0:
                    print(f"{name} is {wide} px too wide at {width}")
                height = min(page.evaluate("document.documentElement.scrollHeight"), MOST_HEIGHT)
                page.set_viewport_size({"width": width, "height": max(height, SIZES[width])})
                page.screenshot(path=folder / f"{name}-{width}-{scheme}.png")
        browser.close()


def _fill(person: Person, stack: Stack) -> None:
    """Jobs in every state that a person meets."""
    stack.ask_provider(
        "PUT", "/admin/faults", [{"kind": "line_error", "status": 400, "code": "content_filter", "times": 3}]
    )
    history, pages = DATA / "debian-history.pdf", DATA / "two-pages.pdf"
    for _ in range(2):
        for job_id in person.run(pages, executionMode="sync"):
            await_(lambda job_id=job_id: _is_over(person, job_id), "a first run ends")  # type: ignore[misc]
    person.run(*[history, pages] * 10, executionMode="batch")
    await_(lambda: "All 20 jobs have ended" in person.http.get("/submissions/1").text, "the files' end")
    stack.ask_provider("DELETE", "/admin/faults")
    rows = "\n".join(
        json.dumps({"text": f"{TEXTS[n % 4]} (ticket {n})", "labels": "money, parcel, app, other"}) for n in range(24)
    )
    page = person.http.get("/jobs/new?profile=text_classification&rows=1").text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    form = hidden | {"csrf_token": token[1], "profile": "text_classification", "executionMode": "batch"}
    sent = {"rows-file": ("tickets.jsonl", rows.encode(), "application/x-ndjson")}
    assert person.http.post("/jobs/new", data=form, files=sent).status_code == 303
    [job_id] = person.run(history, executionMode="sync")
    person.await_status(job_id)


def _is_over(person: Person, job_id: int) -> bool:
    return person.status(job_id) in {"completed", "failed"}


def _pages(browser: Browser, stack: Stack, scheme: str, width: int) -> Iterator[tuple[str, Page]]:
    """(name, the page) of each, ready to be taken."""
    people = {"person": (EMAIL, PASSWORD), "admin": (ADMIN_EMAIL, stack.secrets.admin_password)}
    for who, (email, password) in people.items():
        context = browser.new_context(base_url=stack.web_url, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page = context.new_page()
        page.goto("/login")
        page.fill("input[name=email]", email)
        page.fill("input[name=password]", password)
        page.click("input[type=submit]")
        page.wait_for_url("**/jobs")
        for name, path, prepare in VISITS[who]:
            page.set_viewport_size({"width": width, "height": SIZES[width]})
            page.goto(path)
            prepare(page)
            yield name, page
        context.close()


def _nothing(page: Page) -> None:
    page.wait_for_load_state("load")


def _choose_files(page: Page) -> None:
    names = ("debian-history.pdf", "two-pages.pdf", "encrypted.pdf")
    page.set_input_files("input[type=file]", [DATA / name for name in names])
    page.locator(".estimate-files tbody tr, .estimate strong").first.wait_for()
    page.locator(".file-row.is-bad").wait_for()


def _first_completed(page: Page) -> None:
    page.locator("tr:has([data-status=completed]) a[href^='/jobs/']").first.click()
    page.locator(".result").wait_for()


def _drawn(page: Page) -> None:
    page.locator(".uplot canvas").first.wait_for()


Visit = tuple[str, str, Callable[[Page], None]]
VISITS: dict[str, list[Visit]] = {
    "person": [
        ("new-run", "/jobs/new", _choose_files),
        ("submission", "/submissions/1", _nothing),
        ("job", "/jobs", _first_completed),
        ("history", "/jobs", _nothing),
    ],
    "admin": [
        ("admin", "/admin", _nothing),
        ("window", "/admin/windows/1", _nothing),
        ("costs", "/admin/costs", _drawn),
        ("users", "/admin/users", _nothing),
    ],
}

if __name__ == "__main__":
    main(Path(*sys.argv[1:2]) if sys.argv[1:] else ROOT / "docs" / "images" / "pages")
