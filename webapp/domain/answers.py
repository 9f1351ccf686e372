"""What a provider said: one reading for sync answers (from n8n) and for the lines of batch files.

Shapes follow OpenAI's Responses and Chat Completions (openai 3.54 types; `docs/internal-api.md` lists what
we keep). Everything here is hostile input: a wrong type is read as "not there", never as a crash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

RETRYABLE_STATUS = frozenset({0, 408, 409, 425, 429, 500, 502, 503, 504, 529})
NEVER_RETRY_CODES = frozenset({"insufficient_quota", "invalid_api_key"})
NEVER_SENT_CODES = frozenset({"ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"})  # Node's words
MAX_RETRY_AFTER_SECONDS = 3600.0
MOST_COUNTED = 10**10
LOST_KEY = "lost"  # the key of an answer that never came: no other answer has it
MAX_ID = 200


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider counted them. `cached_input` and `cache_write` are parts of `input`, `reasoning` of
    `output`."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0  # written to the prompt cache for later requests, above the input price
    long_cache_write_tokens: int = 0  # … of these, kept for 12 hours, at a price of their own
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Answer:
    """One provider answer. `text` is set when it is good; else `error_code` and `error_message` are."""

    status_code: int
    key: str  # response id, else sha256 of the answer: the same answer twice has the same key
    text: str | None = None
    response_id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    service_tier: str | None = None  # what was really used; None where the provider does not say
    answered_at: datetime | None = None  # by the provider's clock, whole seconds
    is_cut: bool = False  # max_output_tokens ended it: the text is what was paid for
    error_code: str | None = None
    error_message: str | None = None
    is_retryable: bool = False
    retry_after_seconds: float | None = None
    provider_ms: int | None = None
    request_id: str | None = None

    @property
    def is_good(self) -> bool:
        return self.text is not None

    @property
    def is_definite_refusal(self) -> bool:
        """The provider surely did nothing: a 4xx (but 408, a time-out on its side), or the call never reached it."""
        if self.status_code == 0:
            return self.error_code in NEVER_SENT_CODES
        return 400 <= self.status_code < 500 and self.status_code != 408

    @property
    def is_refusal_for_good(self) -> bool:
        """A definite refusal that neither time nor a better key mends: the request itself is wrong."""
        is_quota = "token_limit" in f"{self.error_code} {self.error_message}".lower()
        return self.status_code in (400, 404, 405, 413, 415, 422) and not is_quota

    @property
    def may_have_been_paid(self) -> bool:
        """No answer came, but the provider may have worked: a time-out, a connection that broke."""
        return self.status_code == 0 and self.error_code not in NEVER_SENT_CODES

    @property
    def is_billable(self) -> bool:
        """A 2xx answer was produced and is paid, whatever it says; an HTTP error is not."""
        return 200 <= self.status_code < 300


def read_answer(status_code: int, body: Any, headers: Mapping[str, Any] | None = None) -> Answer:
    """Read an HTTP answer of `/v1/responses` or `/v1/chat/completions`.

    `body` is the parsed JSON (any type) or text; `headers` is a mapping with lower-case names.
    """
    headers = headers if isinstance(headers, Mapping) else {}
    found = _read_body(status_code, body)
    return Answer(
        status_code=status_code,
        key=found.get("response_id") or _digest([status_code, body]),
        provider_ms=_whole(headers.get("openai-processing-ms")),
        request_id=(_text(headers.get("x-request-id")) or "")[:MAX_ID] or None,
        retry_after_seconds=_retry_after(headers),
        **found,
    )


def transport_error(message: str, code: str = "no_answer") -> Answer:
    """The provider could not be reached, or did not answer in time."""
    return Answer(
        status_code=0, key=_digest(message), error_code=(_text(code) or "no_answer")[:100],
        error_message=(_text(message) or "The provider did not answer.")[:2000], is_retryable=True,
    )  # fmt: skip


def _read_body(status_code: int, body: Any) -> dict[str, Any]:
    if not 200 <= status_code < 300:
        return _read_error(status_code, body)
    if not isinstance(body, dict):
        # Something in between may have answered for the provider: another attempt may bring what was asked for.
        return _refused("unreadable_answer", "The provider's answer is not a JSON object.") | {"is_retryable": True}
    common = {
        "response_id": _id(body.get("id")), "model": _text(body.get("model")), "usage": _usage(body),
        "service_tier": _text(body.get("service_tier")), "answered_at": _answered_at(body),
    }  # fmt: skip
    if body.get("object") == "chat.completion" or "choices" in body:
        return common | _read_chat(body)
    return common | _read_response(body)


def _read_response(body: Mapping[str, Any]) -> dict[str, Any]:
    status = body.get("status")
    parts = [part for item in _list(body.get("output")) if isinstance(item, dict) and item.get("type") == "message"
             for part in _list(item.get("content")) if isinstance(part, dict)]  # fmt: skip
    text = "".join(part["text"] for part in parts if part.get("type") == "output_text" and _text(part.get("text")))
    refusal = next((_text(part.get("refusal")) for part in parts if part.get("type") == "refusal"), None)
    if status == "failed":
        error = _mapping(body.get("error"))
        return _refused(_text(error.get("code")) or "failed", _text(error.get("message")) or "The provider failed.")
    if refusal and not text:
        return _refused("refused", f"The model refused: {refusal}")
    reason = _text(_mapping(body.get("incomplete_details")).get("reason"))
    return _good_or_refused(text, is_cut=status == "incomplete", reason=reason)


def _read_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    choices = _list(body.get("choices"))
    choice = _mapping(choices[0]) if choices else {}
    message = _mapping(choice.get("message"))
    if refusal := _text(message.get("refusal")):
        return _refused("refused", f"The model refused: {refusal}")
    finish = _text(choice.get("finish_reason"))
    return _good_or_refused(
        _text(message.get("content")) or "", is_cut=finish in ("length", "content_filter"), reason=finish
    )


def _good_or_refused(text: str, *, is_cut: bool, reason: str | None) -> dict[str, Any]:
    if not text.strip():
        why = f" ({reason})" if reason else ""
        return _refused("empty_answer", f"The provider's answer has no text{why}.")
    return {"text": storable(text), "is_cut": is_cut}


def _read_error(status_code: int, body: Any) -> dict[str, Any]:
    error = _mapping(_mapping(body).get("error"))
    code = _text(error.get("code")) or _text(error.get("type")) or f"http_{status_code}"
    message = _text(error.get("message")) or (_text(body) if isinstance(body, str) else None)
    return {
        "error_code": code[:100],
        "error_message": storable(message or _answered(status_code))[:2000],
        "is_retryable": (status_code in RETRYABLE_STATUS or status_code >= 500) and code not in NEVER_RETRY_CODES,
    }


def _answered(status_code: int) -> str:
    return f"The provider answered {status_code}." if status_code else "The provider did not answer."


def _refused(code: str, message: str) -> dict[str, Any]:
    return {"error_code": code[:100], "error_message": storable(message)[:2000]}


def _usage(body: Mapping[str, Any]) -> Usage | None:
    """Responses and Chat name the same counts differently. Half a usage is no usage."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    input_tokens = _whole(usage.get("input_tokens", usage.get("prompt_tokens")))
    output_tokens = _whole(usage.get("output_tokens", usage.get("completion_tokens")))
    if input_tokens is None or output_tokens is None:
        return None
    input_details = usage.get("input_tokens_details", usage.get("prompt_tokens_details"))
    output_details = usage.get("output_tokens_details", usage.get("completion_tokens_details"))
    cached = min(_detail(input_details, "cached_tokens"), input_tokens)
    written = min(_detail(input_details, "cache_write_tokens"), input_tokens - cached)
    long_written = _detail(_mapping(input_details).get("cache_write_tokens_details"), "ttl_12h_tokens")
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        long_cache_write_tokens=min(long_written, written),
        reasoning_tokens=min(_detail(output_details, "reasoning_tokens"), output_tokens),
    )


def _answered_at(body: Mapping[str, Any]) -> datetime | None:
    """When the answer was made: Responses say `completed_at` or `created_at`, Chat `created`, all Unix seconds."""
    for name in ("completed_at", "created_at", "created"):
        if seconds := _whole(body.get(name)):
            return datetime.fromtimestamp(seconds, UTC)
    return None


def _detail(details: Any, name: str) -> int:
    return _whole(_mapping(details).get(name)) or 0


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` in seconds; bounded, a date is not understood."""
    for name, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers[name]) / divisor
        except (KeyError, TypeError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return min(seconds, MAX_RETRY_AFTER_SECONDS)
    return None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return storable(value) if isinstance(value, str) and value else None


def _id(value: Any) -> str | None:
    """A response id; one that cannot be a key in the database (too long, or LOST_KEY) is none."""
    return _text(value) if isinstance(value, str) and len(value) <= MAX_ID and value != LOST_KEY else None


def _whole(value: Any) -> int | None:
    """A count below MOST_COUNTED, or None: what is larger is no count of tokens or milliseconds."""
    if type(value) is int:
        return value if 0 <= value < MOST_COUNTED else None
    if not isinstance(value, float | str):
        return None
    try:
        number = int(float(value))
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number < MOST_COUNTED else None


def storable(text: str) -> str:
    """PostgreSQL's text has no NUL, UTF-8 has no lone surrogates."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")
