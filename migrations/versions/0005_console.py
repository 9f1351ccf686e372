"""Console: webhooks are sent by address and have a second secret; the history finds rare jobs, names and answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

IS_DUE = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("old_salt", sa.Text(), nullable=True))
    op.add_column("webhooks", sa.Column("old_salt_until", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_webhook_deliveries_due", "webhook_deliveries")
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["webhook_id", "due_at", "id"],
                    postgresql_where=IS_DUE)  # fmt: skip
    op.create_index("ix_webhook_deliveries_newest", "webhook_deliveries", ["webhook_id", sa.text("id DESC")])
    op.create_index(op.f("ix_webhook_deliveries_created_at"), "webhook_deliveries", ["created_at"])
    op.create_index("ix_jobs_user_ended", "jobs", ["user_id", "status", sa.text("id DESC")],
                    postgresql_where=sa.text("status IN ('failed', 'expired', 'cancelled')"))  # fmt: skip
    op.create_index("ix_job_answers_answer_key", "job_answers", ["answer_key"], postgresql_using="hash")
    op.create_index("ix_documents_user_newest", "documents", ["user_id", sa.text("id DESC")])
    op.drop_index("ix_documents_user_id", "documents")


def downgrade() -> None:
    op.create_index("ix_documents_user_id", "documents", ["user_id"])
    op.drop_index("ix_documents_user_newest", "documents")
    op.drop_index("ix_job_answers_answer_key", "job_answers")
    op.drop_index("ix_jobs_user_ended", "jobs")
    op.drop_index(op.f("ix_webhook_deliveries_created_at"), "webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_newest", "webhook_deliveries")
    op.drop_index("ix_webhook_deliveries_due", "webhook_deliveries")
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["due_at"], postgresql_where=IS_DUE)
    op.drop_column("webhooks", "old_salt_until")
    op.drop_column("webhooks", "old_salt")
