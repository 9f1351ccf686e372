"""What every HTTP answer shares: the key, the headers, reading a body, paging."""

import hmac

from flask import Flask, Response, current_app, g, request

from . import clock, ids, jsontext
from .errors import ApiError, invalid_value
from .fields import supported_values

ORGANIZATION = "org-offline"
# A file of 50 MB in base64, and something around it.
MAX_JSON_BYTES = 70 * 1024 * 1024
_MAX_ID_CHARS = 200


def install(app: Flask) -> None:
    app.before_request(_start_watch)
    app.after_request(_add_headers)


def check_key() -> None:
    """`Authorization: Bearer <key>`, or `api-key: <key>` as Azure has it."""
    authorization = request.headers.get("Authorization", "")
    scheme, _, bearer = authorization.partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("api-key", "")
    if not same_secret(given, current_app.config["SETTINGS"].provider_key):
        problem = "Incorrect API key provided." if given else "You didn't provide an API key."
        raise ApiError(
            f"{problem} Send the key of the offline provider as 'Authorization: Bearer <key>'.",
            status=401,
            code="invalid_api_key",
        )


def same_secret(given: str, expected: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def read_raw() -> bytes:
    request.max_content_length = MAX_JSON_BYTES
    return request.get_data(cache=False)


def as_json(raw: bytes):
    try:
        return jsontext.parse(raw or b"{}")
    except ValueError:
        raise ApiError("We could not parse the JSON body of your request.") from None


def read_json() -> dict:
    """The body of the request: one JSON object."""
    return as_json_object(read_raw())


def as_json_object(raw: bytes) -> dict:
    body = as_json(raw)
    if not isinstance(body, dict):
        raise ApiError("The JSON body of your request must be an object.")
    return body


def page_limit(default: int, most: int) -> int:
    raw = request.args.get("limit", str(default))
    if not (raw.isascii() and raw.isdigit() and len(raw) <= 9 and 1 <= int(raw) <= most):
        raise invalid_value("limit", f"Invalid 'limit': expected an integer from 1 to {most}.")
    return int(raw)


def page_choice(name: str, choices: tuple[str, ...], default: str | None) -> str | None:
    value = request.args.get(name, default)
    if value is not None and value not in choices:
        raise invalid_value(name, f"Invalid value: '{value[:100]}'. {supported_values(choices)}")
    return value


def page_after() -> str | None:
    return request.args.get("after", "")[:_MAX_ID_CHARS] or None


def list_object(objects: list[dict], limit: int) -> dict:
    """`objects`: up to limit + 1, the last only to tell that there are more."""
    data = objects[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(objects) > limit,
    }


def _start_watch() -> None:
    g.started = clock.stopwatch()


def _add_headers(response: Response) -> Response:
    response.headers["x-request-id"] = ids.request_id()
    response.headers["openai-version"] = "2020-10-01"
    response.headers["openai-organization"] = ORGANIZATION
    spent = clock.stopwatch() - g.started if "started" in g else 0
    response.headers["openai-processing-ms"] = str(round(spent * 1000))
    response.headers.update(g.get("rate_limit_headers", {}))
    return response
