"""`/api/v1/documents`."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import make_document, make_job, make_user
from webapp.extensions import db
from webapp.models import Document, Job, User
from webapp.parts import Parts
from webapp.services import jobs, retention


def upload(api: FlaskClient, *names: str, key: str | None = None, **form: str) -> Any:
    files = [(io.BytesIO((DATA / name).read_bytes()), name) for name in names]
    headers = {"Idempotency-Key": key} if key else {}
    return api.post(
        "/api/v1/documents", data={"file": files, **form}, headers=headers, content_type="multipart/form-data"
    )  # fmt: skip


class Body(io.BytesIO):
    """A request's body that counts the app's connections each time that it is read."""

    held: list[int]

    def read(self, size: int | None = -1) -> bytes:
        self.held.append(db.engine.pool.checkedout())  # type: ignore[attr-defined]
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        self.held.append(db.engine.pool.checkedout())  # type: ignore[attr-defined]
        return super().readinto(buffer)


@pytest.mark.parametrize(
    ("path", "content_type", "content"),
    [
        ("/api/v1/documents", "multipart/form-data; boundary=x", b"--x--\r\n"),
        ("/api/v1/submissions?profile=text_classification", "application/jsonl", b'{"text": "Paid twice."}\n'),
    ],
)
def test_a_body_that_is_long_in_coming_holds_no_connection(
    api: FlaskClient, path: str, content_type: str, content: bytes
) -> None:
    body = Body(content)
    body.held = []
    answer = api.post(path, input_stream=body, content_type=content_type, content_length=len(content))
    assert answer.status_code in (202, 422)
    assert set(body.held) == {0}


def test_several_files_are_stored_and_can_be_run(api: FlaskClient) -> None:
    answer = upload(api, "two-pages.pdf", "debian-history.pdf")
    first, second = answer.json["documents"]
    assert (answer.status_code, first["pages"], second["filename"]) == (201, 2, "debian-history.pdf")
    assert api.get(f"/api/v1/documents/{first['id']}").json == first
    run = {"profile": "pdf_summary", "inputs": {"document": first["id"]}}
    assert api.post("/api/v1/jobs", json=run).status_code == 202


def test_one_bad_file_keeps_all_out_and_is_named(api: FlaskClient, session: Session) -> None:
    answer = upload(api, "two-pages.pdf", "not-a-pdf.pdf")
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["file"])
    assert "not-a-pdf.pdf" in answer.json["errors"]["file"]
    assert session.scalars(select(Document.id)).all() == []


def test_a_scan_goes_as_the_file_itself(api: FlaskClient) -> None:
    assert upload(api, "no-text-layer.pdf").status_code == 422
    [document] = upload(api, "no-text-layer.pdf", asFile="true").json["documents"]
    assert document["isFile"] is True


@pytest.mark.parametrize(
    ("form", "field"), [({"asFile": "perhaps"}, "asFile"), ({"colour": "red"}, "colour")]
)  # fmt: skip
def test_a_wrong_part_is_named(api: FlaskClient, form: dict[str, str], field: str) -> None:
    assert list(upload(api, "two-pages.pdf", **form).json["errors"]) == [field]


def test_parts_without_a_name_are_named_all_the_same(api: FlaskClient) -> None:
    parts = "".join(f"--x\r\nContent-Disposition: form-data{name}\r\n\r\n1\r\n" for name in ("", "; name=colour"))
    answer = api.post("/api/v1/documents", data=f"{parts}--x--\r\n", content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, len(answer.json["errors"])) == (422, 2)


def test_no_file_and_no_form_are_refused(api: FlaskClient) -> None:
    assert list(upload(api).json["errors"]) == ["file"]
    assert api.post("/api/v1/documents", data=b"%PDF", content_type="application/pdf").status_code == 415


def test_the_same_key_stores_the_same_files_once(api: FlaskClient, session: Session, parts: Parts) -> None:
    first = upload(api, "two-pages.pdf", key="a")
    second = upload(api, "two-pages.pdf", key="a")
    assert (second.status_code, second.headers["Idempotency-Replayed"]) == (200, "true")
    assert second.json == first.json
    assert len(session.scalars(select(Document.id)).all()) == 1
    assert upload(api, "debian-history.pdf", key="a").status_code == 409


def test_a_document_is_deleted_when_no_job_needs_it(
    api: FlaskClient, session: Session, alice: User, parts: Parts, tmp_path: Any
) -> None:
    [document] = upload(api, "two-pages.pdf").json["documents"]
    address = f"/api/v1/documents/{document['id']}"
    run = {"profile": "pdf_summary", "inputs": {"document": document["id"]}}
    job_id = api.post("/api/v1/jobs", json=run).json["id"]
    refused = api.delete(address)
    assert (refused.status_code, f"need this document: {job_id}." in refused.json["detail"]) == (409, True)
    jobs.cancel_job(session, session.get_one(Job, job_id), actor="test")
    assert api.delete(address).status_code == 204
    assert [api.get(address).status_code, api.delete(address).status_code] == [404, 404]
    retention.delete_due(session, parts.settings, parts.storage, parts.files)
    row = session.get_one(Document, document["id"], populate_existing=True)
    assert (row.text, row.bytes_deleted_at is not None) == ("", True)


def test_somebody_else_s_document_is_not_there(api: FlaskClient, session: Session, parts: Parts) -> None:
    bob = make_user(session, "bob@example.org")
    address = f"/api/v1/documents/{make_document(session, bob).id}"
    make_job(session, parts, bob)
    assert [api.get(address).status_code, api.delete(address).status_code] == [404, 404]
