"""gunicorn's entry points: `wsgi:app` is the web app, `wsgi:internal` the internal API on its own listener."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from webapp import create_app

if TYPE_CHECKING:
    from flask import Flask


def __getattr__(name: str) -> Flask:
    """Build only the one that is asked for."""
    if name == "app":
        return _settled(create_app("web"))
    if name == "internal":
        return _settled(create_app("internal"))
    raise AttributeError(name)


def _settled(app: Flask) -> Flask:
    settle()
    return app


def settle() -> None:
    """Make Python ready to serve. What is there after the start stays: else its collector looks through all of it,
    200,000 objects, now and then in the midst of a request, which then takes a tenth of a second longer."""
    gc.collect()
    gc.freeze()
