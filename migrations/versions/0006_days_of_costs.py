"""The ledger is rolled up by day, and unknown amounts with it: pages of costs read days, and there are 24 times fewer.

The version before may run beside this one: its table of hours stays, and so does how far that one has come.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SUMS = ("entries", "input_tokens", "cached_input_tokens", "output_tokens", "amount", "sync_amount")


def upgrade() -> None:
    mode = sa.Enum("sync", "batch", name="execution_mode", native_enum=False, create_constraint=True, length=20)
    op.create_table(
        "cost_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("profile_id", sa.Text(), nullable=False),
        sa.Column("execution_mode", mode, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("without_amount", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.Numeric(38, 12), nullable=False),
        sa.Column("sync_amount", sa.Numeric(38, 12), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_cost_days_user_id_users")),
        sa.PrimaryKeyConstraint(
            "day", "user_id", "profile_id", "execution_mode", "model", "reason", name=op.f("pk_cost_days")
        ),
    )
    op.create_index("ix_cost_days_user", "cost_days", ["user_id", "day"])
    op.create_index("ix_cost_days_profile", "cost_days", ["profile_id", "day"])
    op.create_index("ix_ledger_lost", "ledger", ["job_id", "attempt"], postgresql_where=sa.text("answer_key = 'lost'"))
    op.add_column("roll_ups", sa.Column("summed_up_to", sa.BigInteger(), server_default="0", nullable=False))
    # A roll-up of hours that runs meanwhile holds this row until its end: what is read below belongs together.
    op.execute("UPDATE roll_ups SET summed_up_to = last_ledger_id")
    op.execute(
        f"""
        INSERT INTO cost_days (day, user_id, profile_id, execution_mode, model, reason, without_amount,
                               {", ".join(SUMS)})
        SELECT CAST(hour AT TIME ZONE 'UTC' AS date), user_id, profile_id, execution_mode, model, reason, 0,
               {", ".join(f"sum({name})" for name in SUMS)}
        FROM cost_hours GROUP BY 1, 2, 3, 4, 5, 6
        """  # noqa: S608  (our own names)
    )
    op.execute(
        """
        UPDATE cost_days SET without_amount = unknown.entries
        FROM (SELECT CAST(answered_at AT TIME ZONE 'UTC' AS date) AS day, user_id, profile_id, execution_mode,
                     coalesce(model, '') AS model, reason, count(*) AS entries
              FROM ledger WHERE amount IS NULL AND id <= (SELECT summed_up_to FROM roll_ups)
              GROUP BY 1, 2, 3, 4, 5, 6) AS unknown
        WHERE (cost_days.day, cost_days.user_id, cost_days.profile_id, cost_days.execution_mode, cost_days.model,
               cost_days.reason) = (unknown.day, unknown.user_id, unknown.profile_id, unknown.execution_mode,
                                    unknown.model, unknown.reason)
        """
    )


def downgrade() -> None:
    op.drop_column("roll_ups", "summed_up_to")
    op.drop_index("ix_ledger_lost", "ledger")
    op.drop_table("cost_days")
