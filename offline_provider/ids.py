"""Identifiers in the shapes that OpenAI gives them."""

import secrets
import string
import uuid

_ALPHANUMERIC = string.ascii_letters + string.digits


def _alphanumeric(length: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))


def file_id() -> str:
    return "file-" + _alphanumeric(22)


def batch_id(created_at: float) -> str:
    """The first eight hex digits are the creation time in unix seconds, as on the real service."""
    return f"batch_{int(created_at):08x}{secrets.token_hex(12)}"


def azure_file_id() -> str:
    return "file-" + secrets.token_hex(16)


def azure_batch_id(created_at: float) -> str:
    return f"batch_{uuid.uuid4()}"


def batch_request_id() -> str:
    return "batch_req_" + secrets.token_hex(16)


def request_id() -> str:
    return "req_" + secrets.token_hex(16)


def response_id() -> str:
    return "resp_" + secrets.token_hex(25)


def item_id(prefix: str) -> str:
    """`prefix` is "msg" or "rs" (reasoning)."""
    return f"{prefix}_{secrets.token_hex(25)}"


def chat_completion_id() -> str:
    return "chatcmpl-" + _alphanumeric(29)
