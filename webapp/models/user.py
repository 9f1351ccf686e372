"""People and their API tokens."""

from __future__ import annotations

from datetime import datetime

from flask_login import UserMixin
from sqlalchemy import CheckConstraint, ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, CreatedAt, Id


class User(UserMixin, Base):
    __tablename__ = "users"

    id: Mapped[Id]
    email: Mapped[str] = mapped_column()
    password_hash: Mapped[str]  # Argon2id
    role: Mapped[str] = mapped_column(server_default="user")
    is_enabled: Mapped[bool] = mapped_column(server_default="true")
    session_epoch: Mapped[int] = mapped_column(server_default="0")  # raising it ends every session of this user
    created_at: Mapped[CreatedAt]

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
    created_at: Mapped[CreatedAt]
    revoked_at: Mapped[datetime | None]
