"""A link to a server that breaks as a test says, and a server that says what a test wants."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

REFUSE = "refuse"  # the server never sees the request
LOSE = "lose"  # the server answers, and nobody hears it
STALL = "stall"  # nothing happens until the asker hangs up; `stalled` says that it has come to that


class Link(ThreadingTCPServer):
    """`faults`: one for each connection to come, those above or after how many bytes of the answer it breaks."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target, self.faults, self.count = port, deque[str | int | None](), 0
        self.url, self.stalled = f"http://127.0.0.1:{self.server_address[1]}", threading.Event()


class _Connection(BaseRequestHandler):
    server: Link

    def handle(self) -> None:
        self.server.count += 1
        fault = self.server.faults.popleft() if self.server.faults else None
        if fault == STALL:
            self.server.stalled.set()
            _pass_on(self.request, lambda _: None)
        if fault in (REFUSE, STALL):
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as other:
            threading.Thread(target=_pass_on, args=(self.request, other.sendall), daemon=True).start()
            left = 0 if fault == LOSE else fault if isinstance(fault, int) else 2**40

            def answer(chunk: bytes) -> None:
                nonlocal left
                self.request.sendall(chunk[:left])
                left -= len(chunk[:left])

            _pass_on(other, answer)


def _pass_on(source: socket.socket, send: Callable[[bytes], None]) -> None:
    try:
        while chunk := source.recv(65_536):
            send(chunk)
    except OSError:
        pass


class Script(ThreadingHTTPServer):
    """Gives the `answers` (status, headers, body) one after the other, the last for ever; `asked`: (line, headers)."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Scripted)
        self.answers, self.asked = deque(answers), list[tuple[str, Any]]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Scripted(BaseHTTPRequestHandler):
    server: Script

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    do_POST = do_GET

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.asked.append((self.requestline, self.headers))
        answers = self.server.answers
        status, headers, body = answers.popleft() if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
