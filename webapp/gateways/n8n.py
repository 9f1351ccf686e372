"""n8n's webhooks: run a sync job, nudge the windows flow, ask whether it is alive."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from webapp.domain.errors import UnavailableService
from webapp.domain.traces import HEADER as TRACE_HEADER

NUDGE_PATH = "windows/nudge"
TOKEN_HEADER = "X-Sluice-Token"  # noqa: S105  (a header's name)
TIMEOUT_SECONDS = 2.0

# n8n is ours and near: no proxy of the environment may come between.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class N8n:
    url: str
    webhook_token: str
    span: Callable[[str], AbstractContextManager[str]] = nullcontext  # a job's traceparent → the one to hand on

    def run(self, webhook_path: str, payload: dict[str, Any], traceparent: str) -> None:
        """Hand a sync job to its workflow. Raises UnavailableService when n8n did not take it."""
        with self.span(traceparent) as handed_on:
            self._post(webhook_path, payload, {TRACE_HEADER: handed_on})

    def nudge(self) -> None:
        """Tell the windows flow that something is due. Raises UnavailableService."""
        self._post(NUDGE_PATH, {})

    def is_healthy(self) -> bool:
        try:
            with _opener.open(f"{self.url}/healthz", timeout=TIMEOUT_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _post(self, path: str, payload: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        request = urllib.request.Request(  # noqa: S310  (the address is a setting, http or https by its check)
            f"{self.url}/webhook/{path}",
            data=json.dumps(payload).encode(),
            headers={"Content-Type": "application/json", TOKEN_HEADER: self.webhook_token, **(headers or {})},
        )
        try:
            with _opener.open(request, timeout=TIMEOUT_SECONDS):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            refused = UnavailableService(f"n8n answered {error.code} to {path}")
            refused.is_unreachable = False
            raise refused from error
        except OSError as error:
            raise UnavailableService(f"n8n did not answer: {error}") from error
