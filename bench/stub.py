"""A server that answers at once, always the same: the provider, and the internal API for the bare workflow."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tests.factories import response

ANSWER = response(json.dumps({"label": "neutral", "confidence": 0.5, "reason": "It says so."}))


@dataclass
class Call:
    """One run of the workflow; moments are monotonic."""

    number: int
    called: float
    started: float = 0.0
    ended: float = 0.0
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class Stub:
    """`request` is what `start` has n8n ask."""

    def __init__(self) -> None:
        self.url = ""
        self.request: dict[str, Any] = {}
        self._calls: list[Call] = []
        self._loop = asyncio.new_event_loop()

    def expect(self) -> Call:
        """A run that is about to be called."""
        self._calls.append(Call(len(self._calls), time.monotonic()))
        return self._calls[-1]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do it in the stub's own thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        match path.strip("/").split("/"):
            case ["v1", "responses"]:
                return ANSWER | {"id": f"resp_{uuid4().hex}"}
            case ["v1", "models"]:
                return {"object": "list", "data": []}
            case ["jobs", number, "start"]:
                self._calls[int(number)].started = time.monotonic()
                return {"request": self.request}
            case ["jobs", number, "result"]:
                assert json.loads(body)["statusCode"] == 200, body
                self._calls[int(number)].ended = time.monotonic()
                self._calls[int(number)].is_over.set()
                return {"outcome": "completed"}
        raise AssertionError(f"nobody asks for {path}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a request after the other."""
        try:
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
                head = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(head.get("content-length", 0)))
                said = json.dumps(self.answer(first.split()[1].partition("?")[0], body)).encode()
                kind = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                writer.write(kind % len(said) + said)
        except asyncio.IncompleteReadError:  # the other side has hung up
            writer.close()

    @contextmanager
    def running(self) -> Iterator[Stub]:
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        server = self.run(self._listen())
        self.url = "http://{}:{}".format(*server.sockets[0].getsockname())
        try:
            yield self
        finally:
            server.close()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self.serve, "127.0.0.1", 0)
