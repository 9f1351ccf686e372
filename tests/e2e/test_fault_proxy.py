"""The links of the fault harness, on a small server; no n8n."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from faults.proxy import Link, Moment, Trap


class Server(ThreadingHTTPServer):
    """Answers every request with its path; `seen` are the requests that reached it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.seen.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"])) + self.path.encode()
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def link(server: Server) -> Iterator[Link]:
    link = Link("test", server.server_port)
    yield link
    link.close()


@pytest.fixture
def client(link: Link) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=link.url, timeout=5) as client:
        yield client


def test_requests_and_answers_pass_on_one_connection(client: httpx2.Client, server: Server) -> None:
    assert [client.post(f"/{n}", content=b"hello ").text for n in range(3)] == ["hello /0", "hello /1", "hello /2"]
    assert server.seen == ["/0", "/1", "/2"]


def test_a_request_that_is_cut_before_never_reaches_the_server(
    client: httpx2.Client, link: Link, server: Server
) -> None:
    trap = link.set_trap(Trap("POST /two", Moment.BEFORE, is_cut=True))
    client.post("/one")
    with pytest.raises(httpx2.TransportError):
        client.post("/two")
    assert trap.sprung.is_set()
    assert server.seen == ["/one"]
    assert client.post("/two").text == "/two"


def test_an_answer_that_is_swallowed_was_given_all_the_same(client: httpx2.Client, link: Link, server: Server) -> None:
    link.set_trap(Trap("POST /one", Moment.DONE, is_cut=True))
    with pytest.raises(httpx2.TransportError):
        client.post("/one")
    assert server.seen == ["/one"]


def test_a_trap_does_its_deed_at_its_moment(client: httpx2.Client, link: Link, server: Server) -> None:
    seen: list[int] = []
    for moment in (Moment.BEFORE, Moment.DONE):
        link.set_trap(Trap("POST /deed", moment, deed=lambda: seen.append(len(server.seen))))
        client.post("/deed")
    assert seen == [0, 2]


def test_a_refusing_link_refuses_and_then_passes_again_on_the_same_port(client: httpx2.Client, link: Link) -> None:
    client.post("/one")
    link.refuse()
    with pytest.raises(httpx2.ConnectError):
        client.post("/two")
    link.let_pass()
    assert client.post("/three").text == "/three"
