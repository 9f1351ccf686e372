"""Reads PDFs, each in a process of its own: `pdf_worker.py SOCKET` says "ready" and listens until its parent ends.

PDF is hostile input: the process that reads a file may be killed by its limits at any moment and nothing else is
harmed. It is forked from this one, which has the library already: loading that takes longer than most PDFs. This one
reads none itself.

A connection sends one line of JSON: {"folder", "files": [paths], "maxPages", "memoryMb", "seconds"}; it is closed when
all of them were read. For each file there is then, as <folder>/<its number from 0>, one JSON object: {"pages": int,
"text": str} or {"error": str}; nothing, or half of it, when the limits ended it.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import socketserver
import sys

MEBIBYTE = 1024 * 1024
TOO_MUCH = "This PDF asks for too much memory or time to be read."
MAX_TEXT_CHARACTERS = 4_000_000  # about a million tokens: more than any model takes


def read(path: str, max_pages: int) -> dict[str, object]:
    from pypdf import PdfReader
    from pypdf.errors import LimitReachedError, PyPdfError

    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            return {"error": "This PDF is encrypted. Save a copy without a password and upload that."}
        pages = len(reader.pages)
        if pages == 0:
            return {"error": "This PDF has no pages."}
        if pages > max_pages:
            return {"error": f"This PDF has {pages} pages; at most {max_pages} are allowed."}
        text = "\n\n".join(page.extract_text() for page in reader.pages).strip()
    except LimitReachedError:
        return {"error": TOO_MUCH}
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError) as error:
        # pypdf raises nearly anything on a broken file.
        return {"error": "This PDF is damaged and cannot be read.", "cause": repr(error)[:300]}
    return {"pages": pages, "text": _clean(text)[:MAX_TEXT_CHARACTERS]}


def _clean(text: str) -> str:
    """No NUL and no lone surrogate: neither can be stored or sent."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


class _Files(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        for number, path in enumerate(asked["files"]):
            if child := os.fork():
                os.waitpid(child, 0)
            else:
                try:
                    target = f"{asked['folder']}/{number}"
                    _work(path, target, asked["maxPages"], asked["memoryMb"], asked["seconds"])
                finally:
                    os._exit(0)


class _Worker(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    request_queue_size = 64

    def __init__(self, address: str) -> None:
        super().__init__(address, _Files)
        self.parent = os.getppid()

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:
            shutil.rmtree(os.path.dirname(str(self.server_address)), ignore_errors=True)
            os._exit(0)


def main() -> None:
    logging.disable(logging.CRITICAL)  # pypdf warns about each oddity of a file
    import pypdf  # noqa: F401  (before the forks)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent still answers what it has begun
    with _Worker(sys.argv[1]) as worker:
        print("ready", flush=True)
        worker.serve_forever()


def _work(path: str, target: str, max_pages: int, memory_mb: int, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * MEBIBYTE, memory_mb * MEBIBYTE))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(seconds + 5)  # of the clock on the wall: it may sleep, too
    try:
        found = read(path, max_pages)
    except MemoryError:
        found = {"error": TOO_MUCH}
    with open(target, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
