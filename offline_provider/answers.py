"""The one place where a request is answered, for a caller who waits and for a line of a batch alike."""

from . import answer_faults, chat, clock, flavours, responses
from .answer import Answer
from .documents import Documents
from .errors import ApiError
from .faults import Strikes
from .generation import generate
from .schema import InvalidSchema

ENDPOINTS = {"/v1/responses": responses, "/v1/chat/completions": chat}


def answer(endpoint: str, body: dict, documents: Documents, strikes: Strikes, facts: dict) -> Answer:
    """`body` is a JSON object. What is wrong with it becomes an answer too, not an exception.

    `facts`: what the `match` of a fault may ask beside that; always the `mode`, sync or batch.
    """
    honest = _honest_answer(endpoint, body, documents, facts["mode"])
    facts = {**facts, "endpoint": endpoint, "model": honest.model, "body": body}
    return answer_faults.apply(strikes, honest, facts)


def _honest_answer(endpoint: str, body: dict, documents: Documents, mode: str) -> Answer:
    started = clock.stopwatch()
    kind = ENDPOINTS[endpoint]
    try:
        prompt = kind.read_prompt(body, documents)
        if not prompt.model.serves(mode):
            raise prompt.model.wrong_sku(mode)
        generated = generate(prompt)
        result = flavours.current().decorate(endpoint, kind.render(body, prompt, generated))
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
        is_billed=True,
    )


def _ms_since(started: float) -> float:
    return round((clock.stopwatch() - started) * 1000, 2)


def _model_name(body: dict) -> str | None:
    model = body.get("model")
    return model[:100] if isinstance(model, str) else None
