"""The database repeats what the code says: enums, models and migrations agree."""

from __future__ import annotations

import re
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
