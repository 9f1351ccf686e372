"""One table: which error is which status. The representation follows the blueprint: JSON, fragment or page."""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app, has_request_context, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from pydantic import ValidationError
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from structlog.contextvars import get_contextvars
from werkzeug.exceptions import HTTPException

from webapp.domain import errors
from webapp.extensions import db
from webapp.parts import parts
from webapp.views.htmx import is_htmx

STATUS: dict[type[errors.SluiceError], int] = {
    errors.NotFound: 404,
    errors.UnknownProfile: 404,
    errors.PlannedProfile: 409,
    errors.InvalidMove: 409,
    errors.InsufficientJobs: 409,
    errors.OverBudget: 409,
    errors.StaleLease: 409,
    errors.ReusedKey: 409,
    errors.TakenKey: 409,
    errors.NoResult: 409,
    errors.DocumentTooLarge: 413,
    errors.BadDocument: 422,
    errors.InvalidInput: 422,
    errors.TooManyTries: 429,
    errors.UnavailableService: 503,
    errors.InvalidProfile: 500,
}
CODES = {
    errors.InsufficientJobs: "insufficient_jobs", errors.StaleLease: "stale_lease", errors.OverBudget: "over_budget",
    errors.ReusedKey: "reused_key", errors.TakenKey: "in_progress", errors.NoResult: "no_result",
}  # fmt: skip
TITLES = {
    400: "That request was not understood", 401: "Please sign in", 403: "Not for you", 404: "Nothing here",
    405: "Not like that", 409: "It has moved on", 413: "Too large", 415: "Not that kind of file",
    419: "This page was open for too long", 422: "Something is not right", 429: "Too many requests",
    500: "Something broke on our side", 503: "Not available right now",
}  # fmt: skip
# In place of Werkzeug's own words, which speak of URLs and permissions.
PLAIN = {
    403: "You are signed in, but this is not open to you.",
    404: "There is nothing at this address: it was mistyped, or what was here is gone.",
    405: "This address does not do that. Go back and use what the page offers.",
    415: "What was sent is of a kind that cannot be read here.",
    429: "That was more than is allowed for now. Wait a moment, then try again.",
}
MOST_FAULTS = 100  # that one answer names
KEPT_HEADERS = ("Allow", "Retry-After", "WWW-Authenticate")
JSON_BLUEPRINTS = ("api", "internal", "health")


def register(app: Flask) -> None:
    app.register_error_handler(errors.SluiceError, _sluice_error)
    app.register_error_handler(ValidationError, _validation_error)
    app.register_error_handler(CSRFError, _csrf_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(OperationalError, _database_is_away)
    app.register_error_handler(PoolTimeout, _database_is_away)
    app.register_error_handler(DataError, _impossible_value)
    app.register_error_handler(Exception, _crash)


def _sluice_error(error: errors.SluiceError) -> ResponseReturnValue:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return reply(status, error.message, code=CODES.get(type(error)), **error.detail)


def _validation_error(error: ValidationError) -> ResponseReturnValue:
    """A JSON body that does not have the shape of its message; of the API, which reads its own, an answer of ours."""
    if request.blueprint == "api":
        return _crash(error)
    return reply(422, "The request body is not right.", errors=faults_of(error))


def faults_of(error: ValidationError) -> dict[str, str]:
    """{field: what is wrong with it}; inside of a field it is a JSON pointer."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    return {_name_of(item["loc"]): item["msg"].removeprefix("Value error, ") for item in items[:MOST_FAULTS]}


def _name_of(location: tuple[int | str, ...]) -> str:
    return "/".join(["", *map(str, location)]) if len(location) > 1 else str(location[0]) if location else "body"


def _csrf_error(error: CSRFError) -> ResponseReturnValue:
    return reply(419, "Reload the page and try again; nothing was changed.")


def _http_error(error: HTTPException) -> ResponseReturnValue:
    if error.code is None or error.code < 400:
        return error.get_response()
    message = error.description or ""
    if message == type(error).description:
        message = PLAIN.get(error.code, message)
    if error.code == 413:
        most = min((request.max_content_length or 0) // 2**20, parts().settings.max_upload_mb)
        message = f"At most {most} MB can be sent at once. Nothing was stored."
    response = make_response(reply(error.code, message))
    for name, value in error.get_headers():
        if name in KEPT_HEADERS:
            response.headers[name] = value
    return response


def _database_is_away(error: Exception) -> ResponseReturnValue:
    current_app.logger.error("the database did not answer on %s %s: %s", request.method, request.path, error)
    db.session.remove()
    return reply(503, "The database does not answer. Nothing you sent was half stored; try again in a moment.")


def _impossible_value(error: DataError) -> ResponseReturnValue:
    """A number or text that no row can have: in an address there is nothing, in a body it is refused."""
    db.session.rollback()
    if request.method == "GET":
        return reply(404, "There is nothing here.")
    return reply(422, "One of the values is too large or is not text.")


def _crash(error: Exception) -> ResponseReturnValue:
    current_app.logger.exception("unexpected error on %s %s", request.method, request.path)
    db.session.rollback()
    reference = get_contextvars()["request_id"]  # in each of the request's lines
    return reply(500, f"The error was logged as {reference}. Nothing you sent was half stored.")


def reply(status: int, message: str, *, code: str | None = None, **detail: Any) -> ResponseReturnValue:
    """The error in the form that this caller reads."""
    title = TITLES.get(status, TITLES[500 if status >= 500 else 400])
    if has_request_context() and _wants_json():
        body = {"title": title, "status": status, "detail": message, **({"code": code} if code else {}), **detail}
        response = jsonify(body)
        response.content_type = "application/problem+json"
        return response, status
    template = "errors/_error.html" if is_htmx() else "errors/error.html"
    return render_template(template, code=status, title=title, message=message, request_id=None), status


def _wants_json() -> bool:
    is_internal = not hasattr(current_app, "login_manager")
    return is_internal or request.blueprint in JSON_BLUEPRINTS or request.path.startswith("/api/")
