"""Faults of the scope `answer`: a good answer becomes another one. What it costs stays what its body says."""

import copy
import json
from dataclasses import replace

from . import jsontext
from .answer import Answer
from .fault_errors import error_of
from .faults import Fault, Strikes

_CHAT = "chat.completion"


def apply(strikes: Strikes, answer: Answer, facts: dict) -> Answer:
    """Each kind strikes at most once. Only an error can take the place of an error."""
    for kind, change in _KINDS.items():
        if kind == "line_error" or (answer.is_billed and _concerns(kind, facts["body"])):
            fault = strikes.take(kind, facts)
            if fault:
                answer = change(fault, replace(answer, body=copy.deepcopy(answer.body)))
    return answer


def _concerns(kind: str, asked: dict) -> bool:
    return kind != "invalid_structured_output" or _wants_json(asked)


def _wants_json(asked: dict) -> bool:
    wanted = (asked.get("text") or {}).get("format") or asked.get("response_format") or {}
    return wanted.get("type") in ("json_schema", "json_object")


def without_result(answer: Answer, status: int, body: dict) -> Answer:
    """An error in its place: it has no id and costs nothing."""
    return Answer(status, body, answer.model, answer.provider_ms)


def _line_error(fault: Fault, answer: Answer) -> Answer:
    error = error_of(fault)
    return without_result(answer, error.status, error.body())


def _refusal(fault: Fault, answer: Answer) -> Answer:
    message = _message(answer.body)
    if _is_chat(answer):
        message |= {"content": None, "refusal": fault["text"]}
    else:
        message["content"] = [{"type": "refusal", "refusal": fault["text"]}]
    return answer


def _other_text(fault: Fault, answer: Answer) -> Answer:
    _set_text(answer.body, fault["text"])
    return answer


def _incomplete(fault: Fault, answer: Answer) -> Answer:
    _set_text(answer.body, text_of(answer.body)[: len(text_of(answer.body)) // 2])
    if _is_chat(answer):
        reasons = {"max_output_tokens": "length"}
        answer.body["choices"][0]["finish_reason"] = reasons.get(fault["reason"], fault["reason"])
    else:
        _message(answer.body)["status"] = "incomplete"
        details = {"reason": fault["reason"]}
        answer.body.update(status="incomplete", completed_at=None, incomplete_details=details)
    return answer


def _failed_body(fault: Fault, answer: Answer) -> Answer:
    """Good by its status, but there is no result in it, and nothing to pay."""
    error = {"code": fault["code"], "message": fault["message"]}
    if _is_chat(answer):
        answer.body.update(choices=[], usage=None, error=error)
    else:
        answer.body.update(status="failed", completed_at=None, error=error, output=[], usage=None)
    free = {"input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0}
    return replace(answer, **free, is_billed=False)


def _invalid_structured_output(fault: Fault, answer: Answer) -> Answer:
    text = text_of(answer.body)
    _set_text(answer.body, text[: max(1, len(text) - 2)])
    return answer


def _no_usage(fault: Fault, answer: Answer) -> Answer:
    answer.body.pop("usage", None)
    return answer


def _is_chat(answer: Answer) -> bool:
    return answer.body["object"] == _CHAT


def _message(body: dict) -> dict:
    if body["object"] == _CHAT:
        return body["choices"][0]["message"]
    return next(item for item in body["output"] if item["type"] == "message")


def text_of(body: dict) -> str:
    message = _message(body)
    if body["object"] == _CHAT:
        return message["content"] or ""
    return "".join(part.get("text", "") for part in message["content"])


def _set_text(body: dict, text: str) -> None:
    message = _message(body)
    if body["object"] == _CHAT:
        message["content"] = text
    else:
        message["content"] = [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]


def second_answer(answer: Answer, response_id: str) -> Answer:
    """Another answer to the same request, with another id and another text."""
    body = copy.deepcopy(answer.body)
    body["id"] = response_id
    if body.get("output") or body.get("choices"):
        _set_text(body, _once_more(text_of(body)))
    return replace(answer, body=body, response_id=response_id)


def _once_more(text: str) -> str:
    """JSON stays JSON: its longest string changes, which is hardly one of a fixed set."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    strings = {name: part for name, part in value.items() if isinstance(part, str)} if isinstance(value, dict) else {}
    if not strings:
        return text + " " if isinstance(value, dict | list) else text + " Once more."
    longest = max(strings, key=lambda name: len(strings[name]))
    return jsontext.dump({**value, longest: strings[longest] + " Once more."})


# In this order: a later kind changes what an earlier one has left.
_KINDS = {
    "line_error": _line_error,
    "failed_body": _failed_body,
    "other_text": _other_text,
    "incomplete": _incomplete,
    "invalid_structured_output": _invalid_structured_output,
    "refusal": _refusal,
    "no_usage": _no_usage,
}
