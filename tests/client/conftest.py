"""The real app on loopback, as gunicorn speaks (HTTP/1.1), and Alice's client for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from typing import Any

import pytest
from sqlalchemy.orm import Session
from werkzeug.serving import WSGIRequestHandler, make_server

from sluice_client import Client, transport
from tests.client.flaky import Link, Script
from tests.factories import make_user
from webapp.models import User
from webapp.services import accounts


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


@contextmanager
def _serving(server: BaseServer) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.001)


@pytest.fixture
def address(make_app: Any) -> Iterator[str]:
    with _serving(make_server("127.0.0.1", 0, make_app(), threaded=True, request_handler=_Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def link(address: str) -> Iterator[Link]:
    """Between the client and the app."""
    with _serving(Link(int(address.rpartition(":")[2]))) as link:
        yield link


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Start a server that gives these answers."""
    made: list[Any] = []

    def start(*answers: Any) -> Script:
        made.append(_serving(Script(*answers)))
        return made[-1].__enter__()  # type: ignore[no-any-return]

    yield start
    for one in made:
        one.__exit__(None, None, None)


@pytest.fixture
def alice(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def token(session: Session, alice: User) -> str:
    return accounts.create_token(session, alice, "tests")


@pytest.fixture
def sluice(link: Link, token: str) -> Client:
    return Client(link.url, token, timeout=20, patience=10)
