"""People at work: jobs through the real API, each with a code word of its own in its text.

The probes' answer is their text (faults/profiles), so the code in a result tells whose it is. A submission whose
answer nobody heard may have made a job or not; the judge looks for its code in the database.
"""

from __future__ import annotations

import random
import string
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from faults.system import LinkedStack
from tests.people import PATIENCE_SECONDS, Person

CODE = r"\bZX[A-Z0-9]{8}\b"
# Profile, strategy (None: sync), how many: some that run now, a full window, two that wait for the clock.
ROUND = (
    ("probe_response", None, 2),
    ("probe_chat", None, 1),
    ("probe_response", "count_only", 4),
    ("probe_chat", "count_or_wait", 2),
    ("probe_response", "deadline", 1),
)
NEEDED_IN = timedelta(seconds=2400)  # 600 s later it has to leave the batch


@dataclass
class Submission:
    """One job that somebody wanted. `status` is the API's answer; None: nobody heard one."""

    code: str
    profile: str
    strategy: str | None
    need_by: datetime | None = None
    status: int | None = None
    job_id: int | None = None

    @property
    def is_accepted(self) -> bool:
        return self.status == 202

    @property
    def inputs(self) -> dict[str, Any]:
        text = f"The keeper {self.code} opened the gate. The water of {self.code} ran to the mill. {self.code} slept."
        inputs = {"text": text}
        if self.strategy:
            inputs |= {"executionMode": "batch", "batchStrategy": self.strategy}
        if self.need_by:
            inputs |= {"needBy": self.need_by.isoformat()}
        return inputs


class Load:
    """Everything that was ever submitted in this run."""

    def __init__(self, stack: LinkedStack, rng: random.Random) -> None:
        self._stack = stack
        self.submissions: list[Submission] = []
        self._rng = rng
        self._person = Person(stack, "load@example.org")
        headers = {"Authorization": f"Bearer {self._person.make_token()}"}
        self._http = httpx2.Client(base_url=f"{stack.web_url}/api/v1", headers=headers, timeout=30)
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, wanted: Sequence[tuple[str, str | None, int]] = ROUND) -> None:
        """Submit these in a thread of their own, in some order."""
        todo = [Submission(self._code(), profile, how) for profile, how, count in wanted for _ in range(count)]
        self._rng.shuffle(todo)
        self._thread = threading.Thread(target=self._submit, args=(todo,), name="load", daemon=True)
        self._thread.start()

    def join(self) -> None:
        if self._thread:
            self._thread.join()

    def close(self) -> None:
        self._http.close()
        self._person.http.close()

    def _submit(self, todo: Sequence[Submission]) -> None:
        for one in todo:
            self.submissions.append(one)
            if one.strategy == "deadline":
                one.need_by = datetime.now(UTC) + timedelta(seconds=self._stack.ahead) + NEEDED_IN
            try:
                answer = self._send(one)
            except httpx2.TransportError:
                continue
            one.status = answer.status_code
            one.job_id = answer.json()["id"] if one.is_accepted else None

    def _send(self, one: Submission) -> httpx2.Response:
        """Where nobody listens nothing was sent, so people try again. Raises TransportError for a broken connection."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self._http.post("/jobs", json={"profile": one.profile, "inputs": one.inputs})
            except httpx2.ConnectError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _code(self) -> str:
        return "ZX" + "".join(self._rng.choices(string.ascii_uppercase + string.digits, k=8))
