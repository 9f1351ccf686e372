"""What a program may send at once."""

from __future__ import annotations

import io
import json
import tracemalloc

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.conftest import DATA
from webapp.models import Document, Job
from webapp.views.api import MOST_FILES, MOST_JSON_BYTES

LINE = json.dumps({"text": "It rose. " * 100}).encode() + b"\n"


@pytest.mark.parametrize("path", ["/jobs", "/submissions", "/jobs/1/retry"])
def test_json_may_have_two_megabytes(api: FlaskClient, session: Session, path: str) -> None:
    body = json.dumps({"profile": "text_classification", "inputs": {"text": "x" * MOST_JSON_BYTES}})
    answer = api.post(f"/api/v1{path}", data=body, content_type="application/json")
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")
    assert answer.json["detail"] == "At most 2 MB can be sent at once. Nothing was stored."
    assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_json_of_unknown_length_is_bounded_too(api: FlaskClient) -> None:
    answer = api.post(
        "/api/v1/jobs", input_stream=io.BytesIO(b'{"profile": "' + b"x" * MOST_JSON_BYTES),
        content_type="application/json", environ_overrides={"wsgi.input_terminated": True},
    )  # fmt: skip
    assert answer.status_code == 413


def test_just_below_it_is_read(api: FlaskClient) -> None:
    jobs = [{"text": "x" * 900} for _ in range(2000)]
    assert api.post("/api/v1/submissions", json={"profile": "text_classification", "jobs": jobs}).status_code == 202


def test_twenty_files_may_come_at_once(api: FlaskClient, session: Session) -> None:
    content = (DATA / "two-pages.pdf").read_bytes()
    files = [(io.BytesIO(content), f"{number}.pdf") for number in range(MOST_FILES + 1)]
    answer = api.post("/api/v1/documents", data={"file": files})
    assert (answer.status_code, answer.json["errors"]) == (422, {"file": "Send 1 to 20 files."})
    assert session.scalar(select(func.count()).select_from(Document)) == 0


@pytest.mark.parametrize("is_wrong", [False, True])
def test_many_lines_are_read_as_they_come(api: FlaskClient, is_wrong: bool) -> None:
    """15 MB of lines: in memory are some of them."""
    content = (b'{"text": 1}\n' if is_wrong else b"") + LINE * 15_000
    tracemalloc.start()
    answer = api.post(
        "/api/v1/submissions?profile=text_classification", input_stream=io.BytesIO(content),
        content_length=len(content), content_type="application/jsonl",
    )  # fmt: skip
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status_code == (422 if is_wrong else 202)
    assert peak < 12e6


def test_a_large_file_is_not_held_in_memory(api: FlaskClient) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="large.pdf"\r\n\r\n'
    content = head + (DATA / "two-pages.pdf").read_bytes() + b"%" * 15_000_000 + b"\r\n--x--\r\n"
    stream = io.BytesIO(content)
    tracemalloc.start()
    answer = api.post(
        "/api/v1/documents", input_stream=stream, content_length=len(content),
        content_type="multipart/form-data; boundary=x",
    )  # fmt: skip
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (answer.status_code, answer.json["documents"][0]["bytes"] > 15_000_000) == (201, True)
    assert peak < 8e6
