"""A statement that is a transaction by itself."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from webapp.services.driver import alone, cursor_of

NEW = "INSERT INTO users (email, password_hash) VALUES (%s, 'none')"


def store(session: Session, name: str) -> None:
    with cursor_of(session) as cursor:
        cursor.execute(NEW, [f"{name}@example.org"])


def stored(engine: Engine) -> list[str]:
    """What others see."""
    with engine.connect() as connection:
        return [email.partition("@")[0] for (email,) in connection.execute(text("SELECT email FROM users ORDER BY id"))]


def test_others_see_it_without_a_commit_and_what_follows_is_a_transaction(session: Session, tables: Engine) -> None:
    with alone(session) as is_alone:
        store(session, "first")
    assert (is_alone, stored(tables)) == (True, ["first"])
    store(session, "second")
    assert stored(tables) == ["first"]
    session.rollback()
    assert stored(tables) == ["first"]


def test_it_joins_a_transaction_that_is_under_way(session: Session, tables: Engine) -> None:
    store(session, "first")
    with alone(session) as is_alone:
        store(session, "second")
    assert (is_alone, stored(tables)) == (False, [])
    session.rollback()
    assert stored(tables) == []


def test_a_statement_that_fails_takes_nothing_with_it(session: Session, tables: Engine) -> None:
    with alone(session):
        store(session, "first")
        with pytest.raises(DataError):
            session.execute(text("SELECT 1 / 0"))
    store(session, "second")
    session.commit()
    assert stored(tables) == ["first", "second"]


def test_whoever_gets_the_connection_next_has_an_ordinary_one(tables: Engine) -> None:
    one = create_engine(tables.url, pool_size=1, max_overflow=0)
    with Session(one) as session, alone(session):
        store(session, "first")
    with Session(one) as session:
        store(session, "second")
    assert stored(one) == ["first"]
    one.dispose()
