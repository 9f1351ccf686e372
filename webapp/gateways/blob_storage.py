"""Documents in a container of Azure Blob Storage, reached with the app's identity or a connection string.

Imported only where a setting asks for it: it needs requirements/azure.txt. Bytes are streamed in blocks, never held.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobClient, ContainerClient, LinearRetry, StorageErrorCode, StorageStreamDownloader

from webapp.gateways.azure_identity import credential
from webapp.gateways.storage import checked, not_done

log = logging.getLogger(__name__)

BLOCK_BYTES = 4 * 1024 * 1024  # the most of a document that is in memory
OPTIONS: dict[str, Any] = {
    "max_single_put_size": BLOCK_BYTES, "max_block_size": BLOCK_BYTES,
    "max_single_get_size": BLOCK_BYTES, "max_chunk_get_size": BLOCK_BYTES,
    "connection_timeout": 5, "read_timeout": 30,
    "retry_policy": LinearRetry(backoff=1, retry_total=1, random_jitter_range=1),
}  # fmt: skip
# Nobody waits for these, or asks again at once.
BRIEFLY: dict[str, Any] = {"connection_timeout": 3, "read_timeout": 5, "retry_total": 0}
NO_DOCUMENT = "0" * 32  # a key that no document has


class BlobStorage:
    """A container of blobs named by key."""

    def __init__(self, container: ContainerClient) -> None:
        self._container = container

    @classmethod
    def by_identity(cls, container_url: str) -> Self:
        return cls(ContainerClient.from_container_url(container_url, credential=credential(), **OPTIONS))

    @classmethod
    def by_connection_string(cls, connection_string: str, container: str) -> Self:
        """Raises ValueError when it is none."""
        return cls(ContainerClient.from_connection_string(connection_string, container, **OPTIONS))

    def put(self, key: str, path: Path) -> None:
        # A key is used once, so overwriting can only repeat our own put, whose answer was lost.
        with _in_words("store this document"), path.open("rb") as file:
            self._blob(key).upload_blob(file, length=path.stat().st_size, overwrite=True)

    def open(self, key: str) -> BinaryIO:
        with _in_words("open this document"):
            return io.BufferedReader(_Reader(self._blob(key).download_blob()))

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError), _in_words("delete a document"):
            self._blob(key).delete_blob(**BRIEFLY)

    def check(self) -> None:
        """A document that cannot be there must be missing, and not forbidden, nor the container itself missing."""
        with contextlib.suppress(FileNotFoundError), _in_words("be reached"):
            self._blob(NO_DOCUMENT).get_blob_properties(**BRIEFLY)

    def _blob(self, key: str) -> BlobClient:
        return self._container.get_blob_client(checked(key))


class _Reader(io.RawIOBase):
    """A download as a file."""

    def __init__(self, download: StorageStreamDownloader[bytes]) -> None:
        self._download = download

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _in_words("read this document"):
            chunk = self._download.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


@contextlib.contextmanager
def _in_words(deed: str) -> Iterator[None]:
    """Azure's errors as ours: FileNotFoundError for a blob that is not there, else UnavailableService."""
    try:
        yield
    except AzureError as error:
        code = getattr(error, "error_code", None)
        if code == StorageErrorCode.BLOB_NOT_FOUND:
            raise FileNotFoundError("there is no such blob") from error
        log.warning("the document store could not %s: %s", deed, str(error).partition("\n")[0])
        raise not_done(deed, getattr(code, "value", code) or type(error).__name__) from error
