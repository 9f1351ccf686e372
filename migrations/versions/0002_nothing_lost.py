"""Deadlines, wishes to cancel, problems of steps, audit, retention, and a clock for tests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STRATEGY_COLUMNS = (("jobs", "batch_strategy"), ("queues", "strategy"))


def _allow_strategies(*words: str) -> None:
    allowed = ", ".join(f"'{word}'" for word in words)
    for table, column in STRATEGY_COLUMNS:
        op.drop_constraint(op.f(f"ck_{table}_strategy"), table)
        op.create_check_constraint(op.f(f"ck_{table}_strategy"), table, f"{column} IN ({allowed})")


def upgrade() -> None:
    _allow_strategies("count_only", "count_or_wait", "deadline")

    op.add_column("jobs", sa.Column("need_by", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_jobs_deadline_has_need_by"), "jobs", "batch_strategy <> 'deadline' OR need_by IS NOT NULL"
    )
    op.create_index(
        "ix_jobs_claim_by_deadline",
        "jobs",
        ["queue_id", "need_by", "queued_at", "id"],
        postgresql_where=sa.text("status = 'queued' AND need_by IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["need_by"],
        postgresql_where=sa.text("need_by IS NOT NULL AND finished_at IS NULL"),
    )
    op.add_column("jobs", sa.Column("request_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_jobs_keeps_request",
        "jobs",
        ["finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL AND request_deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_jobs_retry_of"), "jobs", ["retry_of"])
    op.alter_column("job_requests", "body", nullable=True)
    op.execute("UPDATE job_requests SET body = NULL WHERE body = '{}'")  # deleted before a downgrade
    op.add_column("documents", sa.Column("bytes_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_documents_keeps_bytes",
        "documents",
        ["created_at"],
        postgresql_where=sa.text("bytes_deleted_at IS NULL"),
    )

    op.add_column("batch_windows", sa.Column("enqueued_tokens", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("batch_windows", sa.Column("problem", sa.Text(), nullable=True))
    op.alter_column("batch_windows", "create_refusals", new_column_name="problems")
    op.add_column("batch_windows", sa.Column("denials", sa.Integer(), server_default="0", nullable=False))
    op.add_column("batch_windows", sa.Column("cancels_jobs", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("batch_windows", sa.Column("cut_off_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("batch_windows", sa.Column("files_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_batch_windows_keeps_files",
        "batch_windows",
        ["finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL AND files_deleted_at IS NULL"),
    )

    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_audit_events_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_table(
        "retention_receipts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention_receipts")),
        sa.UniqueConstraint("kind", "target", name=op.f("uq_retention_receipts_kind_target")),
    )
    op.create_table(
        "test_clock",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("ahead", sa.Interval(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_test_clock_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_clock")),
    )


def downgrade() -> None:
    op.drop_table("test_clock")
    op.drop_table("retention_receipts")
    op.drop_table("audit_events")

    op.drop_index("ix_batch_windows_keeps_files", "batch_windows")
    op.drop_column("batch_windows", "files_deleted_at")
    op.drop_column("batch_windows", "cut_off_at")
    op.drop_column("batch_windows", "cancels_jobs")
    op.drop_column("batch_windows", "denials")
    op.alter_column("batch_windows", "problems", new_column_name="create_refusals")
    op.drop_column("batch_windows", "problem")
    op.drop_column("batch_windows", "enqueued_tokens")

    op.drop_index("ix_documents_keeps_bytes", "documents")
    op.drop_column("documents", "bytes_deleted_at")
    op.execute("UPDATE job_requests SET body = '{}' WHERE body IS NULL")  # deleted for good; the old code wants a text
    op.alter_column("job_requests", "body", nullable=False)
    op.drop_index(op.f("ix_jobs_retry_of"), "jobs")
    op.drop_index("ix_jobs_keeps_request", "jobs")
    op.drop_column("jobs", "request_deleted_at")
    op.drop_index("ix_jobs_due", "jobs")
    op.drop_index("ix_jobs_claim_by_deadline", "jobs")
    # A job with a deadline becomes one that waits its time: the nearest of the strategies that remain.
    op.drop_constraint(op.f("ck_jobs_deadline_has_need_by"), "jobs")
    op.execute("UPDATE jobs SET batch_strategy = 'count_or_wait' WHERE batch_strategy = 'deadline'")
    op.execute(
        """
        INSERT INTO queues AS heir (profile_id, endpoint, model, strategy, held_at)
        SELECT profile_id, endpoint, model, 'count_or_wait', held_at FROM queues WHERE strategy = 'deadline'
        ON CONFLICT (profile_id, endpoint, model, strategy)
        DO UPDATE SET held_at = coalesce(heir.held_at, excluded.held_at)
        """
    )
    op.execute(
        """
        WITH heir AS (
            SELECT old.id AS old_id, new.id AS new_id FROM queues old
            JOIN queues new USING (profile_id, endpoint, model)
            WHERE old.strategy = 'deadline' AND new.strategy = 'count_or_wait'
        ), jobs_moved AS (
            UPDATE jobs SET queue_id = new_id FROM heir WHERE queue_id = old_id
        )
        UPDATE batch_windows SET queue_id = new_id FROM heir WHERE queue_id = old_id
        """
    )
    op.execute("DELETE FROM queues WHERE strategy = 'deadline'")
    op.drop_column("jobs", "need_by")
    _allow_strategies("count_only", "count_or_wait")
