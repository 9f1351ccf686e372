"""The gateway that sends messages to addresses that people name, against real servers and tricky names."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.receiver import Receiver, receiving
from webapp.domain.errors import UndeliveredMessage
from webapp.gateways import webhook_sender
from webapp.gateways.webhook_sender import MOST_READ_BYTES, WebhookSender

OPEN, GUARDED = WebhookSender(allows_private=True), WebhookSender()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_a_message_arrives_whole(receiver: Receiver) -> None:
    receiver.status, receiver.body = 202, b"thanks"
    reply = OPEN.send(f"{receiver.url}?a=1", {"webhook-id": "msg_1"}, b'{"x": 1}')
    [(path, headers, body)] = receiver.got
    assert (reply.status, reply.text, path, body) == (202, "thanks", "/hook?a=1", b'{"x": 1}')
    assert headers["host"] == receiver.url.split("/")[2]
    assert (headers["webhook-id"], headers["content-type"]) == ("msg_1", "application/json")


@pytest.mark.parametrize("host", [
    "127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::ffff:127.0.0.1]", "[::1]",
    "10.0.0.1", "169.254.169.254",
])  # fmt: skip
def test_a_private_address_is_refused_however_it_is_written(receiver: Receiver, host: str) -> None:
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    with pytest.raises(UndeliveredMessage, match=r"not public|leads nowhere"):
        GUARDED.send(f"http://{host}:{port}/hook", {}, b"{}")
    assert receiver.got == []


def answer_with(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """The resolver gives these addresses, one list each time it is asked. Returns the names it is asked for."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(webhook_sender.socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["100.100.100.200"]])
def test_a_name_that_leads_to_a_private_address_is_refused(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    answer_with(monkeypatch, addresses)
    with pytest.raises(UndeliveredMessage, match="not public"):
        GUARDED.send(receiver.url.replace("127.0.0.1", "innocent.example"), {}, b"{}")
    assert receiver.got == []


def test_the_address_that_was_judged_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: the name is private at the second look. There is none."""
    asked, called = answer_with(monkeypatch, ["93.184.216.34"], ["127.0.0.1"]), []

    def connect(_: Any, address: Any) -> None:
        called.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(UndeliveredMessage, match="Connection refused"):
        GUARDED.send("https://rebinding.example/hook", {}, b"{}")
    assert (asked, called) == (["rebinding.example"], [("93.184.216.34", 443)])


def test_a_redirect_is_an_answer_like_any_other(receiver: Receiver) -> None:
    receiver.status, receiver.headers = 302, {"Location": receiver.url + "/elsewhere"}
    assert OPEN.send(receiver.url, {}, b"{}").status == 302
    assert [path for path, _, _ in receiver.got] == ["/hook"]


def test_no_more_than_the_beginning_is_read(receiver: Receiver) -> None:
    receiver.status, receiver.body, receiver.drips = 500, b"x" * 1_000_000, True
    assert len(OPEN.send(receiver.url, {}, b"{}").text) == MOST_READ_BYTES


def test_who_drips_is_not_waited_for(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_sender, "LIMIT_SECONDS", 0.3)
    receiver.status, receiver.drips = 200, True
    began = time.monotonic()
    with pytest.raises(UndeliveredMessage, match="no answer within"):
        OPEN.send(receiver.url, {}, b"{}")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000])
def test_what_is_no_http_is_no_answer(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            with server.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(said)

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(UndeliveredMessage):
            OPEN.send(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, b"{}")
        thread.join()


def test_an_address_without_tls_is_none_of_https(receiver: Receiver) -> None:
    with pytest.raises(UndeliveredMessage, match="secure connection"):
        OPEN.send(receiver.url.replace("http:", "https:"), {}, b"{}")
    with pytest.raises(UndeliveredMessage, match="leads nowhere"):
        OPEN.send("https://nowhere.invalid/", {}, b"{}")
