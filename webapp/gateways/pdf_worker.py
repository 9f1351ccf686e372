"""Reads PDFs, each in a process of its own: `pdf_worker.py FOLDER MAX_PAGES MEMORY_MB SECONDS FILE...`.

PDF is hostile input: the process that reads a file may be killed by its limits at any moment and nothing else is
harmed. It is forked from this one, which has the library already: loading that takes longer than most PDFs.
Writes for each file, as FOLDER/<its number from 0>, one JSON object: {"pages": int, "text": str} or {"error": str};
nothing, or half of it, when the limits ended it.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
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


def main() -> None:
    folder, max_pages, memory_mb, seconds = sys.argv[1], *map(int, sys.argv[2:5])
    logging.disable(logging.CRITICAL)  # pypdf warns about each oddity of a file
    import pypdf  # noqa: F401  (before the forks)

    for number, path in enumerate(sys.argv[5:]):
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            try:
                _work(path, f"{folder}/{number}", max_pages, memory_mb, seconds)
            finally:
                os._exit(0)


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
