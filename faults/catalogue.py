"""The table of faults: what happens, at which named step and moment, or at any moment.

A name says it all: `create/done/kill-n8n` is "the provider has made the batch and answered, n8n was killed before it
heard". `make faults` deals this table like a deck of cards, shuffled by the seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from faults.proxy import Moment

PARTS = ("web", "internal", "heartbeat", "n8n", "postgres", "provider")
LINKS = ("internal", "provider", "n8n")


@dataclass(frozen=True)
class Step:
    """A request between two parts: who asks whom, on which link, and the first line that tells it."""

    name: str
    asker: str
    answerer: str
    pattern: str
    setup: str = ""  # what has to go wrong first, so that anybody gets here (scene.py)

    @property
    def link(self) -> str:
        return self.answerer


_WINDOW = r"^POST /api/internal/batches/\d+"
STEPS = {
    step.name: step
    for step in (
        Step("dispatch", "web", "n8n", "^POST /webhook/jobs/run "),
        Step("nudge", "heartbeat", "n8n", "^POST /webhook/windows/nudge "),
        Step("start", "n8n", "internal", r"^POST /api/internal/jobs/\d+/start "),
        Step("ask", "n8n", "provider", "^POST /v1/(responses|chat/completions) "),
        Step("write-back", "n8n", "internal", r"^POST /api/internal/jobs/\d+/result "),
        Step("open", "n8n", "internal", "^POST /api/internal/batches/open "),
        Step("lease", "n8n", "internal", "^POST /api/internal/batches/lease "),
        Step("input-file", "n8n", "internal", f"{_WINDOW}/input-file "),
        Step("upload", "internal", "provider", "^POST /v1/files "),
        Step("create", "n8n", "provider", "^POST /v1/batches "),
        Step("answer", "n8n", "internal", f"{_WINDOW}/answer "),
        Step("find", "n8n", "provider", r"^GET /v1/batches\?", "the answer to create is lost"),
        Step("fence", "internal", "provider", "^DELETE /v1/files/", "create never arrives"),
        Step("poll", "n8n", "provider", r"^GET /v1/batches/batch_"),
        Step("cancel", "n8n", "provider", r"^POST /v1/batches/\w+/cancel ", "the window is to be cancelled"),
        Step("ingest", "n8n", "internal", f"{_WINDOW}/ingest "),
        Step("download", "internal", "provider", "^GET /v1/files/[^/ ]+/content "),
    )
}


@dataclass(frozen=True)
class Fault:
    """One row. Without a step it happens at a random moment."""

    name: str
    step: Step | None = None
    moment: Moment | None = None
    kills: tuple[str, ...] = ()
    cuts: bool = False  # the connection of this request
    cuts_link: str = ""  # every connection of a link that is open now
    refuses: str = ""  # a link refuses for a while
    switch: dict[str, Any] = field(default_factory=dict)  # the provider's own fault (offline_provider/README.md)


def _at_steps() -> Iterator[Fault]:
    for step in STEPS.values():
        for moment in (Moment.BEFORE, Moment.DONE, Moment.AFTER):
            yield _kill(step, moment, step.asker, cuts=moment is not Moment.AFTER)
        for moment in (Moment.DURING, Moment.DONE):
            yield _kill(step, moment, step.answerer, cuts=True)
        yield _kill(step, Moment.DURING, "postgres", cuts=False)
        for moment in (Moment.BEFORE, Moment.DONE):
            yield Fault(f"{step.name}/{moment}/cut", step, moment, cuts=True)


def _kill(step: Step, moment: Moment, part: str, *, cuts: bool) -> Fault:
    return Fault(f"{step.name}/{moment}/kill-{part}", step, moment, kills=(part,), cuts=cuts)


def _at_any_moment() -> Iterator[Fault]:
    for part in PARTS:
        yield Fault(f"any/kill-{part}", kills=(part,))
    for two in combinations(PARTS, 2):
        yield Fault(f"any/kill-{'-and-'.join(two)}", kills=two)
    yield Fault("any/kill-all", kills=PARTS)
    for link in LINKS:
        yield Fault(f"any/cut-{link}", cuts_link=link)
        yield Fault(f"any/refuse-{link}", refuses=link)


_SWITCHES: dict[str, dict[str, Any]] = {
    "http-500": {"kind": "http_error", "status": 500, "times": 3},
    "http-503-retry-after": {"kind": "http_error", "status": 503, "retry_after": 3, "times": 3},
    "http-429": {"kind": "http_error", "status": 429, "code": "rate_limit_exceeded", "retry_after": 2, "times": 3},
    "create-500": {"kind": "http_error", "status": 500, "match": {"request": "POST /v1/batches"}, "times": 1},
    "create-429": {"kind": "http_error", "status": 429, "match": {"request": "POST /v1/batches"}, "times": 2},
    "drop-before": {"kind": "drop_before", "times": 3},
    "drop-after": {"kind": "drop_after", "times": 3},
    "create-drop-after": {"kind": "drop_after", "match": {"request": "POST /v1/batches"}, "times": 1},
    "upload-drop-after": {"kind": "drop_after", "match": {"request": "POST /v1/files"}, "times": 1},
    "find-slow": {"kind": "slow", "seconds": 2, "match": {"request": "GET /v1/batches*"}, "times": 2},
    "slow-after": {"kind": "slow_after", "seconds": 2, "times": 3},
    "garbage": {"kind": "garbage_body", "form": "not_json", "times": 2},
    "truncated": {"kind": "garbage_body", "form": "truncated", "times": 2},
    "file-cut-short": {
        "kind": "cut_body", "bytes": 300, "says": "short", "match": {"request": "GET /v1/files/*/content"}, "times": 1,
    },
    "file-broken-off": {
        "kind": "cut_body", "bytes": 300, "says": "whole", "match": {"request": "GET /v1/files/*/content"}, "times": 1,
    },
    "refusal": {"kind": "refusal", "times": 2},
    "incomplete": {"kind": "incomplete", "times": 2},
    "failed-body": {"kind": "failed_body", "times": 2},
    "no-usage": {"kind": "no_usage", "times": 1},
    "line-500": {"kind": "line_error", "status": 500, "match": {"mode": "batch"}, "times": 2},
    "line-400": {"kind": "line_error", "status": 400, "match": {"mode": "batch"}, "times": 1},
    "status-zero": {"kind": "status_zero", "times": 1},
    "missing-lines": {"kind": "missing_lines", "every": 2, "times": 2},
    "doubled-lines": {"kind": "doubled_lines", "times": 1},
    "error-in-output": {"kind": "error_in_output", "times": 1},
    "validation-line": {"kind": "validation_error", "code": "invalid_json_line", "line": 2, "times": 1},
    "token-limit": {"kind": "validation_error", "code": "token_limit_exceeded", "times": 1},
    "stall-validating": {"kind": "stall_validating", "times": 1},
    "stall": {"kind": "stall", "times": 1},
    "long-finalizing": {"kind": "long_finalizing", "times": 1},
    "expire": {"kind": "expire_now", "times": 1},
    "all-failed": {"kind": "all_failed", "status": 500, "times": 1},
    "unknown-lines": {"kind": "unknown_lines", "times": 1},
    "malformed-lines": {"kind": "malformed_lines", "long_bytes": 100_000, "times": 1},
    "shuffle": {"kind": "shuffle", "times": 1},
    "wrong-counts": {"kind": "wrong_counts", "total": 9, "completed": 0, "failed": 9, "times": 1},
    "empty-file-ids": {"kind": "empty_file_ids", "times": 1},
    "vanish": {"kind": "vanish", "times": 1},
}  # fmt: skip


def _at_the_provider() -> Iterator[Fault]:
    for name, switch in _SWITCHES.items():
        yield Fault(f"provider/{name}", switch=switch)


CATALOGUE = {fault.name: fault for rows in (_at_steps(), _at_any_moment(), _at_the_provider()) for fault in rows}
