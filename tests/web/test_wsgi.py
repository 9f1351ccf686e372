"""gunicorn's entry points."""

from __future__ import annotations

import gc

import pytest

import wsgi


def test_the_collector_leaves_alone_what_is_there_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi, "create_app", str)
    assert gc.get_freeze_count() == 0
    try:
        assert (wsgi.app, wsgi.internal) == ("web", "internal")
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


def test_there_is_no_third_entry_point() -> None:
    with pytest.raises(AttributeError):
        _ = wsgi.metrics
