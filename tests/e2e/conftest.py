"""People and probes for the end-to-end tests; the running system is `stack` in tests/conftest.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from openai import OpenAI

from devstack.stack import Stack
from tests.conftest import DATA
from tests.people import Person


@pytest.fixture
def person(stack: Stack) -> Iterator[Person]:
    person = Person(stack, f"p{time.time_ns()}@example.org")
    yield person
    person.http.close()


@pytest.fixture
def database(stack: Stack) -> Iterator[psycopg.Connection[Any]]:
    with stack.cluster.connect("sluice") as connection:
        yield connection


@pytest.fixture
def provider(stack: Stack) -> Iterator[OpenAI]:
    """The official client, unmodified."""
    with OpenAI(base_url=stack.provider.url, api_key=stack.provider.key) as client:
        yield client


@pytest.fixture(scope="session")
def history() -> Path:
    """A real document of 20 pages."""
    return DATA / "debian-history.pdf"
