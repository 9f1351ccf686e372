"""Faults of the scope `http`: on the way in, before anything is done, or on the way out, after it is committed."""

import errno
from collections.abc import Iterator

from flask import Flask, Response, current_app, g, jsonify, request

from . import clock
from .fault_errors import error_of
from .faults import Fault, Faults


def install(app: Flask) -> None:
    app.before_request(_before)
    app.after_request(_after)


def _before() -> Response | None:
    if not _is_api():
        return None
    for kind, strike in _BEFORE.items():
        fault = _faults().strike(kind, _facts())
        answer = strike(fault) if fault else None
        if answer is not None:
            g.was_struck = True
            return answer
    return None


def _after(response: Response) -> Response:
    """A lost answer is only worth a strike if there was something to lose."""
    if not _is_api() or "was_struck" in g or response.status_code >= 400:
        return response
    for kind, strike in _AFTER.items():
        fault = _faults().strike(kind, _facts())
        if fault:
            strike(fault, response)
    return response


def _is_api() -> bool:
    return not request.path.startswith(("/admin/", "/healthz"))


def _facts() -> dict:
    return {"method": request.method, "path": request.path.removeprefix("/openai")}


def _faults() -> Faults:
    return current_app.extensions["faults"]


# before


def _slow(fault: Fault) -> None:
    clock.pause(fault["seconds"])


def _http_error(fault: Fault) -> Response:
    error = error_of(fault)
    response = jsonify(error.body())
    response.status_code = error.status
    if fault["retry_after"] is not None:
        response.headers["Retry-After"] = f"{fault['retry_after']:g}"
    return response


def _drop_before(fault: Fault) -> Response:
    return Response(_broken())


# after


def _slow_after(fault: Fault, response: Response) -> None:
    clock.pause(fault["seconds"])


def _garbage_body(fault: Fault, response: Response) -> None:
    response.direct_passthrough = False
    if fault["form"] == "not_json":
        response.set_data("<html><body>Something in between has answered.</body></html>")
        response.mimetype = "text/html"
    else:
        content = response.get_data()
        response.set_data(content[: len(content) // 2])


def _cut_body(fault: Fault, response: Response) -> None:
    """`says`: whether Content-Length still names the whole, or hides that something is missing."""
    response.direct_passthrough = False
    whole = response.content_length
    if whole is None:
        whole = len(response.get_data())
    size = min(fault["bytes"], whole)
    says_whole = fault["says"] == "whole"
    response.headers["Content-Length"] = str(whole if says_whole else size)
    _replace_body(response, _first_bytes(response.iter_encoded(), size, says_whole))


def _drop_after(fault: Fault, response: Response) -> None:
    response.direct_passthrough = False
    _replace_body(response, _broken())


def _replace_body(response: Response, body: Iterator[bytes]) -> None:
    old = response.response
    response.response = body
    if hasattr(old, "close"):
        response.call_on_close(old.close)


def _first_bytes(chunks: Iterator[bytes], size: int, breaks_off: bool) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            break
    if breaks_off:
        yield from _broken()


def _broken() -> Iterator[bytes]:
    """A body that fails like a socket does. The server closes the connection: what it has not yet sent, such as
    the headers, is never sent."""
    raise ConnectionResetError(errno.ECONNRESET, "dropped by a fault")
    yield b""


_BEFORE = {"slow": _slow, "http_error": _http_error, "drop_before": _drop_before}
_AFTER = {
    "slow_after": _slow_after,
    "garbage_body": _garbage_body,
    "cut_body": _cut_body,
    "drop_after": _drop_after,
}
