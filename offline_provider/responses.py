"""POST /v1/responses: from the request body to a prompt, and from the answer to a Response object."""

from . import clock, ids
from . import request_fields as common
from .documents import Documents
from .fields import Fields, metadata
from .generation import Generated
from .prompt import Message, Prompt

KNOWN = common.names(
    "access_programs background background_options context_management conversation image include"
    " input instructions max_output_tokens max_tool_calls metadata model moderation"
    " parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options"
    " prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options"
    " temperature text tool_choice tools top_logprobs top_p truncation user"
)
SCHEMA_PARAM = "text.format.schema"
_TEXT_PARTS = ("input_text", "output_text")
_PART_TYPES = (*_TEXT_PARTS, "refusal", "input_image", "input_file")
_ROLES = ("user", "assistant", "system", "developer")


def read_prompt(body: dict, documents: Documents) -> Prompt:
    fields = Fields(body)
    fields.only(KNOWN)
    model = common.read_model(fields)
    _check(fields)
    effort = common.read_effort(fields.object("reasoning"), "effort", model)
    common.check_sampling(fields, model, effort)
    instructions = fields.text("instructions")
    messages = [Message("system", (instructions,))] if instructions else []
    messages += _read_input(fields, documents)
    return Prompt(
        model=model,
        messages=tuple(messages),
        format=common.read_format(fields.object("text"), "format"),
        service_tier=common.service_tier(fields),
        max_tokens=fields.integer("max_output_tokens", 16),
        effort=effort,
        has_cache_key=bool(fields.text("prompt_cache_key")),
    )


def render(body: dict, prompt: Prompt, answer: Generated) -> dict:
    """The Response object: all its fields, the request's own values repeated."""
    now = int(clock.now())
    status = "incomplete" if answer.is_cut else "completed"
    return {
        "id": ids.response_id(),
        "object": "response",
        "created_at": now,
        "status": status,
        "background": False,
        "completed_at": None if answer.is_cut else now,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if answer.is_cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": prompt.max_tokens,
        "max_tool_calls": body.get("max_tool_calls"),
        "model": prompt.model.id,
        "output": _output(prompt, answer, status),
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_retention": None,
        "reasoning": {"effort": prompt.effort, "summary": None},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": prompt.service_tier,
        "store": body.get("store") is not False,
        "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
        "text": {
            "format": prompt.format.echo,
            "verbosity": (body.get("text") or {}).get("verbosity") or "medium",
        },
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "truncation": body.get("truncation") or "disabled",
        "usage": _usage(prompt, answer),
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _check(fields: Fields) -> None:
    fields.refuse("stream", "streaming (`stream: true`)")
    fields.refuse("background", "background mode")
    fields.refuse("tools", "tools")
    fields.refuse("previous_response_id", "earlier responses as context")
    fields.refuse("conversation", "conversations")
    fields.refuse("prompt", "prompt templates")
    metadata(fields)
    common.check_strings(fields)
    fields.text("truncation", choices=("auto", "disabled"))
    fields.integer("max_tool_calls", 1)
    for name in ("store", "parallel_tool_calls"):
        fields.boolean(name)
    text = fields.object("text")
    if text:
        text.text("verbosity", choices=("low", "medium", "high"))


def _read_input(fields: Fields, documents: Documents) -> list[Message]:
    given = fields.get("input", (str, list), "one of a string or an array", required=True)
    if isinstance(given, str):
        return [Message("user", (given,))]
    items = [Fields(item, f"input[{number}]") for number, item in enumerate(common.not_empty(given, "input"))]
    return [
        _read_message(item, documents)
        for item in items
        # An earlier answer may be sent back whole; its reasoning items say nothing here.
        if item.value.get("type") != "reasoning"
    ]


def _read_message(item: Fields, documents: Documents) -> Message:
    item.text("type", choices=("message",))
    role = item.text("role", required=True, choices=_ROLES)
    content = item.get("content", (str, list), "one of a string or an array", required=True)
    if isinstance(content, str):
        return Message(role, (content,))
    texts, images = [], 0
    for number, value in enumerate(content):
        part = Fields(value, f"{item.path('content')}[{number}]")
        kind = part.text("type", required=True, choices=_PART_TYPES)
        if kind in _TEXT_PARTS:
            texts.append(part.text("text", required=True))
        elif kind == "input_file":
            texts.append(documents.text_of(part, pdf_only=False))
        elif kind == "input_image":
            images += 1
    return Message(role, tuple(texts), images)


def _output(prompt: Prompt, answer: Generated, status: str) -> list[dict]:
    message = {
        "id": ids.item_id("msg"),
        "type": "message",
        "status": status,
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}],
        "role": "assistant",
    }
    if not prompt.model.reasons:
        return [message]
    return [{"id": ids.item_id("rs"), "type": "reasoning", "summary": []}, message]


def _usage(prompt: Prompt, answer: Generated) -> dict:
    return {
        "input_tokens": prompt.input_tokens,
        "input_tokens_details": {"cached_tokens": prompt.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": answer.output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": prompt.input_tokens + answer.output_tokens,
    }
