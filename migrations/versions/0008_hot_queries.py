"""Indexes: one for each hot query that had none, and no entry for the many jobs that nobody looks for there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

IS_CREATED, IS_UNFINISHED = sa.text("status = 'created'"), sa.text("finished_at IS NULL")
HAS_SUBMISSION = sa.text("submission_id IS NOT NULL")
NEWEST = sa.text("id DESC")
CHANGED = ("ix_jobs_retry_of", "ix_jobs_dispatch", "ix_jobs_submission", "ix_jobs_user_unfinished")  # of jobs
NEW = {
    # index: its table, columns and rows
    "ix_jobs_started_before": (
        "jobs", ["first_started_at"], sa.text("status = 'created' AND first_started_at IS NOT NULL")
    ),
    "ix_batch_windows_queue_newest": ("batch_windows", ["queue_id", NEWEST], None),
    "ix_batch_windows_ended": ("batch_windows", ["status", NEWEST], sa.text("finished_at IS NOT NULL")),
    "ix_batch_windows_attention": ("batch_windows", ["id"], sa.text("needs_attention IS NOT NULL")),
    "ix_documents_withdrawn": (
        "documents", ["id"], sa.text("deleted_at IS NOT NULL AND bytes_deleted_at IS NULL")
    ),
    "ix_execution_failures_reported_at": ("execution_failures", ["reported_at"], None),
    "ix_audit_events_target": ("audit_events", ["target", NEWEST], None),
}  # fmt: skip


def upgrade() -> None:
    for name in CHANGED:
        op.drop_index(name, "jobs")
    op.create_index("ix_jobs_retry_of", "jobs", ["retry_of"], postgresql_where=sa.text("retry_of IS NOT NULL"))
    op.create_index("ix_jobs_dispatch", "jobs", [sa.text("dispatched_at NULLS FIRST"), "need_by", "id"],
                    postgresql_where=IS_CREATED)  # fmt: skip
    op.create_index("ix_jobs_submission", "jobs", ["submission_id", "id"], postgresql_include=["status"],
                    postgresql_where=HAS_SUBMISSION)  # fmt: skip
    op.create_index("ix_jobs_user_unfinished", "jobs", ["user_id", "submission_id", "id"],
                    postgresql_where=IS_UNFINISHED)  # fmt: skip
    op.drop_index("ix_batch_windows_queue_id", "batch_windows")
    for name, (table, columns, rows) in NEW.items():
        op.create_index(name, table, columns, postgresql_where=rows)


def downgrade() -> None:
    for name, (table, *_) in NEW.items():
        op.drop_index(name, table)
    op.create_index("ix_batch_windows_queue_id", "batch_windows", ["queue_id"])
    for name in CHANGED:
        op.drop_index(name, "jobs")
    op.create_index("ix_jobs_user_unfinished", "jobs", ["user_id"], postgresql_where=IS_UNFINISHED)
    op.create_index("ix_jobs_submission", "jobs", ["submission_id", "status", "id"], postgresql_where=HAS_SUBMISSION)
    op.create_index("ix_jobs_dispatch", "jobs", ["id"], postgresql_where=IS_CREATED)
    op.create_index("ix_jobs_retry_of", "jobs", ["retry_of"])
