"""Money: who and what a ledger entry is for, estimates and ceilings, budgets, roll-ups, benchmark runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

USD = sa.Numeric(20, 12)
LEDGER_COLUMNS = ("user_id", "profile_id", "service_tier", "cache_write_tokens", "cache_write_price", "sync_amount")
REQUEST_COLUMNS = ("file_pages", "max_output_tokens", "estimated_input_tokens", "estimated_output_tokens",
                   "estimated_amount", "ceiling")  # fmt: skip
JOB_INDEXES = ("ix_jobs_user_unfinished", "ix_jobs_profile_unfinished", "ix_jobs_profile_completed")


def _mode() -> sa.Enum:
    return sa.Enum("sync", "batch", name="execution_mode", native_enum=False, create_constraint=True, length=20)


def upgrade() -> None:
    op.add_column("ledger", sa.Column("user_id", sa.BigInteger(), nullable=True))
    op.add_column("ledger", sa.Column("profile_id", sa.Text(), nullable=True))
    op.add_column("ledger", sa.Column("service_tier", sa.Text(), nullable=True))
    op.add_column("ledger", sa.Column("cache_write_tokens", sa.BigInteger(), nullable=True))
    op.add_column("ledger", sa.Column("cache_write_price", USD, nullable=True))
    op.add_column("ledger", sa.Column("sync_amount", USD, nullable=True))
    # What a batch answer of before would have cost in sync is not known: nothing was stored, nothing is guessed.
    op.execute(
        """
        UPDATE ledger SET user_id = jobs.user_id, profile_id = jobs.profile_id,
               sync_amount = CASE ledger.execution_mode WHEN 'sync' THEN ledger.amount END
        FROM jobs WHERE jobs.id = ledger.job_id
        """
    )
    op.alter_column("ledger", "user_id", nullable=False)
    op.alter_column("ledger", "profile_id", nullable=False)
    op.create_foreign_key(op.f("fk_ledger_user_id_users"), "ledger", "users", ["user_id"], ["id"])
    op.create_index("ix_ledger_unknown", "ledger", ["id"], postgresql_where=sa.text("amount IS NULL"))
    op.drop_index("ix_ledger_answered_at", "ledger")

    op.add_column("job_requests", sa.Column("file_pages", sa.Integer(), server_default="0", nullable=False))
    op.add_column("job_requests", sa.Column("max_output_tokens", sa.Integer(), nullable=True))
    op.add_column("job_requests", sa.Column("estimated_input_tokens", sa.BigInteger(), nullable=True))
    op.add_column("job_requests", sa.Column("estimated_output_tokens", sa.BigInteger(), nullable=True))
    op.add_column("job_requests", sa.Column("estimated_amount", USD, nullable=True))
    op.add_column("job_requests", sa.Column("ceiling", USD, nullable=True))
    unfinished = sa.text("finished_at IS NULL")
    op.create_index("ix_jobs_user_unfinished", "jobs", ["user_id"], postgresql_where=unfinished)
    op.create_index("ix_jobs_profile_unfinished", "jobs", ["profile_id"], postgresql_where=unfinished)
    op.create_index(
        "ix_jobs_profile_completed",
        "jobs",
        ["profile_id", sa.text("id DESC")],
        postgresql_where=sa.text("status = 'completed'"),
    )

    op.create_table(
        "cost_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("execution_mode", _mode(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.Numeric(38, 12), nullable=False),
        sa.Column("sync_amount", sa.Numeric(38, 12), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_cost_hours_user_id_users")),
        sa.PrimaryKeyConstraint(
            "hour", "user_id", "profile_id", "execution_mode", "model", "reason", name=op.f("pk_cost_hours")
        ),
    )
    op.create_index("ix_cost_hours_user", "cost_hours", ["user_id", "hour"])
    op.create_index("ix_cost_hours_profile", "cost_hours", ["profile_id", "hour"])
    op.create_table(
        "roll_ups",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("last_ledger_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_roll_ups_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roll_ups")),
    )
    op.create_table(
        "budgets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("profile_id", sa.Text(), nullable=True),
        sa.Column("monthly_amount", USD, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(user_id IS NULL) <> (profile_id IS NULL)", name=op.f("ck_budgets_user_or_profile")),
        sa.CheckConstraint("monthly_amount >= 0", name=op.f("ck_budgets_amount_not_negative")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_budgets_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        sa.UniqueConstraint("user_id", name=op.f("uq_budgets_user_id")),
        sa.UniqueConstraint("profile_id", name=op.f("uq_budgets_profile_id")),
    )

    op.create_table(
        "provider_models",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("shutdown_on", sa.Date(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_provider_models")),
    )
    op.create_table(
        "benchmark_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("tiers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("modes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("jobs_per_step", sa.Integer(), nullable=False),
        sa.Column("repetitions", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('running', 'completed', 'failed', 'cancelled')", name=op.f("ck_benchmark_runs_status")
        ),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (status <> 'running')", name=op.f("ck_benchmark_runs_ended_iff_finished")
        ),
        sa.CheckConstraint("jobs_per_step >= 1 AND repetitions >= 1", name=op.f("ck_benchmark_runs_something_to_do")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_benchmark_runs_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_benchmark_runs")),
    )
    op.create_index(
        "ix_benchmark_runs_running", "benchmark_runs", ["id"], postgresql_where=sa.text("status = 'running'")
    )
    op.create_table(
        "benchmark_samples",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("repetition", sa.Integer(), nullable=False),
        sa.Column("execution_mode", _mode(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_benchmark_samples_job_id_jobs")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["benchmark_runs.id"], name=op.f("fk_benchmark_samples_run_id_benchmark_runs")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_benchmark_samples")),
    )
    op.create_index(op.f("ix_benchmark_samples_run_id"), "benchmark_samples", ["run_id"])


def downgrade() -> None:
    for table in ("benchmark_samples", "benchmark_runs", "provider_models", "budgets", "roll_ups", "cost_hours"):
        op.drop_table(table)
    for index in JOB_INDEXES:
        op.drop_index(index, "jobs")
    for column in REQUEST_COLUMNS:
        op.drop_column("job_requests", column)
    op.create_index("ix_ledger_answered_at", "ledger", ["answered_at"])
    op.drop_index("ix_ledger_unknown", "ledger")
    for column in LEDGER_COLUMNS:
        op.drop_column("ledger", column)
