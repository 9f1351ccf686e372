"""People who use the running system, and how to wait for what it does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from devstack.stack import Stack
from webapp.domain.scopes import Scope

PASSWORD = "correct horse battery"
PATIENCE_SECONDS = 90


def await_(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask until the condition gives something true; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)
    return found


def csrf_token(page: str) -> str:
    """What a form of this page sends along to show that it is ours."""
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found, page[:1000]
    return found[1]


class Person:
    """Somebody with a browser that has no JavaScript."""

    def __init__(self, stack: Stack, email: str) -> None:
        self.email = email
        self.http = httpx2.Client(base_url=stack.web_url, timeout=30)
        form = {"email": email, "password": PASSWORD, "csrf_token": self._token("/register")}
        assert self.http.post("/register", data=form).status_code == 303

    def run(self, *documents: Path, **values: Any) -> list[int]:
        """Submit the form; returns the ids of the jobs that were made, oldest first."""
        before = self._job_ids()
        answer = self.submit(*documents, **values)
        assert answer.status_code == 303, answer.text
        return sorted(self._job_ids() - before)

    def submit(self, *documents: Path, **values: Any) -> httpx2.Response:
        """Submit the form of a profile (default: the summary of a PDF)."""
        form = (
            values
            if "profile" in values
            else {"profile": "pdf_summary", "audience": "general", "bullets": "5"} | values
        )
        files = [("document", (path.name, path.read_bytes(), "application/pdf")) for path in documents]
        return self.http.post("/jobs/new", data=form | {"csrf_token": self._token("/jobs/new")}, files=files)

    def make_token(self) -> str:
        """An API token of this person."""
        form = {"name": "tests", "csrf_token": self._token("/account"), "expiry": "never", "scopes": [*Scope]}
        found = re.search(r"sluice_[\w-]{40,}", self.http.post("/account/tokens", data=form).text)
        assert found
        return found[0]

    def status(self, job_id: int) -> str:
        """The status that the job's page shows."""
        found = re.search(r'data-status="(\w+)"', self.page(job_id))
        assert found
        return found[1]

    def page(self, job_id: int) -> str:
        return self.http.get(f"/jobs/{job_id}").raise_for_status().text

    def await_status(self, job_id: int, status: str = "completed") -> str:
        """Wait for a status; returns the page."""
        await_(lambda: self.status(job_id) == status, f"job {job_id}: {status}")
        return self.page(job_id)

    def result(self, job_id: int) -> str:
        return self.http.get(f"/jobs/{job_id}/result").raise_for_status().text

    def _token(self, path: str) -> str:
        return csrf_token(self.http.get(path).text)

    def _job_ids(self) -> set[int]:
        return {int(number) for number in re.findall(r'href="/jobs/(\d+)"', self.http.get("/jobs").text)}
