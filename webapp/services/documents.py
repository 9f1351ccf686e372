"""Take in a document: spool it, read it in a separate process, store the bytes, then the row."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import func, select
from sqlalchemy.orm import Session, undefer

from webapp.domain.errors import BadDocument, DocumentTooLarge, InvalidInput, InvalidMove, NotFound, UnavailableService
from webapp.gateways.pdf import PdfReader
from webapp.gateways.provider_files import ProviderFiles
from webapp.gateways.storage import Storage
from webapp.models import Document, Job, JobDocument
from webapp.services.clock import clock

CHUNK_BYTES = 1024 * 1024
NO_TEXT = "This PDF has no text layer: it is probably a scan."
MOST_NAMED = 5
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
    user_id: int, uploads: Sequence[Upload], max_bytes: int, then: Callable[[list[Document]], None] | None = None,
    left_out: dict[str, list[str]] | None = None,
) -> list[Document]:  # fmt: skip
    """Store PDFs of a user, all or none, in the order of `uploads`. Commits, after `then`.

    With `left_out` a bad file keeps no other one out: it has no document, and what is wrong with it is put there, by
    field.

    Raises InvalidInput: for each field, which files are bad and why; or UnavailableService, when the document store
    does not take them. Nothing is stored then.
    """
    session.commit()  # reading takes its time, and the provider may be asked: no transaction waits for that
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        paths = [Path(folder) / str(number) for number in range(len(uploads))]
        read, faults = _read_all(reader, user_id, uploads, paths, max_bytes)
        if left_out is not None:
            left_out.update(faults)
        elif faults:
            raise InvalidInput({field: " ".join(said) for field, said in faults.items()})
        uploads, paths = [uploads[place] for place in read], [paths[place] for place in read]
        documents = list(read.values())
        put: list[Document] = []
        try:
            _send_files(files, uploads, documents, paths)
            for document, path in zip(documents, paths, strict=True):
                put.append(document)
                storage.put(document.storage_key, path)
            now = clock(session)
            for document in documents:
                document.created_at = now
            session.add_all(documents)
            session.flush()
            if then:
                then(documents)
        except Exception:
            _take_back(storage, files, documents, put)
            raise
        ids = [document.id for document in documents]
    session.commit()  # if this fails, the rows may be there all the same: nothing is taken back
    return find_documents(session, user_id, ids)  # one query: the commit has made the session forget all of them


def _read_all(
    reader: PdfReader, user_id: int, uploads: Sequence[Upload], paths: Sequence[Path], max_bytes: int
) -> tuple[dict[int, Document], dict[str, list[str]]]:
    """({place in `uploads`: document} of the good ones, what is wrong with the others by field)"""
    faults: defaultdict[str, list[str]] = defaultdict(list)
    spooled: dict[int, tuple[int, str]] = {}
    documents: dict[int, Document] = {}

    def refuse(upload: Upload, why: str) -> None:
        faults[upload.field].append(f"{shown_name(upload.filename)}: {why}")

    for place, (upload, path) in enumerate(zip(uploads, paths, strict=True)):
        try:
            spooled[place] = _spool(upload.stream, path, max_bytes)
        except BadDocument as error:
            refuse(upload, error.message)
    texts = reader.read_all([paths[place] for place in spooled])
    for (place, (size, sha256)), found in zip(spooled.items(), texts, strict=True):
        upload = uploads[place]
        if isinstance(found, BadDocument):
            refuse(upload, found.message)
        elif not found.text and not upload.as_file:
            refuse(upload, f"{NO_TEXT} {TRY_FILE if upload.allow_file else TRY_OCR}")
        else:
            documents[place] = Document(
                user_id=user_id, filename=shown_name(upload.filename), content_type="application/pdf", bytes=size,
                sha256=sha256, storage_key=uuid.uuid4().hex, pages=found.pages, text=found.text,
            )  # fmt: skip
    return documents, faults


def _take_back(
    storage: Storage, files: ProviderFiles, documents: Sequence[Document], put: Sequence[Document]
) -> None:  # fmt: skip
    """As far as it can be done now: no row names these bytes, so nobody will come back for them.

    `put`: those that the store has, or may have; in an outage each question takes its time.
    """
    for document in put:
        with contextlib.suppress(UnavailableService):
            storage.delete(document.storage_key)
    for document in documents:
        if document.provider_file_id:
            with contextlib.suppress(UnavailableService):
                files.delete(document.provider_file_id)


def _send_files(
    files: ProviderFiles, uploads: Sequence[Upload], documents: Sequence[Document], paths: Sequence[Path]
) -> None:
    """Upload what is to go as a file. Raises InvalidInput; those before it have their file's id then."""
    for upload, document, path in zip(uploads, documents, paths, strict=True):
        if not upload.as_file:
            continue
        try:
            document.provider_file_id = files.upload_document(path)
        except UnavailableService as error:
            raise InvalidInput({upload.field: error.message}) from error


def documents_of(session: Session, user_id: int, ids: Sequence[int], *, with_text: bool = False) -> dict[int, Document]:
    """The user's own, undeleted documents among `ids`, by id; retention leaves them until the commit.

    `with_text`: their texts come with them; else each is fetched when somebody asks for it.
    """
    rows = session.scalars(
        select(Document)
        .options(*[undefer(Document.text)] * with_text)
        .where(Document.id == func.any(list(ids)), Document.user_id == user_id, Document.deleted_at.is_(None))
        .order_by(Document.id)
        .with_for_update(read=True)
    )
    return {document.id: document for document in rows}


def find_documents(session: Session, user_id: int, ids: Sequence[int]) -> list[Document]:
    """The user's own documents among `ids`, in this order; deleted ones, too."""
    own = select(Document).where(Document.id.in_(ids), Document.user_id == user_id)
    found = {document.id: document for document in session.scalars(own)}
    return [found[id_] for id_ in ids if id_ in found]


def get_document(session: Session, user_id: int, document_id: int) -> Document:
    """One undeleted document of the user. Raises NotFound."""
    found = find_documents(session, user_id, [document_id])
    if not found or found[0].deleted_at:
        raise NotFound
    return found[0]


def delete_document(session: Session, user_id: int, document_id: int) -> None:
    """Withdraw a document of the user: nobody uses it from now on, and the heartbeat deletes its bytes. Commits.

    Raises NotFound, or InvalidMove that names the jobs that still need it.
    """
    own = select(Document).where(Document.id == document_id, Document.user_id == user_id)
    document = session.scalars(own.with_for_update()).one_or_none()
    if document is None or document.deleted_at:
        raise NotFound
    needed = session.scalars(  # a statement of its own: a job that was made until the lock was ours is seen here
        select(Job.id)
        .join(JobDocument, JobDocument.job_id == Job.id)
        .where(JobDocument.document_id == document_id, Job.finished_at.is_(None))
        .order_by(Job.id)
        .limit(MOST_NAMED + 1)
    ).all()
    if needed:
        more = " and others" if len(needed) > MOST_NAMED else ""
        named = ", ".join(str(job_id) for job_id in needed[:MOST_NAMED])
        raise InvalidMove(f"Unfinished jobs need this document: {named}{more}. Wait for them, or cancel them.")
    document.deleted_at, document.text = clock(session), ""
    session.commit()


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


def shown_name(filename: str) -> str:
    """The last part of the name, printable, at most 200 characters."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in name if c.isprintable())[:200] or "document.pdf"
