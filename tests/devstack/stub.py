"""A tiny HTTP server that plays the app and the provider, from the standard library alone."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    headers: dict[str, str]
    text: str
    at: float

    @property
    def body(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False
    wait: float = 0


class Stub:
    """Answers what it was told to, in order, then 204; remembers every call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self._answers[method, path] += answers

    def reset(self) -> None:
        with self._changed:
            self.calls.clear()
            self._answers.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, call: Call) -> Answer:
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
            waiting = self._answers[call.method, call.path]
            return waiting.pop(0) if waiting else Answer(204)

    def to(self, path: str) -> list[Call]:
        return [call for call in list(self.calls) if call.path == path]

    def wait_for(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        """Return what `condition` says as soon as it is true; a call is the only thing that can make it so."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds), f"not seen; calls: {self.paths()}"
            return condition()

    def wait_for_call(self, path: str, count: int = 1, seconds: float = 20) -> Call:
        return self.wait_for(lambda: len(self.to(path)) >= count and self.to(path)[count - 1], seconds)

    def paths(self) -> list[str]:
        return [f"{call.method} {call.path}" for call in self.calls]


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = stub.take(Call(self.command, self.path, headers, text, time.monotonic()))
            time.sleep(answer.wait)
            if answer.hang_up:
                self.close_connection = True
                return
            self._answer(answer)

        do_POST = do_GET

        def _answer(self, answer: Answer) -> None:
            is_text = isinstance(answer.body, str)
            data = b"" if answer.body is None else (answer.body if is_text else json.dumps(answer.body)).encode()
            with contextlib.suppress(OSError):
                self.send_response(answer.status)
                if data and "Content-Type" not in answer.headers:
                    self.send_header("Content-Type", "text/html" if is_text else "application/json")
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 204:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
