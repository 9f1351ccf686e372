"""Downloads that may be large."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from typing import TextIO

from flask import Response, send_file, stream_with_context


def download(name: str, mimetype: str, write: Callable[[TextIO], None]) -> Response:
    """What `write` writes, as an attachment: into a file first, so that a slow network holds no cursor open, and
    memory does not fill up."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the answer)
    try:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write(text)
        text.detach()  # flushes
    except BaseException:
        file.close()
        raise
    size = file.tell()
    file.seek(0)
    answer = send_file(file, mimetype=mimetype, as_attachment=True, download_name=name)
    answer.content_length = size
    return answer


def stream(name: str, mimetype: str, pieces: Iterator[str]) -> Response:
    """An attachment that is sent while it is made: one piece is in memory, and nothing is held between two."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(stream_with_context(pieces), content_type=mimetype, headers=headers)
