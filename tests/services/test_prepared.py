"""What goes past SQLAlchemy fails as if it did not."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.orm import Session

from webapp.services.clock import clock
from webapp.services.prepared import prepared


def test_a_broken_connection_is_an_outage_and_the_next_one_works(engine: Engine) -> None:
    with Session(engine) as session:
        pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(OperationalError) as caught:
            clock(session)
        assert caught.value.connection_invalidated
        session.rollback()
        assert clock(session)


def test_an_error_names_its_kind_and_no_parameters(session: Session) -> None:
    ask = prepared(text("SELECT CAST(:word AS text)::int AS number"))
    with pytest.raises(DataError) as caught:
        ask(session, word="secret")
    assert "[parameters:" not in str(caught.value)
    session.rollback()
    assert ask(session, word="7")[0].number == 7
