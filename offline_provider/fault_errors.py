"""The errors that faults speak of, worded like the real ones unless the fault says otherwise."""

from .errors import ApiError
from .faults import Fault

# status → (code, type, message)
_BY_STATUS = {
    400: ("invalid_value", "invalid_request_error", "The request is not valid."),
    401: ("invalid_api_key", "invalid_request_error", "Incorrect API key provided."),
    403: (None, "invalid_request_error", "You do not have access to this resource."),
    404: (None, "invalid_request_error", "The resource does not exist."),
    408: (None, "invalid_request_error", "The request timed out."),
    409: (None, "invalid_request_error", "The request conflicts with another one."),
    429: ("rate_limit_exceeded", "requests", "Rate limit reached. Please try again later."),
    500: ("server_error", "server_error", "The server had an error while processing your request."),
    503: ("server_error", "server_error", "The service is overloaded. Please try again later."),
}
_BY_CODE = {
    "insufficient_quota": (
        "insufficient_quota",
        "You exceeded your current quota. Please check your plan and billing.",
    ),
}


def error_of(fault: Fault) -> ApiError:
    """For a fault with a status, and maybe its own code, type and message."""
    wanted = {name: fault.parameters.get(name) for name in ("code", "type", "message")}
    code, kind, message = _BY_STATUS.get(fault["status"], _BY_STATUS[500 if fault["status"] >= 500 else 400])
    kind, message = _BY_CODE.get(wanted["code"], (kind, message))
    return ApiError(
        wanted["message"] or message,
        status=fault["status"],
        code=wanted["code"] or code,
        type=wanted["type"] or kind,
    )


# The code of a validation error → (param, message); what they may name is in braces.
_VALIDATION = {
    "missing_required_parameter": ("body.input", "Missing required parameter: 'input'."),
    "invalid_request": (
        "file_id",
        "Cannot find file {input_file_id}, or organization {organization} does not have access to it.",
    ),
    "token_limit_exceeded": (None, "Enqueued token limit reached for {model} in organization {organization}."),
    "mismatched_model": ("body.model", "The provided model does not match the rest of the batch."),
    "model_not_found": ("body.model", "The provided model '{model}' is not supported by the Batch API."),
    "duplicate_custom_id": ("custom_id", "The custom_id for this request is a duplicate of another request."),
    "invalid_json_line": (None, "This line is not parseable as valid JSON."),
    "invalid_url": ("url", "The URL provided for this request does not match the batch endpoint '{endpoint}'."),
    "empty_file": (None, "The batch input file contains no requests."),
    "too_many_tasks": (None, "The batch contains more requests than the maximum."),
    "file_too_large": ("file_id", "The batch input file is larger than the maximum."),
}


def validation_words(fault: Fault, facts: dict) -> tuple[str, str, str | None, int | None]:
    """(code, message, param, line) of a validation error."""
    param, message = _VALIDATION.get(fault["code"], (None, "The batch input is not valid."))
    message = fault["message"] or message.format_map(facts)
    return fault["code"], message, fault["param"] or param, fault["line"]
