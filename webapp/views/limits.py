"""How often somebody may ask: for people by who they are or where they come from, for programs by their token.

Counted in the memory of each worker process: with two workers somebody may get up to twice as much. What has to be
exact, wrong passwords, is counted in PostgreSQL (`services/sign_ins.py`).
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import Any

from flask import Flask, g, make_response, request
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter
from flask_limiter.errors import RateLimitExceeded
from flask_login import current_user

from webapp.services.sign_ins import network
from webapp.views import api, errors


def by_address() -> str:
    return network(request.remote_addr or "")


def by_user() -> str:
    """Who is signed in, or whose token it is."""
    return str(g.user.id if "user" in g else current_user.id)


def by_token() -> str:
    """The token, whether it is one or not: asking with a wrong one is limited before the database is asked."""
    given = request.headers.get("Authorization")
    return hashlib.sha256(given.encode()).hexdigest() if given else by_address()


# setting: who, what period, and the views that count together
LIMITS = {
    "sign_ins_per_minute": (by_address, "minute", ["public.login"]),
    "registrations_per_hour": (by_address, "hour", ["public.register"]),
    "uploads_per_minute": (by_user, "minute", ["runs.add_documents", "runs.create", "api.create_documents"]),
    "estimates_per_minute": (by_user, "minute", ["runs.estimate"]),
}
API_SETTING = "api_calls_per_minute"


def register(app: Flask) -> None:
    """Limit the views that are registered. 0 is no limit."""
    settings = app.extensions["sluice"].settings
    limiter = Limiter(by_address, storage_uri="memory://", strategy="moving-window")
    limiter.init_app(app)
    limited: set[str] = set()

    def where_limited(hook: Any) -> Any:
        """Where nothing is limited the limiter need not gather what might be; what is given (an answer) comes back."""
        return lambda *given: hook(*given) if request.endpoint in limited else next(iter(given), None)

    for hooks in (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs):
        own: Any = hooks[None]
        own.append(where_limited(own.pop()))  # the limiter's, which it has just registered
    for setting, (who, period, endpoints) in LIMITS.items():
        if most := getattr(settings, setting):
            limit = limiter.shared_limit(f"{most} per {period}", scope=setting, key_func=who, methods=["POST"])
            for endpoint in endpoints:
                view: Any = app.view_functions[endpoint]
                app.view_functions[endpoint] = limit(view)
            limited.update(endpoints)
    if most := getattr(settings, API_SETTING):
        limiter.shared_limit(f"{most} per minute", scope=API_SETTING, key_func=by_token)(api.bp)
        limited.update(name for name in app.view_functions if name.startswith(f"{api.bp.name}."))

    @app.errorhandler(RateLimitExceeded)
    def say_when(error: RateLimitExceeded) -> ResponseReturnValue:
        limit = error.limit.limit
        longest = limit.get_expiry()
        until = limiter.current_limit.reset_at if limiter.current_limit else time.time() + longest
        seconds = min(max(1, math.ceil(until - time.time())), longest)  # the moment is rounded up
        said = (
            f"At most {limit.amount} per {limit.GRANULARITY.name}: try again in {seconds} seconds. Nothing was changed."
        )
        response = make_response(errors.reply(429, said, code="too_often"))
        response.headers["Retry-After"] = str(seconds)
        return response
