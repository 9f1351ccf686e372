"""Errors as the API words them: every error body has message, type, param and code."""

import logging

from flask import Flask, jsonify, request
from werkzeug.exceptions import HTTPException

log = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer with an error body."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        type: str = "invalid_request_error",
    ):
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.type = type

    def body(self) -> dict:
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


def missing_parameter(param: str) -> ApiError:
    return ApiError(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def invalid_value(param: str, message: str) -> ApiError:
    return ApiError(message, param=param, code="invalid_value")


def unsupported(param: str, what: str) -> ApiError:
    """For what the real API can do and this stand-in cannot; the caller should hear it, not guess."""
    return ApiError(
        f"The offline provider does not support {what}.",
        param=param,
        code="unsupported_parameter",
    )


def install(app: Flask) -> None:
    app.register_error_handler(ApiError, lambda error: (error.body(), error.status))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _server_error)


def _http_error(error: HTTPException):
    messages = {
        404: f"Invalid URL ({request.method} {request.path})",
        405: f"Not allowed to {request.method} on {request.path}.",
        413: "The request is too large.",
    }
    status = error.code or 400
    message = messages.get(status, error.description or error.name)
    response = jsonify(ApiError(message).body())
    response.headers.extend([(name, value) for name, value in error.get_headers() if name == "Allow"])
    return response, status


def _server_error(error: Exception):
    log.exception("a request failed", exc_info=error)
    fault = ApiError(
        "The server had an error while processing your request.",
        status=500,
        type="server_error",
        code="server_error",
    )
    return fault.body(), fault.status
