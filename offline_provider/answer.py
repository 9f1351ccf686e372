"""What one request gets, and what it costs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    status: int  # HTTP
    body: dict
    model: str | None
    provider_ms: float
    response_id: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    is_billed: bool = False
