"""Text out of a PDF, with limits on time and memory."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from webapp.domain.errors import BadDocument, UnavailableService

PDF_MAGIC = b"%PDF-"
WORKER = Path(__file__).with_name(
    "pdf_worker.py"
)  # a script: it must not import the app, which takes longer than a PDF


@dataclass(frozen=True)
class PdfText:
    pages: int
    text: str  # "" when there is no text layer


@dataclass(frozen=True)
class PdfReader:
    """Reads PDFs in a process of their own (`pdf_worker`)."""

    max_pages: int
    memory_mb: int
    seconds: int

    def read(self, path: Path) -> PdfText:
        """Raises BadDocument with a sentence for the person who uploaded it."""
        [found] = self.read_all([path])
        if isinstance(found, BadDocument):
            raise found
        return found

    def read_all(self, paths: Sequence[Path]) -> list[PdfText | BadDocument]:
        """Each file's text, or what is wrong with it, in this order. A bad file does not harm the others."""
        readable = [path for path in paths if _is_pdf(path)]
        said = self._work(readable) if readable else {}
        return [self._found(said[path]) if path in said else BadDocument("This file is not a PDF.") for path in paths]

    def _work(self, paths: Sequence[Path]) -> dict[Path, Any]:
        """{path: what the worker says of it, None when it did not come to that}"""
        with tempfile.TemporaryDirectory(prefix="sluice-pdf-") as folder:
            _worker.ask({
                "folder": folder, "files": [str(path) for path in paths], "maxPages": self.max_pages,
                "memoryMb": self.memory_mb, "seconds": self.seconds,
            })  # fmt: skip
            return {path: _read_json(Path(folder) / str(number)) for number, path in enumerate(paths)}

    def _found(self, said: Any) -> PdfText | BadDocument:
        if said is None:
            return BadDocument("This PDF asks for too much memory or time to be read.")
        return BadDocument(said["error"]) if "error" in said else PdfText(said["pages"], said["text"])


class _Running(NamedTuple):
    parent: int  # whose it is: after a fork both sides need one of their own
    process: subprocess.Popen[bytes]
    address: str

    def end(self) -> None:
        if self.parent == os.getpid():
            self.process.kill()
            self.process.wait()
            shutil.rmtree(Path(self.address).parent, ignore_errors=True)


class _Worker:
    """What reads PDFs: begun when the first one comes, once for each process of ours, and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running: _Running | None = None

    def ask(self, files: dict[str, Any]) -> None:
        """Returns when it has read them. Raises UnavailableService."""
        running = self.running
        try:
            _ask(running, files)
        except OSError:  # it is not there (any more)
            try:
                _ask(self._begin(instead_of=running), files)
            except OSError as error:
                raise UnavailableService("PDFs cannot be read at the moment; try again in a moment.") from error

    def _begin(self, instead_of: _Running | None) -> _Running:
        with self._lock:
            if self.running and self.running is not instead_of:
                return self.running  # another thread was faster
            self.end()
            address = f"{tempfile.mkdtemp(prefix='sluice-pdf-')}/socket"
            process = subprocess.Popen(
                [sys.executable, "-I", str(WORKER), address],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={},
            )  # fmt: skip
            assert process.stdout
            with process.stdout as said:
                said.readline()  # "ready", or nothing
            self.running = _Running(os.getpid(), process, address)
            return self.running

    def end(self) -> None:
        if self.running:
            self.running.end()


def _ask(running: _Running | None, files: dict[str, Any]) -> None:
    if running is None or running.parent != os.getpid():
        raise ConnectionError
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(running.address)
        connection.sendall(json.dumps(files).encode() + b"\n")
        connection.recv(1)  # nothing, when the other side closes it


_worker = _Worker()
atexit.register(lambda: _worker.end())


def _is_pdf(path: Path) -> bool:
    with path.open("rb") as file:
        return PDF_MAGIC in file.read(1024)


def _read_json(path: Path) -> Any:
    """None for a file that is missing or cut off."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
