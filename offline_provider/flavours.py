"""Whose API this process imitates: OpenAI's, or Azure OpenAI's v1.

Every difference is a row of `Flavour`; the rest of the code asks `current()`. It is one for the whole process and
chosen at the start.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from . import ids

_TIMES = (
    "created_at",
    "expires_at",
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


def _unchanged(batch: dict) -> dict:
    return batch


def _undecorated(endpoint: str, body: dict) -> dict:
    return body


@dataclass(frozen=True)
class Flavour:
    base_path: str = "/v1"
    has_deployments: bool = False  # `model` names a deployment, and its SKU says what that takes
    file_id: Callable[[], str] = ids.file_id
    batch_id: Callable[[float], str] = ids.batch_id
    min_expiry_seconds: int = 3_600
    batches_expire: bool = True
    lines_have_ids: bool = True
    endpoint_is_read_from_file: bool = False
    endpoint_aliases: dict[str, str] = field(default_factory=dict)
    has_empty_error_file: bool = False  # a completed batch without errors has an error file of 0 bytes
    validation_codes: dict[str, str] = field(default_factory=dict)  # OpenAI's code → this one's
    byte_order_mark: tuple[str, str] | None = None  # (code, message) where the real service misleads
    over_allowance: str = (
        "Enqueued token limit reached for {model} in organization {organization}. Limit: {limit:,} enqueued tokens. "
        "Please try again once some in_progress batches have been completed."
    )
    unknown_model: tuple[str, str] = (
        "model_not_found",
        "The model `{model}` does not exist or you do not have access to it.",
    )
    batch_object: Callable[[dict], dict] = _unchanged  # the last touch to a Batch object
    decorate: Callable[[str, dict], dict] = _undecorated  # the last touch to a good answer


def _azure_batch(batch: dict) -> dict:
    """As the older REST outputs have it: names in capitals, times in ISO, nothing known while validating."""
    times = {name: batch[name] and f"{datetime.fromtimestamp(batch[name], UTC):%Y-%m-%dT%H:%M:%S}.0000000Z"
             for name in _TIMES}  # fmt: skip
    changed = {**batch, **times, "status": batch["status"].capitalize(), "error_file_id": batch["error_file_id"] or ""}
    if batch["status"] == "validating":
        changed |= {"endpoint": None, "request_counts": {"total": None, "completed": None, "failed": None}}
    return changed


def _azure_filters(endpoint: str, body: dict) -> dict:
    passed = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
    prompt = [{"prompt_index": 0, "content_filter_results": passed}]
    if endpoint == "/v1/chat/completions":
        choices = [{**choice, "content_filter_results": passed} for choice in body["choices"]]
        return {**body, "choices": choices, "prompt_filter_results": prompt}
    return {**body, "content_filter_results": passed, "prompt_filter_results": prompt}


FLAVOURS = {
    "openai": Flavour(),
    "azure": Flavour(
        base_path="/openai/v1",
        has_deployments=True,
        file_id=ids.azure_file_id,
        batch_id=ids.azure_batch_id,
        min_expiry_seconds=1_209_600,
        batches_expire=False,
        lines_have_ids=False,
        endpoint_is_read_from_file=True,
        endpoint_aliases={"/chat/completions": "/v1/chat/completions", "/responses": "/v1/responses"},
        has_empty_error_file=True,
        validation_codes={"mismatched_model": "model_mismatch", "invalid_url": "url_mismatch"},
        byte_order_mark=(
            "invalid_request",
            "The valid model deployment name couldn't be extracted from the input file.",
        ),
        over_allowance=(
            "The number of enqueued tokens has surpassed the configured limit of {limit:,} for the deployment "
            "'{model}'. Please either increase the limit or try again once the current jobs have finished."
        ),
        unknown_model=("DeploymentNotFound", "The API deployment '{model}' for this resource does not exist."),
        batch_object=_azure_batch,
        decorate=_azure_filters,
    ),
}

_current = FLAVOURS["openai"]


def use(name: str) -> None:
    """For the start of the process."""
    global _current
    _current = FLAVOURS[name]


def current() -> Flavour:
    return _current
