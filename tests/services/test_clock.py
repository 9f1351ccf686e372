"""The clock that tests move."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import Session

from webapp.config import InvalidSettings, Settings
from webapp.services.clock import clock, move_clock


def seconds_ahead(session: Session) -> float:
    real = session.execute(select(func.clock_timestamp())).scalar_one()
    return (clock(session) - real).total_seconds()


def test_the_clock_is_the_database_s(session: Session) -> None:
    assert abs(seconds_ahead(session)) < 5


def test_one_move_moves_it_for_every_connection(session: Session, tables: Engine) -> None:
    move_clock(session, ahead=timedelta(hours=30))
    with Session(tables) as other:
        assert seconds_ahead(other) == pytest.approx(30 * 3600, abs=5)
    move_clock(session, ahead=timedelta())
    assert abs(seconds_ahead(session)) < 5


def test_nobody_sees_a_moved_clock_unless_test_clock_is_on(session: Session, database_url: str) -> None:
    move_clock(session, ahead=timedelta(hours=30))
    engine = create_engine(database_url)
    with Session(engine) as plain:
        assert abs(seconds_ahead(plain)) < 5
    engine.dispose()


def test_production_refuses_a_clock_for_tests() -> None:
    with pytest.raises(InvalidSettings, match="TEST_CLOCK must be off in production"):
        Settings.from_env({
            "TEST_CLOCK": "1", "ENVIRONMENT": "production", "DATABASE_URL": "postgresql+psycopg://x",
            "STORAGE_DIR": "/tmp", "SECRET_KEY": "k" * 20, "INTERNAL_TOKEN": "t" * 20, "N8N_WEBHOOK_TOKEN": "w" * 20,
            "OPENAI_API_KEY": "sk-x",
        })  # fmt: skip
