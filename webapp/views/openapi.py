"""The API as an OpenAPI 3.1 document: from the routes, from OPERATIONS, and from the models that check the bodies.

Each profile is a schema of its own: a body's `profile` says which one its inputs follow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Response, current_app
from flask.typing import ResponseReturnValue
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from webapp.domain.profiles import Profile
from webapp.parts import parts
from webapp.views import api_models as models
from webapp.views.api import JSON, MOST_KEY_LENGTH, OPERATIONS, PROBLEM, Operation, bp

REF = "#/components/schemas/{model}"
NUMBER = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
KEY = {
    "name": "Idempotency-Key", "in": "header",
    "description": "The same key with the same request makes nothing new for 24 hours: the answer has the header "
                   "Idempotency-Replayed. With another request it is refused (409).",
    "schema": {"type": "string", "minLength": 1, "maxLength": MOST_KEY_LENGTH, "pattern": "^[!-~]+$"},
}  # fmt: skip
PREFER = {
    "name": "Prefer", "in": "header", "schema": {"type": "string"}, "examples": {"wait": {"value": "wait=30"}},
    "description": "wait=N: answer when the job has ended, at the latest after N seconds (at most 30).",
}  # fmt: skip


@bp.get("/openapi.json")
def openapi() -> ResponseReturnValue:
    return Response(_text(), content_type=JSON)


def _text() -> str:
    """Nothing in it changes while the app runs."""
    made = current_app.extensions.get("sluice_openapi")
    if made is None:
        rules = [rule for rule in current_app.url_map.iter_rules() if rule.endpoint.startswith(f"{bp.name}.")]
        made = current_app.extensions["sluice_openapi"] = json.dumps(document(rules, parts().profiles))
    return str(made)


def document(rules: Iterable[Rule], profiles: Iterable[Profile]) -> dict[str, Any]:
    """The document. A route without a row in OPERATIONS is not in it: nobody may call it."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(rules, key=str):
        name = rule.endpoint.removeprefix(f"{bp.name}.")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if operation := OPERATIONS.get(name):
                path = re.sub(r"<\w+:(\w+)>", r"{\1}", str(rule)).removeprefix(bp.url_prefix or "")
                paths.setdefault(path, {})[method.lower()] = _operation(name, operation, sorted(rule.arguments))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice", "version": "1", "description": "AI jobs now, or in cheaper batch windows."},
        "servers": [{"url": bp.url_prefix}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(list(profiles)),
        },
    }


def _operation(name: str, operation: Operation, arguments: Iterable[str]) -> dict[str, Any]:
    scope = f" Needs the scope {operation.scope}." if operation.scope else ""
    made: dict[str, Any] = {
        "operationId": name, "summary": operation.summary, "description": operation.summary + scope,
        "parameters": [
            *({"name": key, "in": "path", "required": True, "schema": NUMBER} for key in arguments),
            *_query(operation), *([KEY] if operation.is_once else []), *([PREFER] if operation.may_wait else []),
        ],
        "responses": {
            **{str(status): _answer(what) for status, what in operation.answers.items()},
            "4XX": {"description": "What was wrong.", "content": {PROBLEM: {"schema": _ref(models.Problem)}}},
            "503": {"description": "Try again in a moment.", "content": {PROBLEM: {"schema": _ref(models.Problem)}}},
        },
    }  # fmt: skip
    bodies = {JSON: _ref(operation.body)} if operation.body else {}
    if bodies := {**bodies, **operation.other_bodies}:
        content = {media_type: {"schema": schema} for media_type, schema in bodies.items()}
        made["requestBody"] = {"required": operation.needs_body, "content": content}
    return made


def _answer(what: type[BaseModel] | tuple[str, ...] | None) -> dict[str, Any]:
    if what is None:
        return {"description": "Done."}
    if isinstance(what, tuple):
        return {"description": "It is here.", "content": {media_type: {} for media_type in what}}
    return {"description": "It is here.", "content": {JSON: {"schema": _ref(what)}}}


def _query(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema(ref_template=REF)
    is_needed = operation.body is None  # beside a JSON body they are for the other one
    return [
        {"name": name, "in": "query", "required": is_needed and name in schema.get("required", ()),
         "description": value.pop("description", ""), "schema": _without_null(value)}
        for name, value in schema["properties"].items()
    ]  # fmt: skip


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter that is not there is left out: nobody writes null into an address."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    kept = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    return {**kept, **(kinds[0] if kinds else {})}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def _schemas(profiles: list[Profile]) -> dict[str, Any]:
    incoming = {one for operation in OPERATIONS.values() for one in (operation.body, operation.query) if one}
    outgoing = {answer for operation in OPERATIONS.values() for answer in operation.answers.values()
                if isinstance(answer, type)} | {models.Problem, models.JobOutcome}  # fmt: skip
    wanted = [(model, "validation") for model in incoming] + [(model, "serialization") for model in outgoing]
    _, found = models_json_schema(sorted(wanted, key=str), ref_template=REF)  # type: ignore[arg-type]
    schemas: dict[str, Any] = found["$defs"]
    for profile in profiles:
        inputs = profile.input_schema()
        schemas[f"{profile.id}_inputs"] = inputs
        schemas[f"{profile.id}_part"] = {**inputs, "title": f"{profile.id}_part", "required": []}
    whole, part = "#/components/schemas/{}_inputs", "#/components/schemas/{}_part"
    parts_of_jobs = {"common": {"$ref": part}, "jobs": {"type": "array", "minItems": 1, "items": {"$ref": part}}}
    _by_profile(schemas, models.NewJob, {"inputs": {"$ref": whole}}, profiles)
    _by_profile(schemas, models.NewSubmission, parts_of_jobs, profiles)
    return schemas


def _by_profile(
    schemas: dict[str, Any], model: type[BaseModel], places: Mapping[str, Any], profiles: list[Profile]
) -> None:  # fmt: skip
    """Put one schema for each profile in place of the body's own; `places` are where its inputs are ("{}": its id)."""
    name = model.__name__
    body, mapping = schemas[name], {}
    for profile in profiles:
        own = json.loads(json.dumps(places).replace("{}", profile.id))
        properties = {**body["properties"], **own, "profile": {"type": "string", "const": profile.id}}
        schemas[f"{name}_{profile.id}"] = {**body, "title": f"{name}_{profile.id}", "properties": properties}
        mapping[profile.id] = REF.format(model=f"{name}_{profile.id}")
    choices = [{"$ref": target} for target in mapping.values()]
    schemas[name] = {"oneOf": choices, "discriminator": {"propertyName": "profile", "mapping": mapping}}
