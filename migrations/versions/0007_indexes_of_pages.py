"""Pages find what they count in an index: failures, the states of a history, the provider's errors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IS_FAILED = sa.text("status = 'failed'")
IS_ERROR = sa.text("status_code NOT BETWEEN 200 AND 299")


def upgrade() -> None:
    op.drop_index("ix_jobs_failed", "jobs")
    op.create_index("ix_jobs_failed", "jobs", ["failure_code", sa.text("finished_at DESC"), sa.text("id DESC")],
                    postgresql_include=["profile_id"], postgresql_where=IS_FAILED)  # fmt: skip
    op.drop_index("ix_jobs_user_newest", "jobs")
    op.create_index("ix_jobs_user_newest", "jobs", ["user_id", sa.text("id DESC")], postgresql_include=["status"])
    op.create_index("ix_job_answers_errors", "job_answers", ["received_at"], postgresql_include=["status_code"],
                    postgresql_where=IS_ERROR)  # fmt: skip
    op.create_index("ix_window_events_refused", "window_events", ["at"],
                    postgresql_where=sa.text("event = 'create_refused'"))  # fmt: skip


def downgrade() -> None:
    op.drop_index("ix_window_events_refused", "window_events")
    op.drop_index("ix_job_answers_errors", "job_answers")
    op.drop_index("ix_jobs_user_newest", "jobs")
    op.create_index("ix_jobs_user_newest", "jobs", ["user_id", sa.text("id DESC")])
    op.drop_index("ix_jobs_failed", "jobs")
    op.create_index("ix_jobs_failed", "jobs", ["failure_code", sa.text("id DESC")], postgresql_where=IS_FAILED)
