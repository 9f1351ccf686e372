"""Checks an input file before anything runs. One bad line fails the whole batch; each is named."""

from codecs import BOM_UTF8
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from . import batch_lines, flavours, jsontext, models
from .settings import Settings
from .tokens import BYTES_PER_TOKEN

MAX_ERRORS = 100
_REQUIRED = {"/v1/responses": "input", "/v1/chat/completions": "messages"}
_LINE_FIELDS = {"custom_id": str, "method": str, "url": str, "body": dict}


@dataclass
class Validated:
    total: int = 0
    model: str | None = None
    endpoint: str | None = None  # of the batch; on Azure that of its first line
    enqueued_tokens: int = 0
    errors: list[dict] = field(default_factory=list)


class _BadLine(Exception):
    def __init__(self, code: str, message: str, param: str | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def error(code: str, message: str, param: str | None = None, line: int | None = None) -> dict:
    """One entry of a batch's errors. `code` as OpenAI has it."""
    code = flavours.current().validation_codes.get(code, code)
    return {"code": code, "message": message, "param": param, "line": line}


def validate(path: Path, endpoint: str, settings: Settings) -> Validated:
    flavour = flavours.current()
    result = Validated(endpoint=None if flavour.endpoint_is_read_from_file else endpoint)
    if path.stat().st_size > settings.max_batch_file_bytes:
        megabytes = settings.max_batch_file_bytes / 1024 / 1024
        message = f"The batch input file is larger than the {megabytes:g} MB maximum."
        return Validated(errors=[error("file_too_large", message, "file_id")])
    seen: set[bytes] = set()
    with path.open("rb") as file:
        for number, (raw, _) in enumerate(batch_lines.read(file), start=1):
            if raw is not None and not raw.strip():
                continue
            result.total += 1
            if result.total > settings.max_requests_per_batch:
                result.errors = [_too_many(settings)]
                break
            try:
                if flavour.byte_order_mark and number == 1 and raw and raw.startswith(BOM_UTF8):
                    raise _BadLine(*flavour.byte_order_mark)
                _check_line(raw, seen, result)
            except _BadLine as fault:
                result.errors.append(error(fault.code, fault.message, fault.param, number))
            if len(result.errors) >= MAX_ERRORS:
                break
    if result.total == 0:
        result.errors.append(error("empty_file", "The batch input file contains no requests."))
    return result


def _too_many(settings: Settings) -> dict:
    most = settings.max_requests_per_batch
    return error("too_many_tasks", f"The batch contains more than the maximum of {most:,} requests.")


def _check_line(raw: bytes | None, seen: set[bytes], result: Validated) -> None:
    if raw is None:
        raise _BadLine("invalid_json_line", "This line is too long.")
    line = _parse(raw)
    for name, kind in _LINE_FIELDS.items():
        _require(line, name, name)
        if not isinstance(line[name], kind):
            raise _BadLine("invalid_type", f"Invalid type for '{name}'.", name)
    _check_custom_id(line["custom_id"], seen)
    if line["method"] != "POST":
        raise _BadLine("invalid_method", "The method of every request must be 'POST'.", "method")
    _check_url(line["url"], result)
    _check_body(line["body"], result)
    result.enqueued_tokens += -(-len(raw) // BYTES_PER_TOKEN)


def _parse(raw: bytes) -> dict:
    try:
        line = jsontext.parse(raw)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        raise _BadLine("invalid_json_line", "This line is not parseable as valid JSON.")
    return line


def _check_custom_id(custom_id: str, seen: set[bytes]) -> None:
    # A digest, so that 50,000 long ids do not fill the memory.
    digest = blake2b(custom_id.encode(), digest_size=16).digest()
    if digest in seen:
        raise _BadLine(
            "duplicate_custom_id",
            f"The custom_id '{custom_id[:100]}' for this request is a duplicate of another request. "
            "The custom_id parameter must be unique for each request in a batch.",
            "custom_id",
        )
    seen.add(digest)


def _check_url(url: str, result: Validated) -> None:
    endpoint = flavours.current().endpoint_aliases.get(url, url)
    if result.endpoint is None and endpoint in _REQUIRED:
        result.endpoint = endpoint
    if endpoint != result.endpoint:
        raise _BadLine(
            "invalid_url",
            f"The URL provided for this request does not match the batch endpoint '{result.endpoint}'.",
            "url",
        )


def _check_body(body: dict, result: Validated) -> None:
    required = _REQUIRED[result.endpoint]
    _require(body, "model", "body.model")
    _require(body, required, f"body.{required}")
    model = body["model"]
    found = models.find(model) if isinstance(model, str) else None
    if found is None:
        raise _BadLine(
            "model_not_found",
            f"The provided model '{str(model)[:100]}' is not supported by the Batch API.",
            "body.model",
        )
    result.model = result.model or model
    if not found.serves("batch"):
        raise _BadLine("invalid_request", found.wrong_sku("batch").message, "body.model")
    if model != result.model:
        raise _BadLine(
            "mismatched_model",
            f"The provided model '{model}' does not match the rest of the batch. "
            "Each batch must contain requests for a single model.",
            "body.model",
        )
    if body.get("stream"):
        raise _BadLine("invalid_value", "Streaming is not supported by the Batch API.", "body.stream")


def _require(value: dict, name: str, param: str) -> None:
    if value.get(name) is None:
        message = f"Missing required parameter: '{param.removeprefix('body.')}'."
        raise _BadLine("missing_required_parameter", message, param)
