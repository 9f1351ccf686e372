"""People, their API tokens, and failed sign-ins."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from flask_login import UserMixin
from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, CreatedAt, Id


class Person(Protocol):
    """Whose jobs and webhooks they are: a User, or as much as a token says of one."""

    @property
    def id(self) -> int: ...


class User(UserMixin, Base):
    __tablename__ = "users"

    id: Mapped[Id]
    email: Mapped[str] = mapped_column()
    password_hash: Mapped[str]  # Argon2id
    role: Mapped[str] = mapped_column(server_default="user")
    is_enabled: Mapped[bool] = mapped_column(server_default="true")
    session_epoch: Mapped[int] = mapped_column(server_default="0")  # raising it ends every session of this user
    created_at: Mapped[CreatedAt]
    last_sign_in_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_users_email_lower", func.lower(email), unique=True),
        CheckConstraint("role IN ('user', 'admin')", name="role"),
    )

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    @property
    def is_active(self) -> bool:
        """Flask-Login refuses to log in, and logs out, a user for whom this is false."""
        return self.is_enabled

    def get_id(self) -> str:
        """What the session cookie names: the epoch makes old cookies worthless."""
        return f"{self.id}.{self.session_epoch}"


class ApiToken(Base):
    """A bearer token. Only its sha256 is stored: it is random, so a slow hash adds nothing."""

    __tablename__ = "api_tokens"

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    token_hash: Mapped[str] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))  # domain/scopes.py
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]  # NULL = never
    last_used_at: Mapped[datetime | None]  # to the minute: not every request writes
    revoked_at: Mapped[datetime | None]


class SignInFailure(Base):
    """Wrong passwords in a row, by the digest of whom they were for and from where. A success deletes the row."""

    __tablename__ = "sign_in_failures"

    key: Mapped[str] = mapped_column(primary_key=True)  # sha256 of e-mail and address, or of the address alone
    failures: Mapped[int]
    last_at: Mapped[datetime]
    locked_until: Mapped[datetime | None]
