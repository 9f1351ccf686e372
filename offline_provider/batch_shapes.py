"""The last touch to a batch's files, when it ends: strange lines, another order, an empty file.

The files are written anew beside the true ones, so that it can be done again after a kill.
"""

import json
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from . import batch_lines, flavours
from .answer import Answer
from .batch_folder import BatchFolder
from .faults import Fault

Files = dict[str, Path | None]  # output, error → None for one that does not exist


def shape(folder: BatchFolder, files: Files, faults: dict[str, Fault | None], is_completed: bool) -> Files:
    """`faults`: kind → the one that holds the batch."""
    files = dict(files)
    if faults["shuffle"] and files["output"]:
        files["output"] = _rewritten(folder.shaped("output"), _backwards(folder.input, files["output"]))
    extra = _unknown(faults["unknown_lines"]) + _malformed(faults["malformed_lines"])
    if extra:
        files["output"] = _rewritten(folder.shaped("output"), _among(extra, files["output"]))
    if is_completed and files["error"] is None and flavours.current().has_empty_error_file:
        files["error"] = _rewritten(folder.shaped("error"), iter(()))
    return files


def _rewritten(path: Path, lines: Iterator[bytes]) -> Path:
    """Never in place: `lines` may come from the file itself, and an earlier try may have kept its content."""
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        file.writelines(lines)
    return half.replace(path)


def _backwards(requests: Path, results: Path) -> Iterator[bytes]:
    """The results in the opposite order of the requests: certainly not in theirs."""
    with requests.open("rb") as file:
        order = {_custom_id(line): number for number, (line, _) in enumerate(batch_lines.read(file)) if line.strip()}
    with results.open("rb") as file:
        places = [(order[_custom_id(line)], end - len(line)) for line, end in batch_lines.read(file)]
        for _, offset in sorted(places, key=lambda place: place[0], reverse=True):
            file.seek(offset)
            yield file.readline()


def _custom_id(line: bytes) -> str:
    return json.loads(line)["custom_id"]


def _among(extra: list[bytes], path: Path | None) -> Iterator[bytes]:
    """One strange line before each true one, and the rest at the end."""
    left = iter(extra)
    if path:
        with path.open("rb") as file:
            for line in file:
                yield from islice(left, 1)
                yield line
    yield from left


def _unknown(fault: Fault | None) -> list[bytes]:
    numbers = range(fault["count"] if fault else 0)
    return [_good_line(f"nobody-sent-this-{number}") for number in numbers]


def _malformed(fault: Fault | None) -> list[bytes]:
    if not fault:
        return []
    return [_LINES[form](fault) + b"\n" for form in islice(cycle(fault["forms"]), fault["count"])]


def _good_line(custom_id: str) -> bytes:
    return batch_lines.answered(custom_id, Answer(200, {"object": "response", "output": []}, None, 0))


_LINES = {
    "not_json": lambda fault: b'{"id": "batch_req_0", "custom_id": "half a li',
    "nul_bytes": lambda fault: b"\0" * 64,
    "lone_surrogate": lambda fault: b'{"custom_id": "\\ud800", "response": null, "error": null}',
    "no_custom_id": lambda fault: b'{"id": "batch_req_0", "response": null, "error": null}',
    "too_long": lambda fault: b'{"custom_id": "' + b"x" * fault["long_bytes"] + b'"}',
}
