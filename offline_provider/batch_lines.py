"""The lines of a batch: read from the input file one by one, written as result lines."""

import uuid
from collections.abc import Iterator
from typing import BinaryIO

from . import flavours, ids, jsontext
from .answer import Answer

# A PDF of 50 MB in base64. A longer line is not read into memory.
MAX_LINE_BYTES = 70 * 1024 * 1024
_SKIP_BYTES = 1024 * 1024


def read(file: BinaryIO) -> Iterator[tuple[bytes | None, int]]:
    """From where the file stands: (line, offset behind it). None stands for a line that is too long."""
    offset = file.tell()
    while line := file.readline(MAX_LINE_BYTES):
        offset += len(line)
        too_long = len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")
        while too_long and (rest := file.readline(_SKIP_BYTES)):
            offset += len(rest)
            if rest.endswith(b"\n"):
                break
        yield None if too_long else line, offset


def answered(custom_id: str, answer: Answer) -> bytes:
    """200 belongs in the output file. Any other status in the error file: the request's own fault."""
    return _line(custom_id, _response(answer.status, str(uuid.uuid4()), answer.body), None)


def not_reached(custom_id: str) -> bytes:
    """The request never got through to a model. Status 0, and nothing else is known."""
    return _line(custom_id, _response(0, "", {}), None)


def not_run(custom_id: str, code: str, message: str) -> bytes:
    """The batch ended before this line was tried."""
    return _line(custom_id, None, {"code": code, "message": message})


def _response(status: int, request_id: str, body: dict) -> dict:
    return {"status_code": status, "request_id": request_id, "body": body}


def _line(custom_id: str, response: dict | None, error: dict | None) -> bytes:
    line = {"id": ids.batch_request_id()} if flavours.current().lines_have_ids else {}
    line |= {"custom_id": custom_id, "response": response, "error": error}
    return jsontext.dump(line).encode() + b"\n"
