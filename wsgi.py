"""gunicorn's entry points: `wsgi:app` is the web app, `wsgi:internal` the internal API on its own listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

from webapp import create_app

if TYPE_CHECKING:
    from flask import Flask


def __getattr__(name: str) -> Flask:
    """Build only the one that is asked for."""
    if name == "app":
        return create_app("web")
    if name == "internal":
        return create_app("internal")
    raise AttributeError(name)
