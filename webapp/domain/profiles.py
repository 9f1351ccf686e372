"""The profile: the one contract of a job type. Form, API, provider request and n8n payload follow from it.

A profile is one JSON file in `profiles/`; `docs/profiles.md` explains each key. The JSON Schema of these
models is published as `profiles/profile.schema.json` (a test keeps it current).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from jsonschema_rs import Draft202012Validator
from jsonschema_rs import ValidationError as JSONSchemaError
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)

from webapp.domain.errors import InvalidInput, InvalidProfile
from webapp.domain.fields import DatetimeField, DocumentField, Key, Part, ProfileField, SelectField
from webapp.domain.rendering import Filler, renderer
from webapp.domain.states import BatchStrategy, ExecutionMode

EXECUTION_MODE = "executionMode"
BATCH_STRATEGY = "batchStrategy"
NEED_BY = "needBy"
# Names that the form and the input model have for themselves.
TAKEN_KEYS = frozenset(
    {"copy", "construct", "csrf_token", "data", "dict", "errors", "fields", "form_errors", "from_orm", "json", "meta",
     "parse_file", "parse_obj", "parse_raw", "process", "profile", "schema", "schema_json", "submit", "uploads",
     "validate", "values"}
)  # fmt: skip
RESERVED_KEYS = (EXECUTION_MODE, BATCH_STRATEGY, NEED_BY)


class Request(Part):
    """The provider request, the same in both modes. `body` holds templates (`domain/rendering.py`)."""

    endpoint: Literal["/v1/responses", "/v1/chat/completions"]
    body: dict[str, Any]

    @cached_property
    def render(self) -> Filler:
        """The body for the values of a run; raises InvalidProfile."""
        return renderer(self.body)


class Output(Part):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    type: Literal["markdown", "text", "json"] = "markdown"
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")

    @cached_property
    def validator(self) -> Draft202012Validator:
        """Raises ValueError for what is no JSON Schema, or points outside itself: nothing is fetched."""
        try:
            return Draft202012Validator(self.schema_ or {}, validate_formats=False, retriever=_not_fetched)
        except JSONSchemaError as error:
            raise ValueError(f"the output's schema is not a JSON Schema: {error.message}") from error


def _not_fetched(address: str) -> Any:
    raise ValueError(f"{address} is not in this schema")


class Batch(Part):
    max_batch_size: Annotated[int, Field(ge=1, le=50_000)] | None = None
    max_wait_seconds: Annotated[int, Field(ge=1)] | None = None


class Execution(Part):
    webhook_path: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9/_-]*$")] = "jobs/run"
    payload_map: dict[Key, str] = {}


class Profile(Part):
    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{1,39}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    description: str = ""
    status: Literal["active", "planned"] = "active"
    fields: tuple[ProfileField, ...]
    request: Request
    output: Output = Output()
    batch: Batch = Batch()
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        _ = self.output.validator
        keys = [field.key for field in self.fields]
        if len(set(keys)) < len(keys):
            raise ValueError("two fields have the same key")
        if taken := sorted(key for key in keys if key in TAKEN_KEYS or key.startswith("model_")):
            raise ValueError(f"these keys are taken, choose others: {', '.join(taken)}")
        for key, words in ((EXECUTION_MODE, ExecutionMode), (BATCH_STRATEGY, BatchStrategy)):
            field = self.field(key)
            if field is None:
                continue
            if not isinstance(field, SelectField):
                raise ValueError(f"{key} must be a select field")
            if unknown := set(field.values) - set(words):
                raise ValueError(f"{key} has options that Sluice does not know: {', '.join(sorted(unknown))}")
        need_by, strategies = self.field(NEED_BY), self.field(BATCH_STRATEGY)
        if need_by is not None and not isinstance(need_by, DatetimeField):
            raise ValueError(f"{NEED_BY} must be a datetime field")
        if strategies and BatchStrategy.DEADLINE in strategies.values and need_by is None:
            raise ValueError(f"the strategy deadline needs the field {NEED_BY}, of type datetime")
        for field in self.fields:
            default = field.default
            if default not in (None, ()):
                try:
                    create_model("Default", value=(field.value_type(), ...))(value=default)
                except ValidationError as error:
                    raise ValueError(f"the default of {field.key} is not a value it accepts") from error
        return self

    def field(self, key: str) -> Any:
        """The field with this key, or None."""
        return next((field for field in self.fields if field.key == key), None)

    @property
    def input_fields(self) -> list[Any]:
        """The fields that are the job's own inputs (not the reserved ones)."""
        return [field for field in self.fields if field.key not in RESERVED_KEYS]

    @cached_property
    def document_fields(self) -> list[DocumentField]:
        return [field for field in self.fields if isinstance(field, DocumentField)]

    @property
    def execution_modes(self) -> list[ExecutionMode]:
        """The modes that a run may choose; sync alone when the profile has no executionMode field."""
        field = self.field(EXECUTION_MODE)
        return [ExecutionMode(value) for value in field.values] if field else [ExecutionMode.SYNC]

    @property
    def is_active(self) -> bool:
        return self.status == "active"

    @cached_property
    def document(self) -> dict[str, Any]:
        """The whole profile as JSON, as its file says it."""
        return self.model_dump(mode="json", by_alias=True)

    @cached_property
    def content_hash(self) -> str:
        """Identifies what a job is pinned to: fields, request and output (hex sha256)."""
        pinned = self.model_dump(mode="json", by_alias=True, include={"fields", "request", "output"})
        return hashlib.sha256(json.dumps(pinned, sort_keys=True).encode()).hexdigest()

    def validate_inputs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check the values of a run against the fields; the same for the form and the API.

        Returns plain JSON values, one for each field (defaults filled in, absent optional ones None).
        Raises InvalidInput with a message per field key.
        """
        try:
            checked = self._input_model(**values)
        except ValidationError as error:
            raise InvalidInput(dict(_field_errors(error))) from error
        return checked.model_dump(mode="json")

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of a run's values."""
        return self._input_model.model_json_schema()

    @cached_property
    def _input_model(self) -> type[BaseModel]:
        definitions: dict[str, Any] = {}
        for field in self.fields:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            if field.required and default in (None, []):
                definitions[field.key] = (field.value_type(), Field(title=field.title, description=field.help or None))
            else:
                kind = field.value_type()
                definitions[field.key] = (
                    kind if default is not None else kind | None,
                    Field(default=default, title=field.title, description=field.help or None),
                )
        return create_model(f"{self.id}_inputs", __config__=ConfigDict(extra="forbid"), **definitions)


def _field_errors(error: ValidationError) -> Iterable[tuple[str, str]]:
    for item in error.errors(include_url=False, include_input=False):
        key = str(item["loc"][0]) if item["loc"] else ""
        match item["type"]:
            case "missing":
                yield key, "This field is required."
            case "extra_forbidden":
                yield key, "This profile has no such field."
            case "string_too_short" if item["ctx"].get("min_length") == 1:
                yield key, "This field is required."
            case _:
                message = item["msg"].removeprefix("Value error, ")
                yield key, message[:1].upper() + message[1:].rstrip(".") + "."


def parse_profile(text: str, source: str) -> Profile:
    """Read one profile from JSON text. `source` names it in messages.

    Raises InvalidProfile with the JSON pointer and the reason of each fault.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidProfile(f"{source}: line {error.lineno}: {error.msg}") from error
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        faults = [f"{source}: {_pointer(item['loc'])}: {item['msg']}" for item in error.errors(include_url=False)]
        raise InvalidProfile("\n".join(faults)) from error


def _pointer(location: tuple[int | str, ...]) -> str:
    return "/" + "/".join(str(part) for part in location)


def profile_schema() -> str:
    """The JSON Schema of a profile file, as text."""
    return json.dumps(Profile.model_json_schema(by_alias=True), indent=2) + "\n"


def load_profiles(folder: Path) -> dict[str, Profile]:
    """Read every profile of a folder: {id: Profile}, in the order of the file names.

    Raises InvalidProfile that lists the faults of all files.
    """
    profiles: dict[str, Profile] = {}
    faults: list[str] = []
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith(".schema.json"):
            continue
        try:
            profile = parse_profile(path.read_text(encoding="utf-8"), path.name)
        except InvalidProfile as error:
            faults.append(error.message)
            continue
        if profile.id in profiles:
            faults.append(f"{path.name}: /id: another file has the profile {profile.id}")
        profiles[profile.id] = profile
    if faults:
        raise InvalidProfile("\n".join(faults))
    if not profiles:
        raise InvalidProfile(f"{folder}: there is no profile in this folder")
    return profiles


def canonical_run(
    job_id: int, user: Mapping[str, Any], profile_id: str, mode: ExecutionMode, strategy: BatchStrategy | None,
    inputs: Mapping[str, Any], created_at: datetime,
) -> dict[str, Any]:  # fmt: skip
    """The run as payload maps see it: each value has a dot path (`user.id`, `input.bullets`)."""
    return {
        "jobId": job_id, "user": dict(user), "profile": profile_id, EXECUTION_MODE: mode.value,
        BATCH_STRATEGY: strategy.value if strategy else None, "input": dict(inputs),
        "createdAt": created_at.isoformat(),
    }  # fmt: skip


def map_payload(run: Mapping[str, Any], payload_map: Mapping[str, str]) -> dict[str, Any]:
    """Pick and rename what the workflow wants; an empty map sends the run as it is. A missing path gives None."""
    if not payload_map:
        return dict(run)
    return {key: _at_path(run, path) for key, path in payload_map.items()}


def _at_path(value: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value
