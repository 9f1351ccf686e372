"""`input_file` parts: from a file id or base64 data to the text inside."""

import base64
import binascii
import subprocess
import sys
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from threading import Lock

from .errors import ApiError, invalid_value, missing_parameter, unsupported
from .fields import Fields
from .file_store import FileStore

MAX_DOCUMENT_BYTES = 50 * 1024 * 1024
PDF_SECONDS = 20
_PDF_CHILD = Path(__file__).with_name("pdf_child.py")
_REMEMBERED_TEXTS = 16


class Documents:
    def __init__(self, files: FileStore):
        self._files = files
        self._texts: OrderedDict[bytes, str] = OrderedDict()  # sha256 of the content → text
        self._lock = Lock()

    def text_of(self, part: Fields, pdf_only: bool) -> str:
        """The text of one file part. `pdf_only`: Chat Completions takes nothing else."""
        content = self._content(part)
        if len(content) > MAX_DOCUMENT_BYTES:
            raise invalid_value(part.path("file_data"), "The file is larger than 50 MB.")
        if content.startswith(b"%PDF-"):
            return self._pdf_text(content)
        if pdf_only:
            raise invalid_value(part.path("file_data"), "Only PDF files are supported.")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise invalid_value(part.path("file_data"), "The file is neither a PDF nor UTF-8 text.") from None

    def _content(self, part: Fields) -> bytes:
        file_id, file_data = part.text("file_id"), part.text("file_data")
        if part.text("file_url") is not None:
            raise unsupported(part.path("file_url"), "file_url: it has no network")
        if file_id is None and file_data is None:
            raise missing_parameter(part.path("file_id"))
        if file_id is not None and file_data is not None:
            raise invalid_value(part.path("file_id"), "Give either file_id or file_data, not both.")
        if file_id is not None:
            return self._stored(file_id)
        if part.text("filename") is None:
            raise missing_parameter(part.path("filename"))
        return _from_data_url(file_data, part.path("file_data"))

    def _stored(self, file_id: str) -> bytes:
        row = self._files.get(file_id)
        if row["bytes"] > MAX_DOCUMENT_BYTES:
            raise invalid_value("file_id", "The file is larger than 50 MB.")
        try:
            return self._files.path(file_id).read_bytes()
        except FileNotFoundError:  # deleted since the line above
            raise self._files.not_found(file_id) from None

    def _pdf_text(self, content: bytes) -> str:
        key = sha256(content).digest()
        with self._lock:
            if key in self._texts:
                self._texts.move_to_end(key)
                return self._texts[key]
        text = _read_pdf(content)
        with self._lock:
            self._texts[key] = text
            if len(self._texts) > _REMEMBERED_TEXTS:
                self._texts.popitem(last=False)
        return text


def _from_data_url(data: str, param: str) -> bytes:
    """`data:application/pdf;base64,...`; the part before the comma may be missing."""
    _, _, encoded = data.rpartition(",")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_value(param, "Invalid file data: expected a base64-encoded data URL.") from None


def _read_pdf(content: bytes) -> str:
    try:
        child = subprocess.run(
            [sys.executable, "-I", str(_PDF_CHILD)],
            input=content,
            capture_output=True,
            timeout=PDF_SECONDS,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise ApiError("The file could not be read as a PDF.", param="input", code="invalid_file") from None
    return child.stdout.decode("utf-8")
