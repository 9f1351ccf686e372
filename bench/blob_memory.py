"""What 200 MB cost in memory on their way into Blob Storage and back: the peak above what the process had before.

    python3 -m devstack tool python -m bench.blob_memory [MEGABYTES]

The store is Azurite, over TLS; this process only moves the bytes, as the web app does.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import memory_mb

if TYPE_CHECKING:
    from tests.azurite import Azurite

ROOT = Path(__file__).parent.parent
CHUNK_BYTES = 1024 * 1024
KEY = "b" * 32


def main(megabytes: int = 200) -> None:
    from tests import azurite  # not in the process that is measured

    with tempfile.TemporaryDirectory() as name, azurite.running(Path(name)) as blobs:
        print(run(blobs, Path(name), megabytes), end="")


def run(blobs: Azurite, folder: Path, megabytes: int) -> str:
    """Measure in a process of its own; returns the lines that it prints."""
    document = folder / "document"
    with document.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(10**6))
    done = subprocess.run(
        [sys.executable, "-m", "bench.blob_memory", "--measure", str(document)], cwd=ROOT, check=True, text=True,
        env={**os.environ, "REQUESTS_CA_BUNDLE": str(blobs.certificate), "CONNECTION": blobs.connection_string},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return done.stdout


def measure(document: Path) -> None:
    from webapp.gateways.blob_storage import BlobStorage

    storage = BlobStorage.by_connection_string(os.environ["CONNECTION"], "bench")
    storage._container.create_container()
    small = document.with_name("small")
    small.write_bytes(b"the first call loads what every later one needs")
    storage.put("a" * 32, small)
    with storage.open("a" * 32) as stream:
        stream.read()

    def put() -> None:
        storage.put(KEY, document)

    def get() -> None:
        digest = hashlib.sha256()
        with storage.open(KEY) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
        with document.open("rb") as file:
            assert digest.digest() == hashlib.file_digest(file, "sha256").digest(), "what came back is something else"

    for name, move in (("in", put), ("out", get)):
        before, started = memory_mb("VmRSS"), time.monotonic()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        move()
        seconds, grown = time.monotonic() - started, memory_mb("VmHWM") - before
        size = document.stat().st_size / 1e6
        print(f"{name:3} {size:.0f} MB in {seconds:.1f} s; memory grew by {grown:.1f} MB from {before:.1f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:2]))
