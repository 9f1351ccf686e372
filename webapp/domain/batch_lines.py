"""One line of a batch output or error file. All three shapes of error lines (`docs/internal-api.md`) are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from webapp.domain.answers import Answer, read_answer, storable, transport_error
from webapp.domain.json_text import read_json, write_json
from webapp.domain.states import ItemOutcome

NOT_RUN = {"batch_expired": ItemOutcome.EXPIRED, "batch_cancelled": ItemOutcome.RELEASED}


@dataclass(frozen=True)
class Line:
    custom_id: str
    answer: Answer
    raw: str  # JSON text of what the line says

    @property
    def outcome(self) -> ItemOutcome:
        if self.answer.is_good:
            return ItemOutcome.COMPLETED
        if self.answer.is_billable:
            return ItemOutcome.FAILED  # whatever its code says: it ran
        return NOT_RUN.get(self.answer.error_code or "", ItemOutcome.FAILED)

    def with_answer(self, answer: Answer) -> Line:
        return replace(self, answer=answer)


def read_line(data: bytes | Mapping[str, Any]) -> Line | None:
    """Read one JSONL line (or an item given inline); None when it is not a line at all."""
    try:
        return _read(read_json(data) if isinstance(data, bytes) else data)
    except (ValueError, RecursionError):  # what can just be read may be nested too deeply to be written
        return None


def _read(item: Any) -> Line | None:
    custom_id = item.get("custom_id") if isinstance(item, dict) else None
    if not isinstance(custom_id, str) or custom_id != storable(custom_id):
        return None
    response, error = item.get("response"), item.get("error")
    if isinstance(response, dict):
        status = response.get("status_code")
        status = status if isinstance(status, int) and not isinstance(status, bool) and 0 <= status < 1000 else 0
        answer = read_answer(status, response.get("body"), {"x-request-id": response.get("request_id")})
        if answer.is_billable and answer.is_retryable:
            answer = replace(answer, is_retryable=False)  # nobody came in between: its own file will say this again
        return Line(custom_id, answer, write_json(response.get("body")))
    error = error if isinstance(error, dict) else {}
    code, message = error.get("code"), error.get("message")
    answer = transport_error(
        message if isinstance(message, str) else "The provider's line has neither an answer nor a reason.",
        code if isinstance(code, str) and code else "no_answer",
    )
    return Line(custom_id, answer, write_json(error))
