"""Messages to addresses that people name: to the internet only, bounded in time and in what is read.

A name is resolved once, every address it has is judged, and the connection goes to the address that was judged: a name
that answers otherwise a moment later gains nothing. There is no proxy and no redirect.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

import h11

from webapp.domain.errors import UndeliveredMessage
from webapp.domain.webhooks import is_public, split_url

LIMIT_SECONDS = 10.0  # from the first packet to the last; resolving the name comes before, and has limits of its own
MOST_READ_BYTES = 4096  # of the answer's body
MOST_HEADER_BYTES = 16 * 1024
AGENT = "Sluice-Webhooks/1"


@dataclass(frozen=True)
class Reply:
    """What the address answered: the status, and the beginning of the body as text."""

    status: int
    text: str


@dataclass(frozen=True)
class WebhookSender:
    allows_private: bool = False  # WEBHOOK_PRIVATE_TARGETS

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """POST one message. Raises UndeliveredMessage when there was no answer, and says why.

        An answer of any status is returned, a redirect, too.
        """
        try:
            address = split_url(url)
        except ValueError as error:
            raise UndeliveredMessage(str(error)) from None
        secure = address.scheme == "https"
        places = self._resolve(address.hostname or "", address.port or (443 if secure else 80))
        until = time.monotonic() + LIMIT_SECONDS
        try:
            with _connect(places, until) as plain:
                if not secure:
                    return _exchange(plain, until, address, headers, body)
                plain.settimeout(_left(until))
                with ssl.create_default_context().wrap_socket(plain, server_hostname=address.hostname) as wrapped:
                    return _exchange(wrapped, until, address, headers, body)
        except TimeoutError:
            raise UndeliveredMessage(f"There was no answer within {LIMIT_SECONDS:.0f} seconds.") from None
        except ssl.SSLCertVerificationError as error:
            raise UndeliveredMessage(f"Its certificate is not right: {error.verify_message}.") from None
        except ssl.SSLError as error:
            raise UndeliveredMessage(f"There is no secure connection: {error.reason or error}.") from None
        except OSError as error:
            raise UndeliveredMessage(f"There is no connection: {error.strerror or error}.") from None
        except h11.RemoteProtocolError as error:
            raise UndeliveredMessage(f"Its answer is not HTTP: {error}.") from None

    def _resolve(self, host: str, port: int) -> list[tuple[int, Any]]:
        """Each (family, address) of the host. Raises UndeliveredMessage when there is none, or a private one."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise UndeliveredMessage(f"The name {host} leads nowhere.") from None
        places: list[tuple[int, Any]] = [(family, place) for family, _, _, _, place in found]
        # One private address among public ones is refused, too: such a name is a trick or a mistake.
        if not self.allows_private and not all(is_public(str(place[0])) for _, place in places):
            raise UndeliveredMessage(f"The name {host} leads to an address that is not public, so nothing was sent.")
        return places


def _connect(places: Sequence[tuple[int, Any]], until: float) -> socket.socket:
    """To the first of these that takes a connection. Raises OSError of the last one, or TimeoutError."""
    failure = OSError("no address")
    for family, address in places:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.settimeout(_left(until))
            made.connect(address)
        except OSError as error:
            made.close()
            failure = error
        else:
            return made
    raise failure


def _exchange(
    wire: socket.socket, until: float, address: SplitResult, headers: Mapping[str, str], body: bytes
) -> Reply:
    """Say it and read the answer. Raises OSError (TimeoutError among them) and h11.RemoteProtocolError."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEADER_BYTES)
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    told = {
        "Host": address.netloc, "User-Agent": AGENT, "Content-Type": "application/json",
        "Content-Length": str(len(body)), "Connection": "close", **headers,
    }  # fmt: skip
    said = [h11.Request(method="POST", target=target, headers=list(told.items())), h11.Data(data=body)]
    wire.settimeout(_left(until))
    wire.sendall(b"".join(http.send(event) or b"" for event in (*said, h11.EndOfMessage())))
    status, text = 0, b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            wire.settimeout(_left(until))
            http.receive_data(wire.recv(MOST_READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            text += event.data
        if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or len(text) >= MOST_READ_BYTES:
            return Reply(status, text[:MOST_READ_BYTES].decode("utf-8", "replace"))


def _left(until: float) -> float:
    """Raises TimeoutError when there is no time left: 0 would mean to wait for ever."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
