"""Wrong passwords: who sent too many waits, for longer each time, and nobody else does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_user
from webapp.domain.errors import TooManyTries
from webapp.models import SignInFailure
from webapp.services import accounts, sign_ins
from webapp.services.clock import clock, move_clock

ALICE, HERE, THERE = "alice@example.org", "192.0.2.1", "198.51.100.7"
WRONG = "a wrong password"


@pytest.fixture(autouse=True)
def _real_time_again(session: Session) -> Iterator[None]:
    yield
    session.rollback()
    move_clock(session, ahead=timedelta())


def fail(session: Session, times: int, email: str = ALICE, address: str = HERE) -> int:
    """So many wrong passwords; returns for how many seconds the next must wait (0: it need not)."""
    for _ in range(times):
        assert sign_ins.sign_in(session, email, WRONG, address=address) is None
    ahead = clock(session)
    locked = session.scalar(select(func.max(SignInFailure.locked_until)))
    session.rollback()
    return round((locked - ahead).total_seconds()) if locked else 0


def test_the_fifth_wrong_password_locks_and_the_right_one_waits_too(session: Session) -> None:
    make_user(session)
    assert fail(session, 4) == 0
    assert fail(session, 1) == 30
    with pytest.raises(TooManyTries, match=r"Try again in (29|30) seconds"):
        sign_ins.sign_in(session, ALICE, PASSWORD, address=HERE)


def test_each_further_one_locks_for_twice_as_long_up_to_a_bound(session: Session) -> None:
    make_user(session)
    ahead, locks = timedelta(), [fail(session, 5)]
    for _ in range(14):
        ahead += timedelta(seconds=locks[-1] + 1)
        move_clock(session, ahead=ahead)
        locks.append(fail(session, 1))
    assert locks[:6] == [30, 60, 120, 240, 480, 960]
    assert max(locks) <= 3600
    assert locks[-1] >= 1800  # who goes on gets some fifty tries a day


def test_an_unknown_address_is_locked_alike_and_told_the_same(session: Session) -> None:
    make_user(session)
    told = []
    for email in (ALICE, "nobody@example.org"):
        assert fail(session, 5, email) == 30
        with pytest.raises(TooManyTries) as caught:
            sign_ins.sign_in(session, email, PASSWORD, address=HERE)
        told.append(caught.value.message.replace("29", "30"))
    assert told[0] == told[1]


def test_the_owner_gets_in_from_elsewhere_while_somebody_guesses(session: Session) -> None:
    make_user(session)
    fail(session, 5)
    assert sign_ins.sign_in(session, ALICE.upper(), PASSWORD, address=THERE)


def test_who_tries_many_people_is_stopped_by_the_address(session: Session) -> None:
    make_user(session)
    for number in range(29):
        assert fail(session, 1, f"person{number}@example.org") == 0
    assert fail(session, 1, "person30@example.org") == 30
    with pytest.raises(TooManyTries):
        sign_ins.sign_in(session, ALICE, PASSWORD, address=HERE)
    assert sign_ins.sign_in(session, ALICE, PASSWORD, address=THERE)


def test_a_v6_address_is_its_network(session: Session) -> None:
    make_user(session)
    for last in range(5):
        fail(session, 1, address=f"2001:db8::{last}")
    with pytest.raises(TooManyTries):
        sign_ins.sign_in(session, ALICE, PASSWORD, address="2001:db8::ffff")
    assert sign_ins.sign_in(session, ALICE, PASSWORD, address="2001:db8:0:1::1")


def test_the_right_password_forgets_the_wrong_ones_of_this_person_only(session: Session) -> None:
    make_user(session)
    fail(session, 4)
    fail(session, 1, "bob@example.org")
    assert sign_ins.sign_in(session, ALICE, PASSWORD, address=HERE) is not None
    assert session.scalars(select(SignInFailure.failures).order_by("failures")).all() == [1, 5]  # bob's, the address's


def test_an_hour_of_quiet_gives_tries_back(session: Session) -> None:
    make_user(session)
    fail(session, 4)
    move_clock(session, ahead=timedelta(minutes=61))
    assert fail(session, 2) == 0
    assert fail(session, 1) == 30


def test_of_many_guesses_at_once_no_more_are_looked_at_than_in_a_row(tables: Engine, session: Session) -> None:
    make_user(session)

    def guess(_: int) -> bool:
        with Session(tables) as own:
            try:
                sign_ins.sign_in(own, ALICE, WRONG, address=HERE)
            except TooManyTries:
                return False
            return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(guess, range(24))) == 5


def test_right_passwords_at_once_leave_nothing_behind(tables: Engine, session: Session) -> None:
    make_user(session)

    def sign_in(_: int) -> bool:
        with Session(tables) as own:
            return sign_ins.sign_in(own, ALICE, PASSWORD, address=HERE) is not None

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(sign_in, range(4)))
    assert session.scalars(select(SignInFailure.failures)).all() == [0]


def test_a_disabled_user_is_counted_like_a_wrong_password(session: Session) -> None:
    make_user(session).is_enabled = False
    session.commit()
    for _ in range(5):
        assert sign_ins.sign_in(session, ALICE, PASSWORD, address=HERE) is None
    with pytest.raises(TooManyTries):
        sign_ins.sign_in(session, ALICE, PASSWORD, address=HERE)


def test_as_many_hashes_are_made_for_nobody_as_for_somebody(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    make_user(session)
    verified = []

    class Counting:
        def verify(self, stored: str, given: str) -> bool:
            verified.append(stored[:30])
            return accounts.PasswordHasher().verify(stored, given)

    monkeypatch.setattr(accounts, "_hasher", Counting())
    for email in (ALICE, "nobody@example.org"):
        sign_ins.sign_in(session, email, WRONG, address=HERE)
    assert verified[0] == verified[1]  # the same parameters, so the same time
    assert len(verified) == 2


def test_retention_forgets_failures_after_a_day_and_no_earlier(session: Session) -> None:
    fail(session, 5)
    assert sign_ins.delete_old(session) == 0
    move_clock(session, ahead=timedelta(hours=25))
    assert sign_ins.delete_old(session) == 2
    assert session.scalars(select(SignInFailure.key)).all() == []
