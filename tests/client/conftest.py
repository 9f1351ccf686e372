"""The real app on loopback, as gunicorn speaks (HTTP/1.1), and Alice's client for it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any

import pytest
from sqlalchemy.orm import Session
from werkzeug.serving import WSGIRequestHandler, make_server

from sluice_client import Client, cli, commands, transport
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


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


class Shell:
    """Where `sluice` runs: logged in as Alice, over the link."""

    patience = 10.0

    def __call__(self, *arguments: str) -> Said:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.main(arguments)
        return Said(code, *(one.buffer.getvalue().decode() for one in (out, err)))  # type: ignore[attr-defined]

    def client(self, url: str, token: str, **more: Any) -> Client:
        return Client(url, token, **more | {"timeout": 20, "patience": self.patience})


@pytest.fixture
def shell(link: Link, token: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("SLUICE_URL", link.url)
    monkeypatch.setenv("SLUICE_TOKEN", token)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    made = Shell()
    monkeypatch.setattr(commands, "Client", made.client)
    return made
