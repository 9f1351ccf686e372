"""Console and API: submissions, scoped tokens, idempotency keys, webhooks, failed sign-ins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WORDS = postgresql.ARRAY(sa.Text())
# What tokens of before could do.
SCOPES_OF_BEFORE = "'{jobs:read,jobs:write}'"


def _id() -> sa.Column:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False)


def _moment(name: str, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "submissions",
        _id(),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job_count", sa.Integer(), nullable=False),
        _moment("created_at", nullable=False),
        _moment("finished_at"),
        sa.CheckConstraint("source IN ('form', 'rows', 'api', 'retry')", name=op.f("ck_submissions_source")),
        sa.CheckConstraint("job_count >= 1", name=op.f("ck_submissions_has_jobs")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_submissions_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submissions")),
    )
    op.create_index("ix_submissions_user_newest", "submissions", ["user_id", sa.text("id DESC")])
    op.create_index("ix_submissions_unfinished", "submissions", ["id"], postgresql_where=sa.text("finished_at IS NULL"))
    op.add_column("jobs", sa.Column("submission_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(op.f("fk_jobs_submission_id_submissions"), "jobs", "submissions", ["submission_id"], ["id"])
    op.create_index(
        "ix_jobs_submission",
        "jobs",
        ["submission_id", "status", "id"],
        postgresql_where=sa.text("submission_id IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_failed",
        "jobs",
        ["failure_code", sa.text("id DESC")],
        postgresql_where=sa.text("status = 'failed'"),
    )

    op.add_column("users", _moment("last_sign_in_at"))
    op.add_column("api_tokens", sa.Column("scopes", WORDS, server_default=sa.text(SCOPES_OF_BEFORE), nullable=False))
    op.alter_column("api_tokens", "scopes", server_default=None)
    op.add_column("api_tokens", _moment("expires_at"))
    op.add_column("api_tokens", _moment("last_used_at"))
    op.create_table(
        "sign_in_failures",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _moment("last_at", nullable=False),
        _moment("locked_until"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sign_in_failures")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        _moment("created_at", nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotency_keys_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])

    op.create_table(
        "webhooks",
        _id(),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", WORDS, nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        _moment("created_at", nullable=False),
        _moment("disabled_at"),
        sa.Column("disabled_because", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_webhooks_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_user_id"), "webhooks", ["user_id"])
    op.create_table(
        "webhook_deliveries",
        _id(),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("target_id", sa.BigInteger(), nullable=False),
        _moment("created_at", nullable=False),
        _moment("due_at"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _moment("delivered_at"),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "delivered_at IS NULL OR due_at IS NULL", name=op.f("ck_webhook_deliveries_delivered_is_done")
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id_webhooks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        sa.UniqueConstraint(
            "webhook_id", "event_type", "target_id", name=op.f("uq_webhook_deliveries_webhook_id_event_type_target_id")
        ),
    )
    op.create_index(
        "ix_webhook_deliveries_due", "webhook_deliveries", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL")
    )


def downgrade() -> None:
    for table in ("webhook_deliveries", "webhooks", "idempotency_keys", "sign_in_failures"):
        op.drop_table(table)
    for column in ("last_used_at", "expires_at", "scopes"):
        op.drop_column("api_tokens", column)
    op.drop_column("users", "last_sign_in_at")
    for index in ("ix_jobs_failed", "ix_jobs_submission"):
        op.drop_index(index, "jobs")
    op.drop_column("jobs", "submission_id")
    op.drop_table("submissions")
