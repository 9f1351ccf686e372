"""POST /v1/chat/completions: from the request body to a prompt, and back to a ChatCompletion object."""

from . import clock, ids
from . import request_fields as common
from .documents import Documents
from .errors import unsupported
from .fields import Fields, metadata
from .generation import Generated
from .prompt import Message, Prompt

KNOWN = common.names(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens"
    " max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction"
    " presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention"
    " reasoning_effort response_format safety_identifier seed service_tier stop store stream"
    " stream_options temperature tool_choice tools top_logprobs top_p user verbosity"
    " web_search_options"
)
SCHEMA_PARAM = "response_format"
_PART_TYPES = ("text", "image_url", "file", "refusal")
_ROLES = ("user", "assistant", "system", "developer", "tool", "function")


def read_prompt(body: dict, documents: Documents) -> Prompt:
    fields = Fields(body)
    fields.only(KNOWN)
    model = common.read_model(fields)
    _check(fields)
    effort = common.read_effort(fields, "reasoning_effort", model)
    common.check_sampling(fields, model, effort)
    common.check_max_tokens_name(fields, model)
    max_completion_tokens = fields.integer("max_completion_tokens", 1)
    max_tokens = fields.integer("max_tokens", 1)
    return Prompt(
        model=model,
        messages=_read_messages(fields, documents),
        format=common.read_format(fields, "response_format", nested="json_schema"),
        service_tier=common.service_tier(fields),
        max_tokens=max_tokens if max_completion_tokens is None else max_completion_tokens,
        effort=effort,
        has_cache_key=bool(fields.text("prompt_cache_key")),
    )


def render(body: dict, prompt: Prompt, answer: Generated) -> dict:
    return {
        "id": ids.chat_completion_id(),
        "object": "chat.completion",
        "created": int(clock.now()),
        "model": prompt.model.base_name,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": answer.text,
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "length" if answer.is_cut else "stop",
            }
        ],
        "usage": _usage(prompt, answer),
        "service_tier": prompt.service_tier,
        "system_fingerprint": None,
    }


def _check(fields: Fields) -> None:
    fields.refuse("stream", "streaming (`stream: true`)")
    fields.refuse("tools", "tools")
    fields.refuse("functions", "functions")
    fields.refuse("audio", "audio")
    if fields.integer("n", 1) not in (None, 1):
        raise unsupported("n", "more than one choice")
    metadata(fields)
    common.check_strings(fields)
    fields.text("verbosity", choices=("low", "medium", "high"))
    for name in ("frequency_penalty", "presence_penalty"):
        fields.number(name, -2, 2)


def _read_messages(fields: Fields, documents: Documents) -> tuple[Message, ...]:
    given = common.not_empty(fields.array("messages", required=True), "messages")
    messages = [Fields(value, f"messages[{number}]") for number, value in enumerate(given)]
    return tuple(_read_message(message, documents) for message in messages)


def _read_message(message: Fields, documents: Documents) -> Message:
    role = message.text("role", required=True, choices=_ROLES)
    # Only an assistant's message may be empty: it may have called a tool instead.
    content = message.get("content", (str, list), "one of a string or an array", required=role != "assistant")
    if not isinstance(content, list):
        return Message(role, (content or "",))
    texts, images = [], 0
    for number, value in enumerate(content):
        part = Fields(value, f"{message.path('content')}[{number}]")
        kind = part.text("type", required=True, choices=_PART_TYPES)
        if kind == "text":
            texts.append(part.text("text", required=True))
        elif kind == "file":
            texts.append(documents.text_of(part.object("file", required=True), pdf_only=True))
        elif kind == "image_url":
            images += 1
    return Message(role, tuple(texts), images)


def _usage(prompt: Prompt, answer: Generated) -> dict:
    return {
        "prompt_tokens": prompt.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": prompt.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": prompt.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
