"""Files as multipart/form-data, read while they are sent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sluice_client.errors import SluiceError
from sluice_client.transport import Body

CHUNK_BYTES = 256 * 1024
ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})  # as browsers do


def form_of(files: Sequence[Path], values: Mapping[str, str]) -> Body:
    """The files, each in a part `file`, and the values. Raises SluiceError when a file cannot be read."""
    boundary = secrets.token_hex(16)
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in values.items()
    ).encode()
    heads = [_head(boundary, file.name) for file in files]
    tail = f"--{boundary}--\r\n".encode()
    sizes = [_size(file) for file in files]

    def parts() -> Iterator[bytes]:
        yield head
        for file, own, size in zip(files, heads, sizes, strict=True):
            yield own
            yield from _content(file, size)
            yield b"\r\n"
        yield tail

    length = len(head) + sum(len(own) + 2 for own in heads) + sum(sizes) + len(tail)
    return Body(f"multipart/form-data; boundary={boundary}", length, parts)


def _head(boundary: str, name: str) -> bytes:
    shown = os.fsencode(name).decode("utf-8", "replace").translate(ESCAPES)
    said = f'Content-Disposition: form-data; name="file"; filename="{shown}"\r\nContent-Type: application/pdf'
    return f"--{boundary}\r\n{said}\r\n\r\n".encode()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise SluiceError(f"{file} cannot be read: {error.strerror}.") from error


def _content(file: Path, size: int) -> Iterator[bytes]:
    """Exactly so many bytes. An error of the file is not one of the connection."""
    try:
        with file.open("rb") as stream:
            while size > 0 and (chunk := stream.read(min(CHUNK_BYTES, size))):
                size -= len(chunk)
                yield chunk
    except OSError as error:
        raise SluiceError(f"{file} cannot be read: {error.strerror}.") from error
    if size:
        raise SluiceError(f"{file} became shorter while it was sent.")
