"""The database repeats what the code says: enums, models and migrations agree."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from enum import StrEnum

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask_migrate import downgrade, upgrade
from sqlalchemy import Engine, create_engine, inspect, text

from devstack import postgres
from webapp import create_app
from webapp.config import Settings
from webapp.domain.states import BatchStrategy, ExecutionMode, ItemOutcome, JobStatus, WindowStatus
from webapp.extensions import db
from webapp.models import Base
from webapp.services import costs
from webapp.services.invariants import INVARIANTS


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ("ck_jobs_status", JobStatus), ("ck_batch_windows_status", WindowStatus),
        ("ck_batch_items_outcome", ItemOutcome), ("ck_jobs_execution_mode", ExecutionMode),
        ("ck_ledger_execution_mode", ExecutionMode), ("ck_jobs_strategy", BatchStrategy),
        ("ck_queues_strategy", BatchStrategy),
    ],
)  # fmt: skip
def test_enums_match_the_database(engine: Engine, constraint: str, words: type[StrEnum]) -> None:
    """If this fails, an enum was changed without a migration of its CHECK constraint (or the other way round)."""
    with engine.connect() as connection:
        definition = connection.execute(
            text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"), {"name": constraint}
        ).scalar_one()
    assert set(re.findall(r"'(\w+)'", definition)) == {word.value for word in words}


def test_migrations_match_the_models(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrations_go_up_down_and_up_again(base_settings: Settings) -> None:
    with postgres.throwaway() as cluster:
        url = cluster.url("sluice")
        app = create_app(
            settings=base_settings.model_copy(update={"database_url": type(base_settings.database_url)(url)})
        )
        engine = create_engine(url)
        with app.app_context():
            upgrade()
            downgrade(revision="base")
            assert inspect(engine).get_table_names() == ["alembic_version"]
            upgrade()
            assert "jobs" in inspect(engine).get_table_names()
            db.engine.dispose()
        engine.dispose()


# Three answers of one day, of two hours; of one the amount is not known; the last is not rolled up.
BOOKS_OF_0005 = """
    INSERT INTO users (email, password_hash) VALUES ('alice@example.org', 'none');
    INSERT INTO profile_versions (profile_id, content_hash, document) VALUES ('p', 'h', '{}');
    INSERT INTO jobs (user_id, profile_id, profile_version_id, execution_mode, status, inputs, created_at)
    VALUES (1, 'p', 1, 'sync', 'created', '{}', now());
    INSERT INTO ledger (job_id, attempt, answer_key, reason, user_id, profile_id, execution_mode, model, answered_at,
                        recorded_at, input_tokens, output_tokens, amount)
    SELECT 1, n, 'resp_' || n, 'answer', 1, 'p', 'sync', 'm',
           '2026-11-10T23:30:00Z'::timestamptz - n * interval '1 hour',
           now(), 100, 10, CASE WHEN n <> 2 THEN n END
    FROM generate_series(1, 3) AS n;
    INSERT INTO cost_hours SELECT date_trunc('hour', answered_at, 'UTC'), 1, 'p', 'sync', 'm', 'answer', 1, 100, 0, 10,
                                  coalesce(amount, 0), coalesce(amount, 0) FROM ledger WHERE id <= 2;
    INSERT INTO roll_ups (id, last_ledger_id) VALUES (1, 2);
"""


def test_an_upgrade_sums_the_hours_of_costs_up_to_days(base_settings: Settings) -> None:
    with postgres.throwaway() as cluster:
        database_url = type(base_settings.database_url)(cluster.url("sluice"))
        app = create_app(settings=base_settings.model_copy(update={"database_url": database_url}))
        with app.app_context():
            upgrade(revision="0005")
            db.session.execute(text(BOOKS_OF_0005))
            db.session.commit()
            upgrade()
            days = db.session.execute(text("SELECT day, entries, without_amount, input_tokens, amount FROM cost_days"))
            assert days.all() == [(date(2026, 11, 10), 2, 1, 200, Decimal(1))]
            [sums] = [one.query for one in INVARIANTS if one.name == "roll_ups_are_sums"]
            assert db.session.execute(text(sums)).all() == []
            assert costs.totals(db.session(), date(2026, 11, 10)) == (Decimal(4), 0, 1)
            db.session.remove()
            db.engine.dispose()
