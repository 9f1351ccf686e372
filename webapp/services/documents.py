"""Take in a document: spool it, read it in a separate process, store the bytes, then the row."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.domain.errors import BadDocument, DocumentTooLarge, InvalidInput, UnavailableService
from webapp.gateways.pdf import PdfReader
from webapp.gateways.provider_files import ProviderFiles
from webapp.gateways.storage import Storage
from webapp.models import Document
from webapp.services.clock import clock

CHUNK_BYTES = 1024 * 1024
NO_TEXT = "This PDF has no text layer: it is probably a scan."
TRY_OCR = "Run it through text recognition (OCR) and upload the result."
TRY_FILE = "You can send the file itself (tick the box below), or run it through text recognition (OCR) first."


@dataclass(frozen=True)
class Upload:
    """One file as it comes in for a document field of a profile."""

    field: str  # the field's key: faults are said there
    filename: str
    stream: BinaryIO
    allow_file: bool = False  # the profile offers to send the file itself
    as_file: bool = False  # the person wants that: it also goes to the provider and need not have text


def add_documents(
    session: Session, storage: Storage, reader: PdfReader, files: ProviderFiles, *,
    user_id: int, uploads: Sequence[Upload], max_bytes: int,
) -> list[Document]:  # fmt: skip
    """Store PDFs of a user, all or none, in the order of `uploads`. Commits.

    Raises InvalidInput: for each field, which files are bad and why; or UnavailableService, when the document store
    does not take them. Nothing is stored then.
    """
    session.commit()  # reading takes its time, and the provider may be asked: no transaction waits for that
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        paths = [Path(folder) / str(number) for number in range(len(uploads))]
        documents = _read_all(reader, user_id, uploads, paths, max_bytes)
        _send_files(files, uploads, documents, paths)
        try:
            for document, path in zip(documents, paths, strict=True):
                storage.put(document.storage_key, path)
        except UnavailableService:
            _take_back(storage, files, documents)
            raise
    now = clock(session)
    for document in documents:
        document.created_at = now
    session.add_all(documents)
    session.commit()
    return documents


def _read_all(
    reader: PdfReader, user_id: int, uploads: Sequence[Upload], paths: Sequence[Path], max_bytes: int
) -> list[Document]:
    faults: defaultdict[str, list[str]] = defaultdict(list)
    documents = []
    for upload, path in zip(uploads, paths, strict=True):
        try:
            document = _read(reader, user_id, upload, path, max_bytes)
            if not document.text and not upload.as_file:
                raise BadDocument(f"{NO_TEXT} {TRY_FILE if upload.allow_file else TRY_OCR}")
            documents.append(document)
        except BadDocument as error:
            faults[upload.field].append(f"{_shown_name(upload.filename)}: {error.message}")
    if faults:
        raise InvalidInput({field: " ".join(said) for field, said in faults.items()})
    return documents


def _take_back(storage: Storage, files: ProviderFiles, documents: Sequence[Document]) -> None:
    """As far as it can be done now: no row names these bytes, so nobody will come back for them."""
    for document in documents:
        with contextlib.suppress(UnavailableService):
            storage.delete(document.storage_key)
        if document.provider_file_id:
            with contextlib.suppress(UnavailableService):
                files.delete(document.provider_file_id)


def _send_files(
    files: ProviderFiles, uploads: Sequence[Upload], documents: Sequence[Document], paths: Sequence[Path]
) -> None:
    """Upload what is to go as a file; when the provider fails in the middle, nothing stays there either."""
    sent: list[str] = []
    for upload, document, path in zip(uploads, documents, paths, strict=True):
        if not upload.as_file:
            continue
        try:
            document.provider_file_id = files.upload_document(path)
        except UnavailableService as error:
            with contextlib.suppress(UnavailableService):
                for file_id in sent:
                    files.delete(file_id)
            raise InvalidInput({upload.field: error.message}) from error
        sent.append(document.provider_file_id)


def _read(reader: PdfReader, user_id: int, upload: Upload, path: Path, max_bytes: int) -> Document:
    size, sha256 = _spool(upload.stream, path, max_bytes)
    found = reader.read(path)
    return Document(
        user_id=user_id, filename=_shown_name(upload.filename), content_type="application/pdf", bytes=size,
        sha256=sha256, storage_key=uuid.uuid4().hex, pages=found.pages, text=found.text,
    )  # fmt: skip


def documents_of(session: Session, user_id: int, ids: Sequence[int]) -> dict[int, Document]:
    """The user's own, undeleted documents among `ids`, with their text; retention leaves them until the commit."""
    rows = session.scalars(
        select(Document)
        .where(Document.id.in_(ids), Document.user_id == user_id, Document.deleted_at.is_(None))
        .order_by(Document.id)
        .with_for_update(read=True)
    )
    return {document.id: document for document in rows}


def _spool(stream: BinaryIO, path: Path, max_bytes: int) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    with path.open("wb") as file:
        while chunk := stream.read(CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise DocumentTooLarge(f"This file is larger than the {max_bytes // 2**20} MB that are allowed.")
            digest.update(chunk)
            file.write(chunk)
    if size == 0:
        raise BadDocument("This file is empty.")
    return size, digest.hexdigest()


def _shown_name(filename: str) -> str:
    """The last part of the name, printable, at most 200 characters."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in name if c.isprintable())[:200] or "document.pdf"
