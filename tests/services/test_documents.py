"""Uploads that break off: what was sent is taken back, unless its row may be there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import make_user
from tests.fakes import FakeProviderFiles
from webapp.gateways.storage import LocalStorage, Storage
from webapp.parts import Parts
from webapp.services import documents
from webapp.services.documents import Upload


@pytest.fixture
def alice(session: Session) -> int:
    return make_user(session).id


class BrokenStorage(LocalStorage):
    """Its second document breaks off, and not in its own words."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.put_keys: list[str] = []
        self.deleted: list[str] = []

    def put(self, key: str, path: Path) -> None:
        self.put_keys.append(key)
        if len(self.put_keys) == 2:
            raise OSError("the spool is gone")

    def delete(self, key: str) -> None:
        self.deleted.append(key)


def add(session: Session, parts: Parts, storage: Storage, *, count: int, user_id: int) -> None:
    content = (DATA / "two-pages.pdf").read_bytes()
    uploads = [Upload("document", f"{n}.pdf", io.BytesIO(content), allow_file=True, as_file=True) for n in range(count)]
    documents.add_documents(session, storage, parts.pdf, parts.files, user_id=user_id, uploads=uploads, max_bytes=10**6)


def test_whatever_breaks_off_an_upload_takes_back_what_was_sent(
    parts: Parts, session: Session, alice: int, files: FakeProviderFiles, tmp_path: Path
) -> None:
    storage = BrokenStorage(tmp_path)
    with pytest.raises(OSError, match="the spool is gone"):
        add(session, parts, storage, count=3, user_id=alice)
    assert storage.deleted == storage.put_keys, "the third was never put: in an outage each question takes its time"
    assert files.deleted == list(files.contents) == ["file-1", "file-2", "file-3"]


def test_documents_that_get_no_row_are_taken_back(
    parts: Parts, session: Session, alice: int, files: FakeProviderFiles, tmp_path: Path
) -> None:
    storage = BrokenStorage(tmp_path)
    with pytest.raises(IntegrityError):
        add(session, parts, storage, count=1, user_id=alice + 1)  # there is no such user
    assert (len(storage.deleted), files.deleted) == (1, ["file-1"])


def test_after_a_commit_of_unknown_outcome_nothing_is_taken_back(
    parts: Parts, session: Session, alice: int, files: FakeProviderFiles, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    storage = BrokenStorage(tmp_path)
    commits = iter([None, OperationalError("COMMIT", {}, Exception("server closed the connection"))])

    def commit() -> None:
        if error := next(commits):
            raise error

    monkeypatch.setattr(session, "commit", commit)
    with pytest.raises(OperationalError):
        add(session, parts, storage, count=1, user_id=alice)
    assert len(storage.put_keys) == 1
    assert (storage.deleted, files.deleted) == ([], [])
