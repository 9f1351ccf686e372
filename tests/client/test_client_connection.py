"""What the client does when the connection breaks, the server is busy, or something else answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sluice_client import Client, SluiceError
from tests.client.flaky import LOSE, REFUSE, Link, Script
from tests.conftest import DATA
from tests.web.test_api_jobs import finish
from webapp.models import Document, Job
from webapp.parts import Parts

TEXT = {"text": "All went well."}
TEXTS = "text_classification"
EMPTY = (200, {"Content-Type": "application/json"}, b'{"profiles": []}')
BUSY = (503, {"Retry-After": "0"}, b"busy")


@pytest.mark.parametrize("fault", [REFUSE, LOSE, 10, 300])
def test_reading_is_tried_again(sluice: Client, link: Link, fault: Any) -> None:
    link.faults.extend([fault, fault])
    assert len(sluice.profiles()) == 2
    assert link.count == 3


@pytest.mark.parametrize("fault", [REFUSE, LOSE, 10, 300])
def test_a_job_is_made_once_however_often_the_answer_is_lost(
    sluice: Client, link: Link, session: Session, fault: Any
) -> None:  # fmt: skip
    link.faults.extend([fault, fault])
    sluice.create_job(TEXTS, TEXT)
    assert (link.count, session.scalar(select(func.count()).select_from(Job))) == (3, 1)


def test_files_and_lines_are_sent_again_from_the_start(sluice: Client, link: Link, session: Session) -> None:
    link.faults.extend([LOSE, REFUSE, None, LOSE])
    [document] = sluice.upload([DATA / "debian-history.pdf"])
    sluice.create_submission("pdf_summary", [{"document": document["id"]}] * 3)
    assert session.scalar(select(func.count()).select_from(Document)) == 1
    assert (link.count, session.scalar(select(func.count()).select_from(Job))) == (5, 3)


def test_what_is_not_safe_is_not_tried_again(sluice: Client, link: Link) -> None:
    job = sluice.create_job(TEXTS, TEXT)
    link.faults.append(LOSE)
    with pytest.raises(SluiceError, match="does not answer") as lost:
        sluice.cancel_job(job["id"])
    assert (lost.value.status, link.count) == (None, 2)


def test_results_go_on_where_they_broke(sluice: Client, link: Link, session: Session, parts: Parts) -> None:
    made = sluice.create_submission(TEXTS, [TEXT] * 6)
    for number in range(1, 7):
        finish(session, parts, number)
    link.faults.extend([700, 500, REFUSE, 900])
    assert [one["id"] for one in sluice.get_results(made["id"])] == [1, 2, 3, 4, 5, 6]
    assert link.count == 6


def test_patience_ends(link: Link, token: str) -> None:
    link.faults.extend([REFUSE] * 1000)
    with pytest.raises(SluiceError, match="does not answer") as lost:
        Client(link.url, token, patience=0.05).profiles()
    assert lost.value.status is None
    assert 2 < link.count < 20


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again_when_it_says(script: Callable[..., Script], status: int) -> None:
    moment = format_datetime(datetime.now(UTC) - timedelta(seconds=5), usegmt=True)
    server = script((status, {"Retry-After": "0"}, b"{}"), (status, {"Retry-After": moment}, b"<html>"), EMPTY)
    told: list[str] = []
    assert Client(server.url, "t", tell=told.append).profiles() == []
    assert len(server.asked) == 3
    assert told[1] == f"The server answered {status} {HTTPStatus(status).phrase}. Trying again in 0.0 s."


def test_a_long_wait_is_left_to_the_caller(script: Callable[..., Script]) -> None:
    server = script((429, {"Retry-After": "3600"}, b'{"title": "t", "status": 429, "detail": "Too many."}'))
    with pytest.raises(SluiceError, match=r"Too many\.") as busy:
        Client(server.url, "t").profiles()
    assert (busy.value.status, busy.value.retry_after, len(server.asked)) == (429, 3600, 1)


def test_a_server_without_tls_is_said_at_once(script: Callable[..., Script]) -> None:
    server = script(EMPTY)
    with pytest.raises(SluiceError, match=r"does not answer: .*SSL"):
        Client(server.url.replace("http:", "https:"), "t", timeout=10).profiles()


def test_a_mistake_is_not_repeated(script: Callable[..., Script]) -> None:
    server = script((500, {}, b"<html>"), EMPTY)
    with pytest.raises(SluiceError, match="The server answered 500 Internal Server Error"):
        Client(server.url, "t").profiles()
    assert len(server.asked) == 1


def test_another_server_never_gets_the_token(script: Callable[..., Script]) -> None:
    other = script(EMPTY)
    server = script((302, {"Location": other.url}, b""))
    with pytest.raises(SluiceError, match=f"sends on to {other.url}"):
        Client(server.url, "t").profiles()
    assert other.asked == []


def test_a_refusal_is_heard_although_the_server_hangs_up(script: Callable[..., Script], tmp_path: Path) -> None:
    large = tmp_path / "large.pdf"
    large.write_bytes(b"x" * 20_000_000)
    server = script((413, {}, b'{"title": "t", "status": 413, "detail": "At most 1 MB."}'))
    server.RequestHandlerClass.do_POST = server.RequestHandlerClass.do_PUT  # type: ignore[attr-defined]
    with pytest.raises(SluiceError, match="At most 1 MB"):
        Client(server.url, "t", patience=5).upload([large])


@pytest.mark.parametrize("body", [b'{"detail": ["x"], "errors": [1], "lines": "a"}', b"[]", b"null", b'{"a": 1}'])
def test_another_kind_of_error_is_one_all_the_same(script: Callable[..., Script], body: bytes) -> None:
    with pytest.raises(SluiceError) as wrong:
        Client(script((422, {}, body)).url, "t").profiles()
    assert (wrong.value.status, wrong.value.errors, bool(str(wrong.value))) == (422, {}, True)


def test_a_server_that_is_not_there_is_said(token: str) -> None:
    for call in (Client.profiles, lambda one: one.create_job(TEXTS, TEXT)):
        with pytest.raises(SluiceError, match="Connection refused"):
            call(Client("http://127.0.0.1:1", token, patience=0))


def test_what_is_not_sluice_is_said(script: Callable[..., Script]) -> None:
    server = script((200, {}, b"<html>Welcome to the hotel</html>"))
    with pytest.raises(SluiceError, match="is not Sluice: check the address"):
        Client(server.url, "t").profiles()


@pytest.mark.parametrize(
    "url", ["", "sluice.example.org", "ftp://a", "https://", "http://a:b", "http://a/?b=c", "http://a:b@c"]
)
def test_a_wrong_address_is_named(url: str) -> None:
    with pytest.raises(SluiceError, match="is no address"):
        Client(url, "t")


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "tökén"])
def test_a_wrong_token_is_not_shown(token: str) -> None:
    with pytest.raises(SluiceError, match="copy it again") as wrong:
        Client("http://127.0.0.1", token)
    assert not token or token not in str(wrong.value)


def test_the_proxy_of_the_environment_is_used(
    script: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    server = script(EMPTY)
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:secret@"))
    assert Client("http://sluice.example:81/base/", "t").profiles() == []
    [(line, headers)] = server.asked
    assert line == "GET http://sluice.example:81/base/api/v1/profiles HTTP/1.1"
    assert headers["Proxy-Authorization"] == "Basic bWU6c2VjcmV0"
    assert headers["Authorization"] == "Bearer t"
