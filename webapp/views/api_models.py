"""What the API takes and answers. The same models check the bodies and make the OpenAPI document."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from webapp.domain.states import BatchStrategy, ExecutionMode, JobStatus
from webapp.domain.webhooks import MOST_URL_LENGTH, EventType

MOST_LISTED = 200


def _is_written_out(value: Any) -> Any:
    """Pydantic would take a number for seconds since 1970: nobody means that."""
    if not isinstance(value, str) or value.lstrip("+-").replace(".", "", 1).isdigit():
        raise ValueError("must be written as in ISO 8601: 2026-11-26, or 2026-11-26T09:00:00Z")
    return value


Id = Annotated[int, Field(ge=1, lt=2**63)]
Moment = Annotated[AwareDatetime, BeforeValidator(_is_written_out)]
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2999, 12, 31)), BeforeValidator(_is_written_out)]
Usd = Annotated[str, Field(description="US dollars, as a decimal number", examples=["0.00125"])]
Name = Annotated[str, Field(min_length=1, max_length=200)]
# A limit also makes pydantic look whether it is text: half a surrogate pair is not.
ProfileId = Annotated[str, Field(max_length=200, description="the id of a profile")]


class Message(BaseModel):
    """JSON names are camelCase; a name that is not known is a mistake."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, populate_by_name=True, protected_namespaces=(),
        json_schema_serialization_defaults_required=True,
    )  # fmt: skip


# What comes in


class NewJob(Message):
    profile: ProfileId
    inputs: dict[str, Any] = Field(description="the profile's fields, executionMode and batchStrategy among them")


class NewSubmission(Message):
    profile: ProfileId
    name: Name = "From the API"
    common: dict[str, Any] = Field(default={}, description="inputs of every job, unless it says otherwise")
    jobs: Annotated[list[dict[str, Any]], Field(min_length=1, description="the inputs of each job")]


class SubmissionQuery(Message):
    """Beside a body of JSON Lines, which are the inputs of each job."""

    profile: ProfileId
    name: Name = "From the API"


class Retry(Message):
    inputs: dict[str, Any] | None = Field(
        default=None, description="what is to be different; without it the job is repeated as it was"
    )


class Page(Message):
    after: Id | None = Field(default=None, description="`next` of the page before")
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 50


class ResultsQuery(Message):
    after: Id | None = Field(default=None, description="the id in the last line that you have: go on behind it")


class JobQuery(Page):
    status: JobStatus | None = None
    profile: ProfileId | None = None
    mode: ExecutionMode | None = None
    submission: Id | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None


class UsageQuery(Message):
    first: Day | None = Field(default=None, alias="from", description="a day, UTC; default: 30 days ago")
    last: Day | None = Field(default=None, alias="to", description="a day, UTC, included; default: today")


WebhookUrl = Annotated[
    str, Field(max_length=MOST_URL_LENGTH, description="http or https", examples=["https://example.org/sluice"])
]
Events = Annotated[list[EventType], Field(min_length=1)]


class NewWebhook(Message):
    url: WebhookUrl
    events: Events | None = Field(default=None, description="what it hears of; default: everything")


class WebhookChange(Message):
    url: WebhookUrl | None = None
    events: Events | None = None
    is_enabled: bool | None = None


# What goes out


class Fault(Message):
    code: str | None
    message: str


class JobLine(Message):
    id: Id
    profile: str
    status: JobStatus
    execution_mode: ExecutionMode
    batch_strategy: BatchStrategy | None
    need_by: datetime | None
    submission: Id | None
    retry_of: Id | None
    attempt: int
    created_at: datetime
    finished_at: datetime | None
    error: Fault | None


class Usage(Message):
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None


class Latency(Message):
    provider_ms: int | None
    queue_ms: int
    total_ms: int


class Result(Message):
    text: str
    model: str | None
    is_cut: bool
    usage: Usage
    latency: Latency


class Job(JobLine):
    inputs: dict[str, Any]
    waiting: str | None = Field(description="why it is not finished yet; a POST does not say it")
    result: Result | None
    cost_usd: Usd | None


class JobList(Message):
    jobs: list[JobLine]
    next: Id | None = Field(description="pass it as `after` for the next page; null at the end")


class Submission(Message):
    id: Id
    profile: str
    name: str
    source: str
    job_count: int
    counts: dict[JobStatus, int]
    is_over: bool = Field(description="every job has ended")
    created_at: datetime
    finished_at: datetime | None


class SubmissionList(Message):
    submissions: list[Submission]
    next: Id | None


class JobOutcome(Message):
    """One line of a submission's results."""

    id: Id
    status: JobStatus
    files: list[str] = Field(description="the names of its documents")
    output: str = Field(description="what the answer is: markdown, text or json")
    result: Any = Field(description="the answer: text, or JSON if the profile's output is JSON; null without one")
    error: Fault | None


class Document(Message):
    id: Id
    filename: str
    bytes: int
    pages: int
    sha256: str
    is_file: bool = Field(description="the file itself is at the provider")
    created_at: datetime


class DocumentList(Message):
    documents: list[Document]


class Profile(Message):
    id: str
    name: str
    description: str
    status: str
    execution_modes: list[ExecutionMode]
    output: str
    document_fields: list[str] = Field(description="the inputs that take the id of a document")
    inputs: dict[str, Any] = Field(description="JSON Schema of a job's inputs")


class ProfileList(Message):
    profiles: list[Profile]


class UsageLine(Message):
    key: str = Field(description="the day (or month), profile, model or mode")
    answers: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_usd: Usd | None
    saved_usd: Usd
    unknown: int = Field(description="answers whose cost nobody knows; they are in no sum")


class UsageReport(Message):
    first: date = Field(serialization_alias="from")
    last: date = Field(serialization_alias="to")
    total: UsageLine
    by_day: list[UsageLine]
    by_profile: list[UsageLine]
    by_model: list[UsageLine]
    by_mode: list[UsageLine]


class LineFault(Message):
    line: int
    detail: str
    errors: dict[str, str]


class Problem(BaseModel):
    """RFC 9457. `errors` says by field what is wrong with it; inside a field it is a JSON pointer."""

    model_config = ConfigDict(extra="allow")
    title: str
    status: int
    detail: str
    code: str | None = Field(default=None, description="over_budget, reused_key, in_progress, no_result, wrong_scope …")
    errors: dict[str, str] | None = None
    lines: list[LineFault] | None = None


class Webhook(Message):
    id: Id
    url: str
    events: list[EventType]
    is_enabled: bool
    disabled_because: str | None
    created_at: datetime


class WebhookWithSecret(Webhook):
    secret: str = Field(description="whsec_…: messages are signed with it", examples=["whsec_…"])


class WebhookList(Message):
    webhooks: list[Webhook]


class Delivery(Message):
    id: Id
    event: str
    target: Id | None = Field(description="the id of the job or the submission; null for a test")
    attempts: int
    created_at: datetime
    delivered_at: datetime | None
    next_try_at: datetime | None = Field(description="null: it was taken, or given up")
    last_status: int | None
    last_error: str | None


class DeliveryList(Message):
    deliveries: list[Delivery]
    next: Id | None = Field(description="pass it as `after` for the next page; null at the end")
