"""Accounts: who gets in, and what a reset does."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_user
from webapp.domain.errors import InvalidInput
from webapp.services import accounts


def test_a_short_password_makes_nobody_an_admin(session: Session) -> None:
    user = make_user(session)
    with pytest.raises(InvalidInput):
        accounts.ensure_admin(session, user.email, "")
    session.rollback()
    assert not user.is_admin


def test_a_new_password_ends_the_sessions_of_the_old_one(session: Session) -> None:
    user = make_user(session)
    old = user.get_id()
    accounts.ensure_admin(session, user.email, "another good password")
    assert accounts.load_session_user(session, old) is None
    assert accounts.authenticate(session, user.email, "another good password")


def test_the_same_password_changes_nothing(session: Session) -> None:
    user = make_user(session)
    old = user.get_id()
    accounts.ensure_admin(session, user.email, PASSWORD)
    assert accounts.load_session_user(session, old) is not None


def test_a_disabled_user_does_not_get_in(session: Session) -> None:
    user = make_user(session)
    user.is_enabled = False
    session.commit()
    assert accounts.authenticate(session, user.email, PASSWORD) is None


def test_a_password_that_only_begins_right_is_wrong(session: Session) -> None:
    long = "x" * accounts.MAX_PASSWORD_LENGTH
    accounts.register(session, "long@example.org", long)
    assert accounts.authenticate(session, "long@example.org", long)
    assert accounts.authenticate(session, "long@example.org", long + "y") is None
