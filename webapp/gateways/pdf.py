"""Text out of a PDF, with limits on time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
        with path.open("rb") as file:
            if PDF_MAGIC not in file.read(1024):
                raise BadDocument("This file is not a PDF.")
        command = [
            sys.executable, "-I", str(WORKER),
            str(path), str(self.max_pages), str(self.memory_mb), str(self.seconds),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=self.seconds + 5, check=False, env={})
        except subprocess.TimeoutExpired:
            raise BadDocument(f"This PDF could not be read within {self.seconds} seconds.") from None
        try:
            found = json.loads(done.stdout)
        except ValueError:
            raise BadDocument("This PDF asks for too much memory or time to be read.") from None
        if error := found.get("error"):
            raise BadDocument(error)
        return PdfText(found["pages"], found["text"])
