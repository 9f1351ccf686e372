"""A link between two parts that can be cut: a small HTTP proxy on loopback, which only this harness starts.

A link passes everything on until it is told otherwise: `refuse` (as if nobody listened), or a `Trap` for the next
request whose first line matches. A trap springs at one moment of the exchange: it may do something there (kill a
part) and may cut the connection there, so that the request, or its answer, reaches nobody.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO

TIMEOUT_SECONDS = 400.0  # longer than any call that a part makes
MAX_HEAD_BYTES = 65_536


class Moment(StrEnum):
    BEFORE = "before"  # the request is here; the other side has not seen it
    DURING = "during"  # the other side has the request and has not answered
    DONE = "done"  # the other side has answered; the asker has not heard it
    AFTER = "after"  # the asker has the answer


@dataclass(eq=False)
class Trap:
    """For the next `times` requests whose first line matches. `sprung` is set when it has done all it does."""

    pattern: str
    moment: Moment
    deed: Callable[[], None] | None = None
    is_cut: bool = False  # BEFORE: the other side never sees the request; DURING, DONE: nobody hears the answer
    times: int = 1
    sprung: threading.Event = field(default_factory=threading.Event)

    def spring(self, moment: Moment) -> bool:
        """At this moment: do it, if it is ours. Returns whether the connection ends here."""
        if moment is not self.moment:
            return False
        if self.deed:
            self.deed()
        self.times -= 1
        if self.times <= 0:
            self.sprung.set()
        return self.is_cut


@dataclass(frozen=True)
class Message:
    """One HTTP message as it came."""

    first_line: str
    head: bytes
    body: bytes  # with its chunk marks, if it had any
    closes: bool


class Link:
    """One direction: who asks `url` reaches the `target` port. Starts to listen at once."""

    def __init__(self, name: str, target: int) -> None:
        self.name = name
        self.target = target
        self.traps: list[Trap] = []
        self.asked: dict[str, bytes] = {}  # sha256 of each body that was sent through here → the body
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.port = 0
        self.let_pass()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def let_pass(self) -> None:
        """Pass everything on (again)."""
        if self._listener is None:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.listen(128)
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), name=self.name, daemon=True).start()

    def refuse(self) -> None:
        """From now on connections are refused, and those that are open end."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """End every connection that is open now."""
        with self._lock:
            sockets = list(self._open)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def set_trap(self, trap: Trap) -> Trap:
        with self._lock:
            self.traps.append(trap)
        return trap

    def clear(self) -> None:
        """No traps, no refusal."""
        with self._lock:
            self.traps.clear()
        self.let_pass()

    def close(self) -> None:
        self.refuse()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), name=self.name, daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One connection: exchange after exchange, until somebody ends it."""
        with contextlib.suppress(OSError, ValueError), self._watched(client), client.makefile("rb") as reader:
            while request := read_message(reader):
                if not self._exchange(client, request):
                    break

    def _exchange(self, client: socket.socket, request: Message) -> bool:
        """Returns whether the connection may go on."""
        self.asked[hashlib.sha256(request.body).hexdigest()] = request.body
        trap = self._trap_for(request)
        if trap.spring(Moment.BEFORE):
            return False
        server = socket.create_connection(("127.0.0.1", self.target), TIMEOUT_SECONDS)
        with self._watched(server), server.makefile("rb") as reader:
            server.sendall(request.head + request.body)
            if trap.spring(Moment.DURING):
                return False
            answer = read_message(reader, is_answer=True)
        if answer is None or trap.spring(Moment.DONE):
            return False
        client.sendall(answer.head + answer.body)
        return not (trap.spring(Moment.AFTER) or request.closes or answer.closes)

    def _trap_for(self, request: Message) -> Trap:
        with self._lock:
            for trap in self.traps:
                if re.search(trap.pattern, request.first_line):
                    if trap.times <= 1:
                        self.traps.remove(trap)
                    return trap
        return _NO_TRAP

    @contextlib.contextmanager
    def _watched(self, one: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(one)
        try:
            with one:
                yield
        finally:
            with self._lock:
                self._open.discard(one)


class _NoTrap(Trap):
    def spring(self, moment: Moment) -> bool:
        return False


_NO_TRAP = _NoTrap("", Moment.AFTER)


def read_message(reader: BinaryIO, *, is_answer: bool = False) -> Message | None:
    """The next message; None when the connection has ended. Raises ValueError for what is no HTTP, or half of it."""
    lines = []
    while line := reader.readline(MAX_HEAD_BYTES):
        lines.append(line)
        if line in (b"\r\n", b"\n"):
            break
    else:
        return None
    first_line = lines[0].decode("latin-1").strip()
    fields = dict(_field(line) for line in lines[1:-1])
    body = _read_body(reader, first_line, fields, is_answer)
    has_end = "content-length" in fields or "transfer-encoding" in fields or not is_answer
    is_last = fields.get("connection", "").lower() == "close" or "HTTP/1.0" in first_line or not has_end
    return Message(first_line, b"".join(lines), body, is_last)


def _field(line: bytes) -> tuple[str, str]:
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip().lower(), value.strip()


def _read_body(reader: BinaryIO, first_line: str, fields: dict[str, str], is_answer: bool) -> bytes:
    if is_answer and re.match(r"HTTP/1\.\d (1\d\d|204|304)", first_line):
        return b""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return _read_chunks(reader)
    if "content-length" in fields:
        return _exactly(reader, int(fields["content-length"]))
    return reader.read() if is_answer else b""


def _read_chunks(reader: BinaryIO) -> bytes:
    parts = []
    while True:
        line = reader.readline(MAX_HEAD_BYTES)
        parts.append(line)
        if not (size := int(line.split(b";")[0] or b"0", 16)):
            break
        parts.append(_exactly(reader, size + 2))
    while (line := reader.readline(MAX_HEAD_BYTES)) not in (b"\r\n", b"\n", b""):  # trailers
        parts.append(line)
    return b"".join((*parts, line))


def _exactly(reader: BinaryIO, size: int) -> bytes:
    body = reader.read(size)
    if len(body) != size:
        raise ValueError("the connection ended in the middle of a message")
    return body
