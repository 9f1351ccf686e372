"""Alembic's environment: run by `flask db …`, on the app's own engine."""

from __future__ import annotations

from alembic import context
from flask import current_app

database = current_app.extensions["migrate"].db
settings = current_app.extensions["migrate"].configure_args


def run_migrations() -> None:
    """One transaction for all steps. A lock that is not free soon gives up instead of stopping the app."""
    with database.engine.connect() as connection:
        connection.exec_driver_sql("SET lock_timeout = '10s'")
        connection.commit()
        context.configure(connection=connection, target_metadata=database.metadata, **settings)
        with context.begin_transaction():
            context.run_migrations()


run_migrations()
