"""`/api/v1/documents`."""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO, cast

from flask import g, request
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import UnsupportedMediaType

from webapp.domain.errors import InvalidInput
from webapp.extensions import db
from webapp.models import Document
from webapp.parts import parts
from webapp.services import documents
from webapp.views import api_models as models
from webapp.views.api import MOST_FILES, bp, let_go, once, replay_header, show

FILE, AS_FILE = "file", "asFile"


@bp.post("/documents")
def create_documents() -> ResponseReturnValue:
    """One file or several in the part `file`."""
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the files as multipart/form-data, each in a part named “file”.")
    let_go()
    files, as_file = request.files.getlist(FILE), request.form.get(AS_FILE, "false")
    if unknown := (set(request.files) | set(request.form)) - {FILE, AS_FILE}:
        raise InvalidInput({name or "": "There is no such part; files go into “file”." for name in unknown})
    if not 1 <= len(files) <= MOST_FILES:
        raise InvalidInput({FILE: f"Send 1 to {MOST_FILES} files."})
    if as_file not in ("true", "false"):
        raise InvalidInput({AS_FILE: "Say true or false."})
    uploads = [
        documents.Upload(
            FILE, file.filename or "", cast(BinaryIO, file.stream), allow_file=True, as_file=as_file == "true"
        )
        for file in files
    ]

    def make(remember: Any) -> str:
        made = documents.add_documents(
            db.session(), parts().storage, parts().pdf, parts().files, user_id=g.user.id, uploads=uploads,
            max_bytes=parts().settings.max_upload_mb * 2**20, then=lambda stored: remember(_target(stored)),
        )  # fmt: skip
        return _target(made)

    target, is_replay = once(lambda: [as_file, *map(_digest, files)], make)
    made = documents.find_documents(db.session(), g.user.id, [int(part) for part in target[9:].split(",")])
    shown = models.DocumentList(documents=[_shown(one) for one in made])
    return show(shown, 200 if is_replay else 201, replay_header(is_replay))


@bp.get("/documents/<int:document_id>")
def get_document(document_id: int) -> ResponseReturnValue:
    return show(_shown(documents.get_document(db.session(), g.user.id, document_id)))


@bp.delete("/documents/<int:document_id>")
def delete_document(document_id: int) -> ResponseReturnValue:
    documents.delete_document(db.session(), g.user.id, document_id)
    return "", 204


def _target(stored: list[Document]) -> str:
    return "document:" + ",".join(str(one.id) for one in stored)


def _digest(file: FileStorage) -> list[str | None]:
    """The name and the content of a file; the boundary between the parts differs each time."""
    digest = hashlib.file_digest(file.stream, "sha256").hexdigest()  # type: ignore[arg-type]
    file.stream.seek(0)
    return [file.filename, digest]


def _shown(one: Document) -> models.Document:
    return models.Document(
        id=one.id, filename=one.filename, bytes=one.bytes, pages=one.pages, sha256=one.sha256,
        is_file=one.provider_file_id is not None, created_at=one.created_at,
    )  # fmt: skip
