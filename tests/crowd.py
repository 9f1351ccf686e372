"""Several at once on real PostgreSQL: each in a thread with a session of its own, held up by locks, not by time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

PATIENCE_SECONDS = 20
BLOCKED = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")


class Crowd:
    def __init__(self, engine: Engine, pool: ThreadPoolExecutor) -> None:
        self._engine, self._pool = engine, pool
        self._started: list[Future[Any]] = []

    def start(self, deed: Callable[[Session], Any]) -> Future[Any]:
        """Do this in a thread, with a session of its own."""

        def do() -> Any:
            with Session(self._engine) as own:
                return deed(own)

        self._started.append(self._pool.submit(do))
        return self._started[-1]

    def wait_until_blocked(self, count: int) -> None:
        """Until so many of them wait for somebody's lock. One that ends instead was not kept from going on."""
        patience = time.monotonic() + PATIENCE_SECONDS
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while connection.execute(BLOCKED).scalar_one() < count:
                ended = [one for one in self._started if one.done()]
                assert len(self._started) - len(ended) >= count, f"went on: {[_end(one) for one in ended]}"
                assert time.monotonic() < patience, "nobody waits"


@contextmanager
def crowd(session: Session) -> Iterator[Crowd]:
    """Others, held up by what the test's own session has locked until it commits. All have ended when the block has."""
    engine = session.get_bind()
    assert isinstance(engine, Engine)
    with ThreadPoolExecutor(8) as pool:
        try:
            yield Crowd(engine, pool)
        finally:
            session.rollback()  # a test that fails would keep them for ever


def _end(future: Future[Any]) -> Any:
    return future.exception() or future.result()
