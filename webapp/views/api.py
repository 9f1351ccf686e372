"""The API for programs, `/api/v1`: bearer tokens only (`docs/api.md`). The calls are in `api_*.py`.

OPERATIONS says what each call needs and answers. A call that it does not name is refused to everybody; the OpenAPI
document is made from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from webapp.domain.errors import InvalidInput
from webapp.domain.scopes import Scope
from webapp.extensions import db
from webapp.services import idempotency
from webapp.views import api_models as models
from webapp.views import errors
from webapp.views.access import require_bearer_token

bp = Blueprint("api", __name__, url_prefix="/api/v1")
JSON, JSONL, PROBLEM = "application/json", "application/jsonl", "application/problem+json"
JSONL_TYPES = (JSONL, "application/x-ndjson", "application/x-jsonlines")
MOST_KEY_LENGTH = 200
MOST_FILES = 20  # of one upload: their texts are in memory together
MOST_JSON_BYTES = 2 * 2**20  # it is parsed as a whole; lines and files are not, and may be as large as an upload


@dataclass(frozen=True)
class Operation:
    """A call. `answers` are by status: a model, or the media types of what is not JSON."""

    summary: str
    scope: Scope | None  # None: any living token
    answers: Mapping[int, type[BaseModel] | tuple[str, ...] | None]
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    other_bodies: Mapping[str, Any] = field(default_factory=dict)  # media type: JSON Schema
    needs_body: bool = True
    is_once: bool = False  # takes an Idempotency-Key
    may_wait: bool = False  # takes Prefer: wait


_FILES = {
    "type": "object", "required": ["file"], "additionalProperties": False,
    "properties": {
        "file": {"type": "array", "minItems": 1, "maxItems": MOST_FILES,
                 "items": {"type": "string", "format": "binary"}},
        "asFile": {"type": "string", "enum": ["true", "false"], "default": "false",
                   "description": "the file itself goes to the provider, not its text: for scans"},
    },
}  # fmt: skip
TEXTS = ("text/markdown", "text/plain", JSON)
OPERATIONS = {
    "create_job": Operation(
        "Make a job. Prefer: wait=30 brings the result of a job that runs now in the same answer.", Scope.JOBS_WRITE,
        {202: models.Job, 200: models.Job}, models.NewJob, is_once=True, may_wait=True,
    ),
    "list_jobs": Operation("Your jobs, newest first.", Scope.JOBS_READ, {200: models.JobList}, query=models.JobQuery),
    "get_job": Operation("One job, with its result.", Scope.JOBS_READ, {200: models.Job}),
    "get_result": Operation("The answer alone, as the profile's output says.", Scope.JOBS_READ, {200: TEXTS}),
    "cancel_job": Operation("Withdraw a job that nobody has started.", Scope.JOBS_WRITE, {200: models.Job}),
    "retry_job": Operation(
        "Make a new job like this one.", Scope.JOBS_WRITE, {202: models.Job, 200: models.Job}, models.Retry,
        needs_body=False, is_once=True, may_wait=True,
    ),
    "create_submission": Operation(
        "Make many jobs, all or none.", Scope.JOBS_WRITE, {202: models.Submission}, models.NewSubmission,
        query=models.SubmissionQuery, is_once=True,
        other_bodies={JSONL: {"type": "string", "description": "the inputs of a job on each line; `profile` is in the "
                              "query, and only there"}},
    ),
    "list_submissions": Operation(
        "Your submissions, newest first.", Scope.JOBS_READ, {200: models.SubmissionList}, query=models.Page
    ),
    "get_submission": Operation("One submission, and how far it is.", Scope.JOBS_READ, {200: models.Submission}),
    "get_results": Operation(
        "What became of its jobs that have ended: one JobOutcome on each line.", Scope.JOBS_READ, {200: (JSONL,)},
        query=models.ResultsQuery,
    ),
    "create_documents": Operation(
        "Upload PDFs, all or none.", Scope.DOCUMENTS_WRITE, {201: models.DocumentList, 200: models.DocumentList},
        other_bodies={"multipart/form-data": _FILES}, is_once=True,
    ),
    "get_document": Operation("One document.", Scope.DOCUMENTS_WRITE, {200: models.Document}),
    "delete_document": Operation("Delete a document that no unfinished job needs.", Scope.DOCUMENTS_WRITE, {204: None}),
    "list_profiles": Operation("The job types, and what each wants to know.", Scope.JOBS_READ,
                               {200: models.ProfileList}),
    "get_usage": Operation(
        "What you used, what it cost and what batches saved.", Scope.USAGE_READ, {200: models.UsageReport},
        query=models.UsageQuery,
    ),
    "list_webhooks": Operation("Your webhooks, newest first.", Scope.WEBHOOKS_WRITE, {200: models.WebhookList}),
    "create_webhook": Operation(
        "Make a webhook. Its secret is in this answer and in no other.", Scope.WEBHOOKS_WRITE,
        {201: models.WebhookWithSecret}, models.NewWebhook,
    ),
    "get_webhook": Operation("One webhook.", Scope.WEBHOOKS_WRITE, {200: models.Webhook}),
    "change_webhook": Operation(
        "Change what the body names.", Scope.WEBHOOKS_WRITE, {200: models.Webhook}, models.WebhookChange
    ),
    "delete_webhook": Operation("Delete a webhook, and what waits for it.", Scope.WEBHOOKS_WRITE, {204: None}),
    "rotate_secret": Operation(
        "Give it a new secret; the old one signs beside it for a day.", Scope.WEBHOOKS_WRITE,
        {200: models.WebhookWithSecret},
    ),
    "send_test": Operation("Send it a message that says it is a test.", Scope.WEBHOOKS_WRITE, {202: models.Delivery}),
    "list_deliveries": Operation(
        "Its messages, newest first, and what became of each.", Scope.WEBHOOKS_WRITE, {200: models.DeliveryList},
        query=models.Page,
    ),
    "redeliver": Operation("Send a message again, with all its tries.", Scope.WEBHOOKS_WRITE, {202: models.Delivery}),
    "openapi": Operation("This API as an OpenAPI 3.1 document.", None, {200: (JSON,)}),
}  # fmt: skip


@bp.before_request
def _may_call() -> ResponseReturnValue | None:
    """Deny first: whoever calls needs a living token, the call a row in OPERATIONS, and the token that row's scope."""
    require_bearer_token()
    operation = OPERATIONS.get((request.endpoint or "").removeprefix(f"{bp.name}."))
    if operation is None:
        return errors.reply(403, "This call is not open to anybody.")
    if operation.scope and operation.scope not in g.scopes:
        message = f"This token may not do that: it needs the scope {operation.scope}."
        return errors.reply(403, message, code="wrong_scope", scope=operation.scope)
    return None


Model = TypeVar("Model", bound=BaseModel)


def read_body(model: type[Model], *, needed: bool = True) -> Model:
    """The JSON body. Raises InvalidInput; 400 or 415 for what is not JSON, 413 for what is too large."""
    request.max_content_length = MOST_JSON_BYTES
    if not needed and not request.get_data():
        return model()
    if not request.is_json:
        raise UnsupportedMediaType(f"Send a body of {JSON}.")
    try:
        return model.model_validate(request.get_json())
    except ValidationError as error:
        raise InvalidInput(errors.faults_of(error), "The request body is not right.") from None
    except RecursionError:
        raise BadRequest("This JSON nests too deep.") from None


def let_go() -> None:
    """Give the connection back before a body is read that may be long in coming."""
    db.session.close()


def read_query(model: type[Model]) -> Model:
    """The parameters of the address. Raises InvalidInput."""
    given = {name: values[0] if len(values) == 1 else values for name, values in request.args.lists()}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InvalidInput(errors.faults_of(error), "A parameter of the address is not right.") from None


def show(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(by_alias=True), status, headers, content_type=JSON)


def idempotency_key() -> str | None:
    return request.headers.get("Idempotency-Key")


def once(content: bytes | Any, make: idempotency.Make) -> tuple[str, bool]:
    """Make a thing, once for each Idempotency-Key: (`job:<id>`, was it made before).

    `make` returns that name, and hands it on in the transaction that makes the thing. `content` is what was asked
    for: the digest of a body, JSON, or what returns it, asked where there is a key. Raises InvalidInput, ReusedKey,
    TakenKey and what `make` raises.
    """
    key = idempotency_key()
    if key is None:
        return make(lambda _: None), False
    if not (key.isprintable() and key.isascii() and 1 <= len(key.strip()) <= MOST_KEY_LENGTH):
        raise InvalidInput({"Idempotency-Key": f"Use 1 to {MOST_KEY_LENGTH} printable ASCII characters."})
    content = content() if callable(content) else content
    if not isinstance(content, bytes):
        try:
            content = json.dumps(content, sort_keys=True).encode()
        except RecursionError:
            raise BadRequest("This JSON nests too deep.") from None
    digest = hashlib.sha256(f"{request.method} {request.full_path}\n".encode() + content).hexdigest()
    return idempotency.once(db.session(), idempotency.Request(g.user.id, key, digest), make)


def replay_header(is_replay: bool) -> dict[str, str]:
    return {"Idempotency-Replayed": "true"} if is_replay else {}


def id_of(target: str) -> int:
    """`job:5` is 5."""
    return int(target.partition(":")[2])
