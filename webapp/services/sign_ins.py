"""Signing in: wrong passwords are counted in PostgreSQL, and who sent too many has to wait.

A try is counted before its password is looked at, and taken back when it was right: of a hundred at the same moment
no more are looked at than of a hundred in a row. Whether the e-mail is known makes no difference to what is counted,
said, or how long it takes.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from webapp.domain.errors import InvalidInput, TooManyTries
from webapp.models import SignInFailure, User
from webapp.services import accounts
from webapp.services.clock import clock

log = logging.getLogger(__name__)

FIRST_LOCK = timedelta(seconds=30)  # doubled by each further failure
LONGEST_LOCK = timedelta(hours=1)
FORGOTTEN_AFTER = timedelta(hours=24)  # by then none counts any more, nor is anything locked
MOST_DELETED = 10_000


@dataclass(frozen=True)
class Tries:
    """Tries that are counted together: the last free one locks. With time they are forgotten, one by one."""

    key: str
    free: int
    one_forgotten_every: timedelta


def sign_in(session: Session, email: str, password: str, *, address: str) -> User | None:
    """The user with this e-mail and password, if enabled; None for every kind of no. Commits.

    `address` is where the request came from. Raises TooManyTries, and then has not looked at the password.
    """
    try:
        counted = _count(session, email, address)
    except TooManyTries:
        log.warning("sign-in refused: too many wrong passwords")
        raise
    user = accounts.authenticate(session, email, password)
    if user is None:
        session.rollback()
        log.warning("sign-in refused: wrong e-mail or password, or disabled")
        return None
    _take_back(session, *counted)
    user.last_sign_in_at = clock(session)
    session.commit()
    log.info("sign-in", extra={"user_id": user.id})
    return user


def change_password(session: Session, user: User, old: str, new: str, *, address: str) -> None:
    """A new password, for who knows the old one; every session of the user ends, tokens stay. Commits.

    Raises InvalidInput with `old` or `new`, or TooManyTries: a session that was left open is no way to guess, either.
    """
    if not accounts.is_long_enough(new):
        raise InvalidInput({"new": accounts.PASSWORD_RULE})
    if sign_in(session, user.email, old, address=address) is None:
        raise InvalidInput({"old": "This is not your present password."})
    user.password_hash = accounts.hash_password(new)
    end_sessions(session, user)


def end_sessions(session: Session, user: User) -> None:
    """Sign the user out everywhere. Commits."""
    user.session_epoch = User.session_epoch + 1
    session.commit()


def delete_old(session: Session) -> int:
    """Forget failures that nobody has added to for a day, a portion at a time. Commits. Returns how many."""
    old = (
        select(SignInFailure.key).where(SignInFailure.last_at <= clock(session) - FORGOTTEN_AFTER)
        .limit(MOST_DELETED).with_for_update(skip_locked=True).cte("old")
    )  # fmt: skip
    deleted = session.execute(
        delete(SignInFailure).where(SignInFailure.key.in_(select(old.c.key)))
        .returning(SignInFailure.key).execution_options(synchronize_session=False)
    ).all()  # fmt: skip
    session.commit()
    return len(deleted)


def _count(session: Session, email: str, address: str) -> tuple[Tries, Tries]:
    """Count a try from this address, and of this e-mail from there. Commits. Raises TooManyTries while one is locked.

    The address comes first, always: two who add to the same rows cannot wait for each other.
    """
    there = network(address)
    from_there = Tries(_digest("address", there), 30, timedelta(minutes=2))  # many people may share one
    for_them = Tries(_digest("pair", there, email.strip().lower()), 5, timedelta(minutes=30))
    now = clock(session)
    if not (_add(session, from_there, now) and _add(session, for_them, now)):
        session.rollback()  # a try that is not looked at counts for nothing
        is_one = SignInFailure.key.in_((from_there.key, for_them.key))
        until = session.scalar(select(func.max(SignInFailure.locked_until)).where(is_one)) or now
        session.rollback()
        raise TooManyTries(max(1, math.ceil((until - now).total_seconds())))
    session.commit()
    return from_there, for_them


def _add(session: Session, tries: Tries, now: datetime) -> bool:
    """One more, and a lock from the last free one on; False, and nothing is changed, while it is locked."""
    return bool(session.execute(
        text("""
            INSERT INTO sign_in_failures AS known (key, failures, last_at) VALUES (:key, 1, :now)
            ON CONFLICT (key) DO UPDATE SET (failures, last_at, locked_until) = (
                SELECT failures, last_at, CASE WHEN failures >= :free
                    THEN last_at + least(:longest, :first * power(2, least(failures - :free, 20))) END
                FROM (SELECT greatest(known.last_at, :now)) AS at (last_at), -- read before waiting
                    LATERAL (SELECT extract(epoch FROM last_at - known.last_at) / :every) AS quiet (periods),
                    LATERAL (SELECT 1 + greatest(0, known.failures - floor(periods)::int)) AS counted (failures)
            )
            WHERE known.locked_until IS NULL OR known.locked_until <= :now
            RETURNING key
        """),
        {
            "key": tries.key, "now": now, "free": tries.free, "every": tries.one_forgotten_every.total_seconds(),
            "longest": LONGEST_LOCK, "first": FIRST_LOCK,
        },
    ).all())  # fmt: skip


def _take_back(session: Session, from_there: Tries, for_them: Tries) -> None:
    """It was the right password: their failures are forgotten. The address keeps those of others, or signing in to one
    account would buy guesses at the next; but this try was none, nor did it lock the address. Does not commit."""
    session.execute(
        text("UPDATE sign_in_failures SET failures = failures - 1, locked_until = NULL WHERE key = :key"),
        {"key": from_there.key},
    )
    session.execute(delete(SignInFailure).where(SignInFailure.key == for_them.key))


def network(address: str) -> str:
    """What one person can have: an IPv4 address, or the /64 that an IPv6 address is in."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else found.packed[:8].hex()
    return str(found)


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode(errors="replace")).hexdigest()
