"""/v1/files: upload, retrieve, list, content, delete."""

from pathlib import Path
from sqlite3 import Row

from flask import Blueprint, Request, current_app, request, send_file
from werkzeug.exceptions import RequestEntityTooLarge

from . import web
from .errors import ApiError, invalid_value, missing_parameter
from .fields import Fields, expires_after, supported_values
from .file_store import FileStore

bp = Blueprint("files", __name__)

UPLOAD_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
PURPOSES = (*UPLOAD_PURPOSES, "batch_output", "assistants_output", "fine-tune-results")
_FORM_BYTES = 1024 * 1024  # what a multipart body may hold beside the file
_MAX_NAME_CHARS = 500


class StreamingRequest(Request):
    """Writes an uploaded file straight into the data folder: memory stays flat, nothing is copied."""

    def _get_file_stream(self, total_content_length, content_type, filename=None, content_length=None):
        upload = _files().new_upload()
        self.__dict__.setdefault("uploads", []).append(upload)
        return upload

    def close(self) -> None:
        """Flask calls this at the end of every request, also of one that broke off while it was read."""
        for upload in self.__dict__.get("uploads", []):
            upload.close()
        super().close()


@bp.post("/files")
def create_file():
    settings = current_app.config["SETTINGS"]
    current_app.extensions["upload_limit"].count(settings.uploads_per_minute)
    request.max_content_length = settings.max_file_bytes + _FORM_BYTES
    try:
        upload = request.files.get("file")
    except RequestEntityTooLarge:
        raise _too_large() from None
    if upload is None:
        raise missing_parameter("file")
    purpose = _purpose()
    seconds = _expires_after_seconds()
    upload.stream.flush()
    path = Path(upload.stream.name)
    if path.stat().st_size > settings.max_file_bytes:
        raise _too_large()
    filename = (upload.filename or "upload")[:_MAX_NAME_CHARS]
    return as_object(_files().add(path, filename, purpose, seconds))


@bp.get("/files")
def list_files():
    limit = web.page_limit(10_000, 10_000)
    order = web.page_choice("order", ("asc", "desc"), "desc")
    purpose = web.page_choice("purpose", PURPOSES, None)
    rows = _files().page(web.page_after(), limit, order, purpose)
    return web.list_object([as_object(row) for row in rows], limit)


@bp.get("/files/<file_id>")
def retrieve_file(file_id: str):
    return as_object(_files().get(file_id))


@bp.get("/files/<file_id>/content")
def retrieve_content(file_id: str):
    row = _files().get(file_id)
    facts = {"file_id": file_id, "filename": row["filename"], "purpose": row["purpose"]}
    if current_app.extensions["faults"].hold("file_gone", file_id, facts):
        raise _files().not_found(file_id)
    try:
        return send_file(
            _files().path(file_id).absolute(),
            mimetype="application/octet-stream",
            as_attachment=True,
            download_name=row["filename"],
        )
    except FileNotFoundError:  # deleted since it was found
        raise _files().not_found(file_id) from None


@bp.delete("/files/<file_id>")
def delete_file(file_id: str):
    _files().get(file_id)
    _files().delete(file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def as_object(row: Row) -> dict:
    return {
        "object": "file",
        "id": row["id"],
        "purpose": row["purpose"],
        "filename": row["filename"],
        "bytes": row["bytes"],
        "created_at": int(row["created_at"]),
        "expires_at": None if row["expires_at"] is None else int(row["expires_at"]),
        "status": "processed",
        "status_details": None,
    }


def _purpose() -> str:
    purpose = request.form.get("purpose")
    if not purpose:
        raise missing_parameter("purpose")
    if purpose not in UPLOAD_PURPOSES:
        message = f"Invalid value: '{purpose[:100]}'. {supported_values(UPLOAD_PURPOSES)}"
        raise invalid_value("purpose", message)
    return purpose


def _expires_after_seconds() -> int | None:
    """`expires_after[anchor]` as the openai client spells it, or `expires_after.anchor` as Azure does."""
    given = {}
    for name in ("anchor", "seconds"):
        value = request.form.get(f"expires_after[{name}]", request.form.get(f"expires_after.{name}"))
        if value is not None:
            given[name] = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else value
    return expires_after(Fields(given, "expires_after")) if given else None


def _too_large() -> ApiError:
    return ApiError("File is larger than the maximum file size.", status=413, param="file")


def _files() -> FileStore:
    return current_app.extensions["files"]
