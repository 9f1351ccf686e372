"""The shapes of the internal API (`docs/internal-api.md`): what n8n sends. camelCase on the wire."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from webapp.domain.answers import Answer, read_answer, transport_error
from webapp.domain.windows import Step

ExecutionId = Annotated[str, Field(min_length=1, max_length=100)]
LeaseToken = Annotated[str, Field(min_length=1, max_length=100)]


class Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class StartMessage(Message):
    attempt: Annotated[int, Field(ge=1)]
    execution_id: ExecutionId


class AnswerMessage(Message):
    """A provider's raw answer: a status code with headers and body, or the error that kept it from coming."""

    status_code: int | None = None
    headers: dict[str, Any] | None = None
    body: Any = None
    error: Any = None

    def answer(self) -> Answer:
        if self.status_code is not None and self.error is None:
            headers = {name.lower(): value for name, value in (self.headers or {}).items()}
            return read_answer(self.status_code, self.body, headers)
        error = self.error if isinstance(self.error, dict) else {"message": self.error}
        message, code = error.get("message"), error.get("code")
        return transport_error(
            message if isinstance(message, str) else "The provider did not answer.",
            code if isinstance(code, str) and code else "no_answer",
        )

    @property
    def raw(self) -> Any:
        """What is kept as evidence."""
        return self.body if self.error is None else {"error": self.error}


class ResultMessage(AnswerMessage):
    attempt: Annotated[int, Field(ge=1)]
    execution_id: ExecutionId
    elapsed_ms: int | None = None  # the provider call, as n8n measured it

    @field_validator("elapsed_ms")
    @classmethod
    def _is_a_duration(cls, value: int | None) -> int | None:
        """n8n's clock may jump: a measure that cannot be is no reason to refuse a paid answer."""
        return value if value is not None and 0 <= value <= 86_400_000 else None


class OpenMessage(Message):
    queue: Annotated[int, Field(ge=1, lt=2**31)]
    max_batch_size: Annotated[int, Field(ge=1)] | None = None
    job_ids: Annotated[list[Annotated[int, Field(ge=1, lt=2**63)]], Field(min_length=1, max_length=50_000)] | None = (
        None
    )


class LeaseMessage(Message):
    lease_token: LeaseToken


class StepAnswerMessage(AnswerMessage):
    lease_token: LeaseToken
    step: Step


class IngestMessage(LeaseMessage):
    items: list[dict[str, Any]] | None = None


class ExecutionFailedMessage(Message):
    execution_id: ExecutionId | None = None  # a trigger that failed has no execution
    workflow: str | None = None
    last_node: str | None = None
    message: str | None = None
