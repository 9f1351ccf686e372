"""The field types of a profile: what a person may fill in, and the Python type (with constraints) of each value."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

Key = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,39}$")]


class Part(BaseModel):
    """JSON keys are camelCase; an unknown key is a mistake, not an extension."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Option(Part):
    value: str
    label: str

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        return {"value": data, "label": data.replace("_", " ").capitalize()} if isinstance(data, str) else data


def title_of(key: str) -> str:
    """A key in words: `maxWords` is "Max words"."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in key).capitalize()


class _Field(Part):
    """What all fields have. Each kind adds `value_type()`: the Python type, with constraints, of its values."""

    key: Key
    label: str = ""
    help: str = ""
    required: bool = False

    @property
    def title(self) -> str:
        """The label that people see: the given one, or the key in words."""
        return self.label or title_of(self.key)


def _without_nul(value: str) -> str:
    if "\x00" in value:  # PostgreSQL cannot store it
        raise ValueError("contains a character that is not text (NUL)")
    return value


def _without_boolean(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would read true as 1: a document that nobody named
        raise ValueError("must be a number")
    return value


NoBoolean = BeforeValidator(_without_boolean)


class TextField(_Field):
    type: Literal["text", "textarea"]
    min_length: int = 0
    max_length: int = 20_000
    pattern: str | None = None  # a regular expression that the whole value must match; `help` says it in words
    placeholder: str = ""
    default: str | None = None

    def value_type(self) -> Any:
        shortest = max(self.min_length, 1 if self.required else 0)
        limits = StringConstraints(strip_whitespace=True, min_length=shortest, max_length=self.max_length)
        told = Field(json_schema_extra={"pattern": f"^(?:{self.pattern})$"} if self.pattern else None)
        return Annotated[str, limits, AfterValidator(_without_nul), AfterValidator(self._match), told]

    def _match(self, value: str) -> str:
        if self.pattern and value and not re.fullmatch(self.pattern, value):
            raise ValueError(self.help or f"must match {self.pattern}")
        return value

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return pattern


class IntegerField(_Field):
    type: Literal["integer"]
    min: int | None = None
    max: int | None = None
    default: int | None = None

    def value_type(self) -> Any:
        return Annotated[int, NoBoolean, Field(ge=self.min, le=self.max)]


class NumberField(_Field):
    type: Literal["number"]
    min: float | None = None
    max: float | None = None
    default: float | None = None

    def value_type(self) -> Any:
        return Annotated[float, NoBoolean, Field(ge=self.min, le=self.max, allow_inf_nan=False)]


class BooleanField(_Field):
    type: Literal["boolean"]
    default: bool = False

    def value_type(self) -> Any:
        return bool


class _Choice(_Field):
    options: Annotated[tuple[Option, ...], Field(min_length=1)]

    @property
    def values(self) -> list[str]:
        return [option.value for option in self.options]

    @field_validator("options")
    @classmethod
    def _are_distinct(cls, options: tuple[Option, ...]) -> tuple[Option, ...]:
        if len({option.value for option in options}) < len(options):
            raise ValueError("two options have the same value")
        return options

    def _choice(self) -> Any:
        return Annotated[str, AfterValidator(self._one_of), Field(json_schema_extra={"enum": [*self.values]})]

    def _one_of(self, value: str) -> str:
        if value not in self.values:
            raise ValueError(f"must be one of: {', '.join(self.values)}")
        return value


class SelectField(_Choice):
    type: Literal["select"]
    default: str | None = None

    def value_type(self) -> Any:
        return self._choice()


class MultiselectField(_Choice):
    type: Literal["multiselect"]
    default: tuple[str, ...] = ()

    def value_type(self) -> Any:
        return Annotated[list[self._choice()], Field(min_length=int(self.required))]  # type: ignore[misc]


class DatetimeField(_Field):
    type: Literal["datetime"]

    @property
    def default(self) -> None:
        return None

    def value_type(self) -> Any:
        return AwareDatetime


class DocumentField(_Field):
    type: Literal["document"]
    accept: tuple[Literal["application/pdf"], ...] = ("application/pdf",)
    allow_file: bool = False  # a person may send the file itself instead of its text (scans); see `document.content`

    @property
    def default(self) -> None:
        return None

    def value_type(self) -> Any:
        """A document is named by its id; the form stores the upload first."""
        return Annotated[int, NoBoolean, Field(ge=1, lt=2**63)]


ProfileField = Annotated[
    TextField | IntegerField | NumberField | BooleanField | SelectField | MultiselectField | DatetimeField
    | DocumentField,
    Field(discriminator="type"),
]  # fmt: skip
