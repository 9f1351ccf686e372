"""Sluice's app. `create_app` is the only place that knows every part."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from webapp import cli, connections, logs, views
from webapp.config import InvalidSettings, Settings
from webapp.extensions import csrf, db, htmx, login_manager, migrate
from webapp.parts import Parts, build_parts
from webapp.services.clock import TEST_CLOCK_OPTION

Listener = Literal["web", "internal"]
MEBIBYTE = 1024 * 1024


class _App(Flask):
    def ensure_sync(self, func: Any) -> Any:
        """No view here is a coroutine: not to be asked of each view and hook of each request."""
        return func


def create_app(listener: Listener = "web", settings: Settings | None = None) -> Flask:
    """The web app, or the internal API: one image, two listeners, so that people who wait never block write-backs.

    Raises InvalidSettings or InvalidProfile: a wrong deployment does not start.
    """
    settings = settings or Settings.from_env()
    logs.configure_logging()
    app = _App(__name__)
    logs.register(app)
    app.config.update(_flask_config(settings))
    app.extensions["sluice"] = build_parts(settings)
    db.init_app(app)
    migrate.init_app(
        app,
        db,
        directory=str(Path(__file__).parent.parent / "migrations"),
        compare_server_default=True,
        render_as_batch=False,
    )
    with app.app_context():
        logs.hide_rows(db.engine)
        connections.check_before_use(db.engine)
    if settings.applicationinsights_connection_string:
        _trace(app, listener, settings)  # before the rest: what that refuses is traced, too
    if listener == "web":
        csrf.init_app(app)
        login_manager.init_app(app)
        htmx.init_app(app)
        if settings.is_production:
            app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
        views.register_web(app)
    else:
        views.register_internal(app)
    app.url_defaults(_static_version)
    cli.register(app)
    return app


def _flask_config(settings: Settings) -> dict[str, Any]:
    return {
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        "SECRET_KEY_FALLBACKS": [old.get_secret_value() for old in [settings.secret_key_previous] if old],
        "SQLALCHEMY_DATABASE_URI": settings.database_url.get_secret_value(),
        "SQLALCHEMY_ENGINE_OPTIONS": {
            "pool_size": settings.database_pool_size, "max_overflow": 2, "pool_timeout": 5,
            "hide_parameters": True,  # they are documents and addresses of people: an error must not log them
            "connect_args": {"options": TEST_CLOCK_OPTION} if settings.test_clock else {},
        },
        "MAX_CONTENT_LENGTH": (settings.max_upload_mb + 1) * MEBIBYTE,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": settings.is_https,
        # A browser takes this name from a secure page of this very host only, never from a neighbour in the domain.
        "SESSION_COOKIE_NAME": "__Host-session" if settings.is_https else "session",
        "WTF_CSRF_TIME_LIMIT": None,  # bound to the session: a page left open for a day still works
        "SEND_FILE_MAX_AGE_DEFAULT": 31_536_000,  # static addresses carry a content hash
    }  # fmt: skip


def _trace(app: Flask, listener: Listener, settings: Settings) -> None:
    """Raises InvalidSettings."""
    connection_string = settings.applicationinsights_connection_string
    assert connection_string
    try:
        tracing = import_module("webapp.tracing")
        exporter = tracing.azure_exporter(connection_string.get_secret_value())
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            "APPLICATIONINSIGHTS_CONNECTION_STRING needs packages that are not installed"
            f" ({error.name}): pip install -r requirements/azure.txt"
        ) from error
    except ValueError as error:
        raise InvalidSettings(f"APPLICATIONINSIGHTS_CONNECTION_STRING: {error}") from error
    span = tracing.start(app, f"sluice-{listener}", exporter, settings.trace_ratio)
    parts: Parts = app.extensions["sluice"]
    app.extensions["sluice"] = replace(parts, n8n=replace(parts.n8n, span=span))


@lru_cache(maxsize=256)
def _content_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _static_version(endpoint: str, values: dict[str, Any]) -> None:
    """Give each static file an address that changes with its content."""
    if endpoint == "static" and (filename := values.get("filename")):
        path = Path(__file__).parent / "static" / filename
        if path.is_file():
            values["v"] = _content_hash(path)
