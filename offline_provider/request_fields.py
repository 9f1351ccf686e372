"""The fields that /v1/responses and /v1/chat/completions have in common."""

import re

from . import models, schema
from .errors import ApiError, invalid_value
from .fields import Fields
from .models import Model
from .prompt import Format

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SERVICE_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
_FORMAT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def names(text: str) -> frozenset[str]:
    """The names of parameters, written as one text."""
    return frozenset(text.split())


def read_model(body: Fields) -> Model:
    name = body.text("model", required=True)
    model = models.find(name)
    if model is None:
        raise models.not_found(name[:100])
    return model


def read_effort(owner: Fields | None, name: str, model: Model) -> str | None:
    """The reasoning effort: "medium" unless asked for; None for models that do not reason."""
    effort = owner.text(name, choices=EFFORTS) if owner else None
    if model.reasons:
        return effort or "medium"
    if effort is not None:
        raise _unsupported_with_model(owner.path(name))
    return None


def check_sampling(body: Fields, model: Model, effort: str | None) -> None:
    temperature = body.number("temperature", 0, 2)
    body.number("top_p", 0, 1)
    if temperature is None or model.takes_temperature_while_reasoning or effort == "none":
        return
    raise _unsupported_with_model("temperature")


def check_max_tokens_name(body: Fields, model: Model) -> None:
    """Reasoning models take `max_completion_tokens` only."""
    if model.reasons and body.value.get("max_tokens") is not None:
        raise _unsupported_with_model("max_tokens", " Use 'max_completion_tokens' instead.")


def check_strings(body: Fields) -> None:
    for name in ("prompt_cache_key", "safety_identifier", "user"):
        body.text(name)


def service_tier(body: Fields) -> str:
    """The tier that is really used, which is what a bill goes by."""
    tier = body.text("service_tier", choices=SERVICE_TIERS)
    return {None: "default", "auto": "default", "scale": "default", "fast": "priority"}.get(tier, tier)


def read_format(owner: Fields | None, name: str, nested: str | None = None) -> Format:
    """`text.format`, or Chat's `response_format`, which keeps its schema in the object `nested`."""
    given = owner.object(name) if owner else None
    if given is None:
        return Format({"type": "text"})
    kind = given.text("type", required=True, choices=("text", "json_object", "json_schema"))
    if kind != "json_schema":
        return Format({"type": kind}, json_object=kind == "json_object")
    definition = given.object(nested, required=True) if nested else given
    return _read_json_schema(definition)


def _read_json_schema(given: Fields) -> Format:
    name = given.text("name", required=True)
    if not _FORMAT_NAME.fullmatch(name):
        raise invalid_value(
            given.path("name"),
            f"Invalid '{given.path('name')}': string does not match pattern. "
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]{1,64}$'.",
        )
    description, strict = given.text("description"), given.boolean("strict")
    wanted = given.object("schema", required=True).value
    schema.check(wanted, bool(strict))
    echo = {
        "type": "json_schema",
        "description": description,
        "name": name,
        "schema": wanted,
        "strict": bool(strict),
    }
    return Format(echo, schema=wanted)


def not_empty(items: list, param: str) -> list:
    if not items:
        raise ApiError(
            f"Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            param=param,
            code="empty_array",
        )
    return items


def _unsupported_with_model(param: str, advice: str = "") -> ApiError:
    return ApiError(
        f"Unsupported parameter: '{param}' is not supported with this model.{advice}",
        param=param,
        code="unsupported_parameter",
    )
