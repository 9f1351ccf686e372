"""Text out of a PDF, with limits on time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webapp.domain.errors import BadDocument

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
        limits = [str(limit) for limit in (self.max_pages, self.memory_mb, self.seconds)]
        with tempfile.TemporaryDirectory(prefix="sluice-pdf-") as folder:
            command = [sys.executable, "-I", str(WORKER), folder, *limits, *map(str, paths)]
            subprocess.run(command, capture_output=True, check=False, env={})
            return {path: _read_json(Path(folder) / str(number)) for number, path in enumerate(paths)}

    def _found(self, said: Any) -> PdfText | BadDocument:
        if said is None:
            return BadDocument("This PDF asks for too much memory or time to be read.")
        return BadDocument(said["error"]) if "error" in said else PdfText(said["pages"], said["text"])


def _is_pdf(path: Path) -> bool:
    with path.open("rb") as file:
        return PDF_MAGIC in file.read(1024)


def _read_json(path: Path) -> Any:
    """None for a file that is missing or cut off."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
