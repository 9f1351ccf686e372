"""HTTP with the standard library: one connection for each request, and trying again where that is safe."""

from __future__ import annotations

import base64
import contextlib
import http.client
import random
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import unquote, urlencode, urlsplit

from sluice_client.errors import SluiceError, error_of

PASSING = (429, 502, 503, 504)  # a later try may not meet these
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
MOST_ERROR_BYTES = 1_000_000
LOST = (OSError, http.client.HTTPException)
HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)  # the other errors of TLS come again at the next try
KEY = "Idempotency-Key"
T = TypeVar("T")


@dataclass(frozen=True)
class Body:
    """What is sent: `parts` begins anew for each try; `length` in bytes."""

    content_type: str
    length: int
    parts: Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # below /api/v1
    query: Mapping[str, object] = field(default_factory=dict)  # what is None is left out
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    seconds: float = 0  # that the server may take longer than usual

    @property
    def is_repeatable(self) -> bool:
        return self.method == "GET" or KEY in self.headers


class Patience:
    """Pauses that grow, or are as long as the server wants them; until the time is over."""

    def __init__(self, seconds: float, tell: Callable[[str], None]) -> None:
        self._ends, self._pause, self._tell = time.monotonic() + seconds, FIRST_PAUSE, tell

    def wait_after(self, problem: SluiceError) -> None:
        """Raises it again when there is no time left for another try."""
        seconds = self._pause * random.uniform(0.5, 1) if problem.retry_after is None else problem.retry_after  # noqa: S311
        if time.monotonic() + seconds > self._ends:
            raise problem
        self._tell(f"{problem.detail} Trying again in {seconds:.1f} s.")
        time.sleep(seconds)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


class Transport:
    """A server and a token. `timeout`: seconds without a sign of life; `patience`: how long to try again, in seconds.

    Raises SluiceError when it is no address or no token.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float, patience: float, tell: Callable[[str], None]
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        try:
            self._parts = urlsplit(self.url)
            self._parts.port  # noqa: B018 it is read for its ValueError
        except ValueError as error:
            raise SluiceError(f"“{url}” is no address: {error}.") from None
        is_web = self._parts.scheme in ("http", "https") and self._parts.hostname
        if not is_web or self._parts.query or self._parts.username:
            raise SluiceError(f"“{url}” is no address of a server: write it like https://sluice.example.org")
        if not (token.isascii() and token.isprintable()) or not token or " " in token:
            raise SluiceError("This is no token: copy it again from the account page.")
        self._token, self._timeout, self._patience, self._tell = token, timeout, patience, tell

    def read(self, request: Request) -> tuple[bytes, http.client.HTTPMessage]:
        """(the whole body, the headers) of a good answer. Raises SluiceError."""

        def take() -> tuple[bytes, http.client.HTTPMessage]:
            with self._open(request) as answer:
                return answer.read(), answer.headers

        return self._answer(request, take)

    def stream(self, request: Request) -> http.client.HTTPResponse:
        """A good answer, for the caller to read and close; reading may raise what LOST names. Raises SluiceError."""
        return self._answer(request, lambda: self._open(request))

    def lost(self, error: Exception) -> SluiceError:
        said = str(error) or type(error).__name__
        return SluiceError(f"{self.url} does not answer: {said}.", code="no_answer")

    def patience(self) -> Patience:
        return Patience(self._patience, self._tell)

    def _answer(self, request: Request, act: Callable[[], T]) -> T:
        patience = self.patience()
        while True:
            try:
                return act()
            except LOST as error:
                problem = self.lost(error)
                is_passing = not isinstance(error, ssl.SSLError) or isinstance(error, HUNG_UP)
            except SluiceError as error:
                problem, is_passing = error, error.status in PASSING or error.code == "in_progress"
            if not (is_passing and request.is_repeatable):
                raise problem
            patience.wait_after(problem)

    def _open(self, request: Request) -> http.client.HTTPResponse:
        """One try: the answer if it is a good one. Raises SluiceError, or what LOST names."""
        connection, target, headers = self._connect(request)
        try:
            connection.connect()
            connection.putrequest(request.method, target)
            for name, value in headers.items():
                connection.putheader(name, value)
            # A server that refuses what it is being sent may answer and hang up: the answer counts then.
            with contextlib.suppress(ConnectionError) if request.body else contextlib.nullcontext():
                connection.endheaders()
                for part in request.body.parts() if request.body else ():
                    connection.send(part)
            answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        if connection.sock:  # the answer has it now, and closes it
            connection.sock.close()
        if "Content-Length" not in answer.headers and not answer.chunked and answer.status != 204:
            answer.close()  # http.client would take what has come until the connection broke for the whole
            raise http.client.IncompleteRead(b"")
        if 200 <= answer.status < 300:
            return answer
        with answer:
            if 300 <= answer.status < 400:  # never followed: the token is for this server
                elsewhere = answer.headers.get("Location", "elsewhere")
                raise SluiceError(f"{self.url} sends on to {elsewhere}: use that address.", status=answer.status)
            body = answer.read(MOST_ERROR_BYTES)
            raise error_of(answer.status, answer.reason, body, _seconds(answer.headers.get("Retry-After")))

    def _connect(self, request: Request) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
        """(a connection, what to ask it for, the headers); by the proxy that the environment names, if any."""
        parts, seconds = self._parts, self._timeout + request.seconds
        given = {name: value for name, value in request.query.items() if value is not None}
        target = f"{parts.path}/api/v1{request.path}" + (f"?{urlencode(given)}" if given else "")
        headers = {
            "Authorization": f"Bearer {self._token}", "Accept": "*/*", "User-Agent": "sluice-client",
            "Connection": "close", **request.headers,
        }  # fmt: skip
        if request.body:
            headers |= {"Content-Type": request.body.content_type, "Content-Length": str(request.body.length)}
        elif request.method == "POST":
            headers["Content-Length"] = "0"
        host, port = str(parts.hostname), parts.port
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        proxy = None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(parts.scheme)
        if proxy is None:
            return kind(host, port, timeout=seconds), target, headers
        by = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        login = {}
        if by.username:
            named = f"{unquote(by.username)}:{unquote(by.password or '')}"
            login = {"Proxy-Authorization": f"Basic {base64.b64encode(named.encode()).decode()}"}
        connection = kind(str(by.hostname), by.port or 8080, timeout=seconds)
        if parts.scheme == "https":
            connection.set_tunnel(host, port, login)
            return connection, target, headers
        return connection, f"http://{parts.netloc}{target}", headers | login


def _seconds(retry_after: str | None) -> float | None:
    """Of the header: a number of seconds, or a moment."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        try:
            return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            return None
