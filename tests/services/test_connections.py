"""A request never gets a connection that has died in the pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, text

from webapp import connections


@pytest.fixture
def pooled(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url, pool_size=1, max_overflow=0)
    connections.check_before_use(engine)
    yield engine
    engine.dispose()


def backend(engine: Engine) -> int:
    """The process of PostgreSQL behind the one connection of the pool."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_that_the_server_ended_is_replaced(engine: Engine, pooled: Engine) -> None:
    first = backend(pooled)
    with engine.connect() as other:
        assert other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": first}).scalar_one()

    assert backend(pooled) != first


def test_a_sound_connection_is_kept_and_not_asked(pooled: Engine) -> None:
    first = backend(pooled)
    said: list[str] = []
    event.listen(pooled, "before_cursor_execute", lambda *given: said.append(given[2]))

    assert backend(pooled) == first
    assert said == ["SELECT pg_backend_pid()"]


def test_one_that_rested_for_long_is_asked(pooled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    first = backend(pooled)
    monkeypatch.setattr(connections, "SOUND_FOR", 0.0)
    monkeypatch.setattr(pooled.dialect, "do_ping", asked.append)

    assert backend(pooled) == first
    assert len(asked) == 1
