"""The working files of one batch: its own name for the input, and the results so far.

Results are appended in steps, and each step ends with a checkpoint in the database. Whatever a killed
process wrote beyond the last checkpoint is cut off when the next step opens the file, so that no line
is lost or there twice.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from . import batch_lines
from .batch_store import Checkpoint
from .file_store import link_or_copy


class ResultsLost(Exception):
    """A file is shorter than its checkpoint: the machine stopped before the disk had it all."""


class BatchFolder:
    def __init__(self, batches_dir: Path, batch_id: str):
        self._folder = batches_dir / batch_id
        self.input = self._folder / "input.jsonl"
        self.output = self._folder / "output.jsonl"
        self.errors = self._folder / "errors.jsonl"

    def take_input(self, source: Path) -> None:
        """From here on the batch can do without the uploaded file. FileNotFoundError if it is gone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.input.unlink(missing_ok=True)
        link_or_copy(source, self.input)

    def next_lines(self, checkpoint: Checkpoint, most_lines: int, most_bytes: int) -> tuple[list[bytes], int]:
        """(the next lines, offset behind them): at least one, unless the input is at its end."""
        lines, size, offset = [], 0, checkpoint.input_offset
        with self.input.open("rb") as file:
            file.seek(offset)
            for line, end in batch_lines.read(file):
                offset = end
                if line is not None and line.strip():
                    lines.append(line)
                    size += len(line)
                if len(lines) >= most_lines or size >= most_bytes:
                    break
        return lines, offset

    @contextmanager
    def results(self, checkpoint: Checkpoint) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """(output, errors), open at the checkpoint. All is handed to the system at the end."""
        with (
            _open_at(self.output, checkpoint.output_bytes) as output,
            _open_at(self.errors, checkpoint.error_bytes) as errors,
        ):
            yield output, errors

    def seal(self, checkpoint: Checkpoint) -> dict[str, Path | None]:
        """The files at their final sizes and on the disk; None for one without lines."""
        if self._folder.exists():
            with self.results(checkpoint) as files:
                for file in files:
                    os.fsync(file.fileno())
        return {
            "output": self.output if checkpoint.output_bytes else None,
            "error": self.errors if checkpoint.error_bytes else None,
        }

    def shaped(self, kind: str) -> Path:
        """For a result file that is written anew at the end."""
        return self._folder / f"{kind}.shaped.jsonl"

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _open_at(path: Path, size: int) -> BinaryIO:
    file = path.open("r+b" if path.exists() else "w+b")
    if os.fstat(file.fileno()).st_size < size:
        file.close()
        raise ResultsLost(f"{path} is shorter than {size} bytes")
    file.truncate(size)
    file.seek(size)
    return file
