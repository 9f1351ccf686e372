"""Take in a document: spool it, read it in a separate process, store the bytes, then the row."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import select
from sqlalchemy.orm import Session

from webapp.domain.errors import BadDocument, DocumentTooLarge, NotFound
from webapp.gateways.pdf import PdfReader
from webapp.gateways.provider_files import ProviderFiles
from webapp.gateways.storage import Storage
from webapp.models import Document

CHUNK_BYTES = 1024 * 1024
NO_TEXT = "This PDF has no text layer: it is probably a scan."
TRY_OCR = "Run it through text recognition (OCR) and upload the result."
TRY_FILE = "You can send the file itself (tick the box below), or run it through text recognition (OCR) first."


@dataclass(frozen=True)
class Upload:
    """One file as it comes in."""

    filename: str
    stream: BinaryIO


def add_documents(
    session: Session, storage: Storage, reader: PdfReader, files: ProviderFiles, *,
    user_id: int, uploads: Sequence[Upload], max_bytes: int, allow_file: bool = False, as_file: bool = False,
) -> list[Document]:  # fmt: skip
    """Store PDFs of a user, all or none. Commits.

    `allow_file`: the profile offers to send the file itself; `as_file`: the user wants that, so each file also goes
    to the provider and need not have text.
    Raises BadDocument that names each bad file and says what is wrong with it, or UnavailableService when the
    provider did not take one; then nothing is stored.
    """
    faults: list[str] = []
    documents: list[tuple[Document, Path]] = []
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        for number, upload in enumerate(uploads):
            path = Path(folder) / str(number)
            try:
                document = _read(reader, user_id, upload, path, max_bytes)
                if not document.text and not as_file:
                    raise BadDocument(f"{NO_TEXT} {TRY_FILE if allow_file else TRY_OCR}")
                documents.append((document, path))
            except BadDocument as error:
                faults.append(f"{_shown_name(upload.filename)}: {error.message}")
        if faults:
            raise BadDocument(" ".join(faults))
        for document, path in documents if as_file else ():
            document.provider_file_id = files.upload_document(path)
        for document, path in documents:
            storage.put(document.storage_key, path)
    session.add_all([document for document, _ in documents])
    session.commit()
    return [document for document, _ in documents]


def _read(reader: PdfReader, user_id: int, upload: Upload, path: Path, max_bytes: int) -> Document:
    size, sha256 = _spool(upload.stream, path, max_bytes)
    found = reader.read(path)
    return Document(
        user_id=user_id, filename=_shown_name(upload.filename), content_type="application/pdf", bytes=size,
        sha256=sha256, storage_key=uuid.uuid4().hex, pages=found.pages, text=found.text,
    )  # fmt: skip


def documents_of(session: Session, user_id: int, ids: Sequence[int]) -> dict[int, Document]:
    """The user's own, undeleted documents among `ids`, with their text."""
    rows = session.scalars(
        select(Document).where(Document.id.in_(ids), Document.user_id == user_id, Document.deleted_at.is_(None))
    )
    return {document.id: document for document in rows}


def document_of(session: Session, user_id: int, document_id: int) -> Document:
    """Raises NotFound."""
    try:
        return documents_of(session, user_id, [document_id])[document_id]
    except KeyError:
        raise NotFound from None


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
