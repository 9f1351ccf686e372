"""The one place where a request is answered, for a caller who waits and for a line of a batch alike.

A fault that changes answers (a slow model, a refusal, a 429) belongs in `answer`.
"""

from dataclasses import dataclass

from . import chat, clock, responses
from .documents import Documents
from .errors import ApiError
from .generation import generate
from .schema import InvalidSchema

ENDPOINTS = {"/v1/responses": responses, "/v1/chat/completions": chat}


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


def answer(endpoint: str, body: dict, documents: Documents) -> Answer:
    """`body` is a JSON object. What is wrong with it becomes an answer too, not an exception."""
    started = clock.stopwatch()
    kind = ENDPOINTS[endpoint]
    try:
        prompt = kind.read_prompt(body, documents)
        generated = generate(prompt)
        result = kind.render(body, prompt, generated)
    except ApiError as fault:
        if isinstance(fault, InvalidSchema):
            fault.param = kind.SCHEMA_PARAM
        return Answer(fault.status, fault.body(), _model_name(body), _ms_since(started))
    return Answer(
        status=200,
        body=result,
        model=prompt.model.id,
        provider_ms=_ms_since(started),
        response_id=result["id"],
        input_tokens=prompt.input_tokens,
        cached_tokens=prompt.cached_tokens,
        output_tokens=generated.output_tokens,
        reasoning_tokens=generated.reasoning_tokens,
    )


def _ms_since(started: float) -> float:
    return round((clock.stopwatch() - started) * 1000, 2)


def _model_name(body: dict) -> str | None:
    model = body.get("model")
    return model[:100] if isinstance(model, str) else None
