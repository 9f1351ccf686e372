"""All that the app knows of htmx. `htmx_flask` is used here and nowhere else."""

from __future__ import annotations

from typing import Any

from flask import redirect, render_template, request
from flask.typing import ResponseReturnValue
from htmx_flask import make_response


def is_htmx() -> bool:
    """Does htmx want a fragment? A history restore wants the whole page."""
    return request.headers.get("HX-Request") == "true" and "HX-History-Restore-Request" not in request.headers


def reply(page: str, fragment: str, status: int = 200, **context: Any) -> ResponseReturnValue:
    """The fragment for htmx, the page for everyone else: one address, two representations."""
    response = make_response(render_template(fragment if is_htmx() else page, **context))
    response.status_code = status
    response.headers["Vary"] = "HX-Request"
    return response


def reply_elsewhere(fragment: str, target: str, **context: Any) -> ResponseReturnValue:
    """A fragment that htmx puts in place of `target` (a CSS selector), not of what asked."""
    return make_response(render_template(fragment, **context), retarget=target)


def go_to(address: str) -> ResponseReturnValue:
    """After a change: htmx loads the new page, a plain form post is redirected (303)."""
    if is_htmx():
        return make_response("", redirect=address)
    return redirect(address, 303)


def client_redirect(address: str, status: int) -> ResponseReturnValue:
    """Send the whole page somewhere with an error status: for a poll that finds its session gone."""
    response = make_response("", redirect=address)
    response.status_code = status
    return response
