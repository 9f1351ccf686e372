"""Five hundred broken PDFs, made from good ones with a seed: each is stored whole, or refused in words."""

from __future__ import annotations

import io
import random
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from tests.conftest import DATA
from tests.factories import PASSWORD, make_user
from webapp.config import Settings
from webapp.models import Document, User
from webapp.views.uploads import FILES_AT_ONCE

COUNT, SEED = 500, 20261126
MOST_GROWTH = 64e6
# What takes the reader seconds each, by design, has tests of its own (tests/services/test_pdf_reader.py).
SOURCES = ("two-pages.pdf", "no-text-layer.pdf", "encrypted.pdf", "zero-pages.pdf")
GOOD = [(DATA / name).read_bytes() for name in SOURCES]
HUGE = (2**31, 2**63, -1, 10**30, 4_000_000_000)


def truncated(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def flipped(rng: random.Random, content: bytes) -> bytes:
    broken = bytearray(content)
    for _ in range(rng.choice((1, 5, 50))):
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    return bytes(broken)


def cut_out(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randrange(1, 200) :]


def other_numbers(rng: random.Random, content: bytes) -> bytes:
    """Lengths, sizes, offsets and references that lead nowhere, or to themselves."""
    numbers = list(re.finditer(rb"\d+", content))
    for found in sorted(rng.sample(numbers, min(len(numbers), 5)), key=lambda one: -one.start()):
        number = str(rng.choice((*HUGE, 0, 1, 3))).encode()
        content = content[: found.start()] + number + content[found.end() :]
    return content


def random_objects(rng: random.Random, _content: bytes) -> bytes:
    words = (b"<<", b">>", b"[", b"]", b"/Type", b"/Pages", b"/Kids", b"/Page", b"1 0 R", b"2 0 R", b"(text)", b"null",
             b"stream\n", b"\nendstream", b"/Length 99999999999", b"/Filter /FlateDecode", b"true", b"-1")  # fmt: skip
    objects = b"".join(
        b"%d 0 obj %s endobj\n" % (number, b" ".join(rng.choices(words, k=rng.randrange(1, 40))))
        for number in range(1, rng.randrange(2, 20))
    )
    return b"%PDF-1.7\n" + objects + b"trailer << /Root 1 0 R /Size 20 >>\nstartxref\n9\n%%EOF"


def nested(rng: random.Random, _content: bytes) -> bytes:
    depth = rng.choice((100, 2_000, 100_000))
    opening, closing = rng.choice(((b"[", b"]"), (b"<< /A ", b">>"), (b"(", b")")))
    catalog = b"<< /Type /Catalog /Pages 2 0 R /X " + opening * depth + closing * rng.choice((depth, 0)) + b" >>"
    return b"%PDF-1.7\n1 0 obj " + catalog + b" endobj\ntrailer << /Root 1 0 R >>\nstartxref\n9\n%%EOF"


def expanding(rng: random.Random, _content: bytes) -> bytes:
    """A page whose text is some kilobytes here, and megabytes when it is unpacked."""
    packed = zlib.compress(b"BT (x) Tj ET " * rng.choice((1_000, 300_000)))
    for _ in range(rng.choice((0, 1))):
        packed = zlib.compress(packed)
    return (
        b"%PDF-1.7\n1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj\n"
        b"2 0 obj << /Type /Pages /Kids [3 0 R] /Count " + str(rng.choice((1, *HUGE))).encode() + b" >> endobj\n"
        b"3 0 obj << /Type /Page /Parent 2 0 R /Contents 4 0 R >> endobj\n"
        b"4 0 obj << /Filter /FlateDecode /Length %d >> stream\n" % rng.choice((len(packed), 0, 2**40)) + packed
        + b"\nendstream endobj\ntrailer << /Root 1 0 R >>\nstartxref\n9\n%%EOF"
    )  # fmt: skip


def garbage(rng: random.Random, _content: bytes) -> bytes:
    return rng.choice((b"", b"%PDF-", b"PK\x03\x04")) + rng.randbytes(rng.randrange(4_000))


BREAK = (truncated, flipped, cut_out, other_numbers, random_objects, nested, garbage, expanding)
NAMES = ("report.pdf", "../../etc/passwd", "a" * 400 + ".pdf", "\u202egpj.pdf", 'q"uote\n.pdf', "日本.pdf", " ")


def broken_files(count: int) -> list[tuple[io.BytesIO, str]]:
    rng = random.Random(SEED)
    return [
        (io.BytesIO(BREAK[number % len(BREAK)](rng, rng.choice(GOOD))), rng.choice(NAMES)) for number in range(count)
    ]  # fmt: skip


def resident_bytes() -> int:
    """Of this process: the app's, but not the readers' of PDFs, which are other processes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def stored(settings: Settings) -> Counter[int]:
    """The sizes of the files in the store, by how many have that size."""
    assert settings.storage_dir
    return Counter(path.stat().st_size for path in settings.storage_dir.rglob("*") if path.is_file())


@pytest.fixture
def browser(client: FlaskClient, session: Session) -> FlaskClient:
    client.post("/login", data={"email": make_user(session).email, "password": PASSWORD})
    return client


def form(files: list[tuple[io.BytesIO, str]], **values: str) -> dict[str, Any]:
    """What the client is to post; its own way leaves a temporary file open."""
    sent = [FileStorage(stream, filename=name) for stream, name in files]
    boundary, body = encode_multipart(values | {"file": sent})
    return {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}


def send(browser: FlaskClient, files: list[tuple[io.BytesIO, str]]) -> list[str]:
    """The rows that the form shows for these files: what is wrong with it, or "" for one that was taken."""
    answer = browser.post("/jobs/documents", **form(files, profile="pdf_summary", field="document"))
    assert answer.status_code in (201, 422)
    rows = re.findall(r'<li class="file-row([^"]*)".*?</li>', answer.text, re.DOTALL)
    assert len(rows) == len(files)
    return rows


def test_500_broken_files_are_stored_whole_or_refused(
    browser: FlaskClient, session: Session, settings: Settings
) -> None:  # fmt: skip
    before, files = stored(settings), broken_files(COUNT)
    send(browser, files[:FILES_AT_ONCE])  # what the first call loads every later one needs
    taken, memory = 0, resident_bytes()
    rows: list[str] = []
    for first in range(FILES_AT_ONCE, COUNT, FILES_AT_ONCE):
        rows += send(browser, files[first : first + FILES_AT_ONCE])
    assert resident_bytes() - memory < MOST_GROWTH
    documents = session.scalars(select(Document)).all()
    assert Counter(one.bytes for one in documents) == stored(settings) - before
    assert all(one.pages > 0 and one.text and one.filename.isprintable() for one in documents)
    taken = sum("is-bad" not in row for row in rows)
    assert 0 < taken < len(rows) / 2  # a flipped bit may harm nothing


def test_a_program_is_told_which_are_broken_and_nothing_is_stored(
    api: FlaskClient, alice: User, session: Session, settings: Settings
) -> None:  # fmt: skip
    before = stored(settings)
    for first in range(0, 60, 20):
        answer = api.post("/api/v1/documents", **form(broken_files(60)[first : first + 20]))
        assert (answer.status_code, list(answer.json["errors"])) == (422, ["file"])
    assert session.scalars(select(Document)).all() == []
    assert stored(settings) == before
