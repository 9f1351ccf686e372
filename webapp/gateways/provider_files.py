"""The provider's Files API: upload the input of a window, download its output. Bytes are streamed, never held."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import httpx2
from openai import NotFoundError, OpenAI, OpenAIError
from openai.types import FilePurpose
from openai.types.file_create_params import ExpiresAfter

from webapp.domain.errors import DeniedFile, UnavailableService
from webapp.gateways.provider_client import is_azure

CHUNK_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 300.0
DELETE_TIMEOUT_SECONDS = 10.0  # nobody waits for it
# A safety net for an upload that we never heard of: OpenAI takes 1 hour to 30 days, Azure 14 to 30 days.
BATCH_INPUT_EXPIRES: ExpiresAfter = {"anchor": "created_at", "seconds": 30 * 86_400}


class _ReportingFile(io.FileIO):
    """A file that tells when it is read, so that a lease can be renewed while bytes move."""

    def __init__(self, path: Path, on_progress: Callable[[], None]) -> None:
        super().__init__(path, "rb")
        self._on_progress = on_progress

    def read(self, size: int | None = -1, /) -> bytes:
        self._on_progress()
        return super().read(size) or b""


class ProviderFiles:
    def __init__(self, client: OpenAI) -> None:
        self._client = client.with_options(timeout=TIMEOUT_SECONDS)
        # Azure does not take `user_data`; its documentation names `assistants` instead.
        self._document_purpose: FilePurpose = "assistants" if is_azure(client) else "user_data"

    def upload_batch_input(self, path: Path, on_progress: Callable[[], None]) -> str:
        """Upload a JSONL file; returns the provider's file id. `on_progress` is called as it is read.

        Raises UnavailableService.
        """
        try:
            with _ReportingFile(path, on_progress) as file:
                return self._client.files.create(
                    file=(path.name, file), purpose="batch", expires_after=BATCH_INPUT_EXPIRES
                ).id
        except OpenAIError as error:
            raise UnavailableService(f"The provider did not take the input file: {error}") from error

    def upload_document(self, path: Path) -> str:
        """Upload a document that requests will name; returns the provider's file id. Raises UnavailableService."""
        try:
            with path.open("rb") as file:
                return self._client.files.create(file=("document.pdf", file), purpose=self._document_purpose).id
        except OpenAIError as error:
            raise UnavailableService(f"The provider did not take the document: {error}") from error

    def download(self, file_id: str, path: Path, on_progress: Callable[[], None]) -> None:
        """Stream a file to `path`; `on_progress` is called after each MiB.

        Raises UnavailableService, also when fewer bytes came than the file object says; DeniedFile when the
        provider says that there is none.
        """
        try:
            expected = self._client.files.retrieve(file_id).bytes
            with self._client.files.with_streaming_response.content(file_id) as answer, path.open("wb") as file:
                for chunk in answer.iter_bytes(CHUNK_BYTES):
                    file.write(chunk)
                    on_progress()
        except NotFoundError as error:
            raise DeniedFile(f"The provider says that it has no file {file_id}.") from error
        except (OpenAIError, httpx2.HTTPError) as error:
            raise UnavailableService(f"The provider did not hand out {file_id}: {error}") from error
        if path.stat().st_size != expected:
            raise UnavailableService(f"{file_id} was cut short: {path.stat().st_size} of {expected} bytes came.")

    def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is fine. Raises UnavailableService."""
        try:
            self._client.files.delete(file_id, timeout=DELETE_TIMEOUT_SECONDS)
        except NotFoundError:
            pass
        except OpenAIError as error:
            raise UnavailableService(f"The provider did not delete {file_id}: {error}") from error
