"""Users: register, sign in, API tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import BigInteger, bindparam, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.domain.errors import InvalidInput
from webapp.domain.scopes import Scope
from webapp.models import ApiToken, Person, User
from webapp.services.clock import NOW, clock
from webapp.services.driver import alone
from webapp.services.prepared import prepared

MIN_PASSWORD_LENGTH = 10
MAX_PASSWORD_LENGTH = 200
PASSWORD_RULE = f"Use {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters."
TOKEN_DAYS = (30, 90, 365, None)  # how long a token may live; None = until it is revoked
USE_NOTED_EVERY = timedelta(minutes=1)
TOKEN_PREFIX = "sluice_"  # noqa: S105  (makes a leaked token recognisable to scanners)
_EMAIL = re.compile(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f]+")

# OWASP's Argon2id profile: 19 MiB, two passes, one lane.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY = _hasher.hash(secrets.token_hex())  # an unknown e-mail takes as long as a wrong password


def register(session: Session, email: str, password: str, *, role: str = "user") -> User:
    """Create a user. Commits. Raises InvalidInput with `email` or `password`."""
    user = add_user(session, email, password, role=role)
    session.commit()
    return user


def add_user(session: Session, email: str, password: str, *, role: str) -> User:
    """A new user in the caller's transaction. Does not commit.

    Raises InvalidInput with `email` or `password`, and rolls back, when that cannot be.
    """
    email = email.strip()
    errors = {}
    if not _EMAIL.fullmatch(email) or len(email) > 254:
        errors["email"] = "This is not an e-mail address."
    if not is_long_enough(password):
        errors["password"] = PASSWORD_RULE
    if errors:
        session.rollback()
        raise InvalidInput(errors)
    user = User(email=email, password_hash=hash_password(password), role=role)
    session.add(user)
    try:
        session.flush()
    except IntegrityError:
        session.rollback()
        raise InvalidInput({"email": "This address is registered already."}) from None
    return user


def hash_password(password: str) -> str:
    """Argon2id, some 50 ms."""
    return _hasher.hash(password)


def authenticate(session: Session, email: str, password: str) -> User | None:
    """The user with this e-mail and password, if enabled; None for every kind of no."""
    user = _by_email(session, email)
    given = password if len(password) <= MAX_PASSWORD_LENGTH else ""  # hashing a megabyte would cost; nobody has that
    try:
        _hasher.verify(user.password_hash if user else _NOBODY, given)
    except (VerifyMismatchError, InvalidHashError):
        return None
    return user if user and user.is_enabled else None


def ensure_admin(session: Session, email: str, password: str) -> bool:
    """Make sure that this admin exists with this password. Commits. True when the user was created.

    A new password ends the sessions of the old one. Raises InvalidInput.
    """
    user = _by_email(session, email)
    if user is None:
        register(session, email, password, role="admin")
        return True
    if not is_long_enough(password):
        raise InvalidInput({"password": PASSWORD_RULE})
    user.role, user.is_enabled = "admin", True
    if authenticate(session, email, password) is None:
        user.password_hash = hash_password(password)
        user.session_epoch += 1
    session.commit()
    return False


def find_admin(session: Session, email: str | None) -> User:
    """The admin with this e-mail, or without one the only admin. Raises InvalidInput."""
    statement = select(User).where(User.role == "admin", User.is_enabled)
    if email:
        statement = statement.where(func.lower(User.email) == email.strip().lower())
    found = session.scalars(statement.order_by(User.id).limit(2)).all()
    if len(found) != 1:
        said = f"There is no admin {email}." if email else "Say which admin: there is none, or more than one."
        raise InvalidInput({"email": said})
    return found[0]


_SESSION_USER = select(User).where(
    User.id == bindparam("user_id"), User.session_epoch == bindparam("epoch", type_=BigInteger)
)


def load_session_user(session: Session, session_id: str) -> User | None:
    """The user that a session cookie names, unless the epoch has moved on."""
    named = named_by(session_id)
    return session.scalars(_SESSION_USER, {"user_id": named[0], "epoch": named[1]}).one_or_none() if named else None


def named_by(session_id: str) -> tuple[int, int] | None:
    """(user's id, epoch) of the `<id>.<epoch>` in a session cookie; None when it is none."""
    user_id, _, epoch = session_id.partition(".")
    is_one = user_id.isdecimal() and epoch.isdecimal() and len(user_id) < 19 and len(epoch) < 10
    return (int(user_id), int(epoch)) if is_one else None


def create_token(
    session: Session, user: User, name: str, scopes: Iterable[str] = tuple(Scope), *, days: int | None = None
) -> str:  # fmt: skip
    """A new API token of this user; the text is returned once and never stored. Commits.

    It ends after so many days, one of TOKEN_DAYS. Raises InvalidInput with `scopes` or `expiry`.
    """
    wanted = set(scopes)
    if not wanted:
        raise InvalidInput({"scopes": "Choose what this token may do."})
    if unknown := wanted - set(Scope):
        raise InvalidInput({"scopes": f"There is no scope {', '.join(sorted(unknown))}."})
    if days not in TOKEN_DAYS:
        raise InvalidInput({"expiry": "Choose one of the times offered."})
    token, now = TOKEN_PREFIX + secrets.token_urlsafe(32), clock(session)
    session.add(ApiToken(
        user_id=user.id, name=name.strip()[:80] or "API token", token_hash=_digest(token), created_at=now,
        scopes=[scope for scope in Scope if scope in wanted], expires_at=now + timedelta(days=days) if days else None,
    ))  # fmt: skip
    session.commit()
    return token


def revoke_token(session: Session, user: User, token_id: int) -> bool:
    """End a token of this user. Commits. False when there is no such living token."""
    token = session.scalars(
        select(ApiToken).where(ApiToken.id == token_id, ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
    ).one_or_none()
    if token is None:
        return False
    token.revoked_at = clock(session)
    session.commit()
    return True


def list_tokens(session: Session, user: User) -> list[ApiToken]:
    """The user's tokens that were not revoked, newest first; those that have expired, too."""
    statement = select(ApiToken).where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
    return list(session.scalars(statement.order_by(ApiToken.id.desc())))


@dataclass(frozen=True)
class Bearer:
    """Who calls, with which token, and what it may do."""

    user: Person
    token_id: int
    scopes: frozenset[str]
    now: datetime  # when it called


# Each call asks this.
_bearer = prepared(
    select(User.id, ApiToken.id.label("token_id"), ApiToken.scopes, ApiToken.expires_at, ApiToken.last_used_at, NOW)
    .join(ApiToken, User.id == ApiToken.user_id)
    .where(ApiToken.token_hash == bindparam("digest"), ApiToken.revoked_at.is_(None), User.is_enabled)
)


def find_bearer(session: Session, token: str) -> Bearer | None:
    """Whose living token this is; None if it is unknown, revoked or expired, or its user is disabled.

    Notes its use, to the minute, and commits that.
    """
    with alone(session):
        found = next(iter(_bearer(session, digest=_digest(token))), None)
    if found is None or (found.expires_at is not None and found.expires_at <= found.now):
        return None
    now = found.now
    bearer = Bearer(found, found.token_id, frozenset(found.scopes), now)
    if found.last_used_at is None or found.last_used_at < now - USE_NOTED_EVERY:
        unseen = or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < now - USE_NOTED_EVERY)
        session.execute(
            update(ApiToken).where(ApiToken.id == found.token_id, unseen).values(last_used_at=now)
            .execution_options(synchronize_session=False)
        )  # fmt: skip
        session.commit()
    return bearer


def is_long_enough(password: str) -> bool:
    return MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH


def _by_email(session: Session, email: str) -> User | None:
    return session.scalars(select(User).where(func.lower(User.email) == email.strip().lower())).one_or_none()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
