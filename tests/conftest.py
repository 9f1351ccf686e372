"""What all tests share: a real PostgreSQL, made and migrated once; every test starts with empty tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from devstack import postgres
from devstack.stack import LIMITS, Stack
from tests.fakes import FakeN8n, FakeProviderFiles, FakeProviderModels
from webapp import create_app
from webapp.config import Settings
from webapp.extensions import db
from webapp.models import Base
from webapp.parts import Parts, build_parts
from webapp.services.clock import TEST_CLOCK_OPTION

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    with postgres.throwaway() as cluster:
        yield cluster.url("sluice")


@pytest.fixture(scope="session")
def base_settings(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        environment="development", database_url=database_url, storage_dir=tmp_path_factory.mktemp("documents"),
        secret_key="a secret key only for tests", internal_token="an internal token for tests",
        n8n_webhook_token="a webhook token for tests", openai_api_key="sk-tests", registration="open", test_clock=True,
        **dict.fromkeys(LIMITS, 0),
    )  # fmt: skip


@pytest.fixture(scope="session")
def engine(database_url: str, base_settings: Settings) -> Iterator[Engine]:
    app = create_app(settings=base_settings)
    with app.app_context():
        upgrade()
        db.engine.dispose()
    engine = create_engine(database_url, pool_size=20, connect_args={"options": TEST_CLOCK_OPTION})
    yield engine
    engine.dispose()


@pytest.fixture
def tables(engine: Engine) -> Iterator[Engine]:
    """The engine, on empty tables."""
    yield engine
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))


@pytest.fixture
def session(tables: Engine) -> Iterator[Session]:
    with Session(tables) as session:
        yield session


@pytest.fixture
def settings(base_settings: Settings) -> Settings:
    """Small windows, so that tests need few jobs."""
    return base_settings.model_copy(update={"max_batch_size": 3})


@pytest.fixture
def n8n() -> FakeN8n:
    return FakeN8n()


@pytest.fixture
def files() -> FakeProviderFiles:
    return FakeProviderFiles()


@pytest.fixture
def parts(settings: Settings, n8n: FakeN8n, files: FakeProviderFiles) -> Parts:
    return replace(build_parts(settings), n8n=n8n, files=files, models=FakeProviderModels())


@pytest.fixture
def make_app(tables: Engine, settings: Settings, parts: Parts) -> Iterator[Any]:
    made: list[Flask] = []

    def make(listener: str = "web", **changes: Any) -> Flask:
        changed = settings.model_copy(update=changes)
        app = create_app(listener, changed)
        app.config["WTF_CSRF_ENABLED"] = False
        app.extensions["sluice"] = replace(parts, settings=changed)
        made.append(app)
        return app

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def client(make_app: Any) -> FlaskClient:
    return make_app().test_client()


@pytest.fixture
def internal(make_app: Any, settings: Settings) -> FlaskClient:
    """n8n's side of the internal API."""
    client = make_app("internal").test_client()
    client.environ_base["HTTP_X_INTERNAL_TOKEN"] = settings.internal_token.get_secret_value()
    return client


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole system: real PostgreSQL, n8n, offline provider, web, internal API and heartbeat."""
    with Stack.throwaway({"MAX_BATCH_SIZE": "3", "POLL_SECONDS": "1", "OFFLINE_IN_PROGRESS_SECONDS": "2"}) as stack:
        yield stack
