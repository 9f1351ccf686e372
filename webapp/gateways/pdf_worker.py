"""Reads one PDF in a process of its own: `pdf_worker.py FILE MAX_PAGES MEMORY_MB SECONDS`.

PDF is hostile input: this process may be killed by its limits at any moment and nothing else is harmed.
Prints one JSON object: {"pages": int, "text": str} or {"error": str}.
"""

from __future__ import annotations

import json
import logging
import resource
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
    path, max_pages, memory_mb, seconds = sys.argv[1], *map(int, sys.argv[2:5])
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb * MEBIBYTE, memory_mb * MEBIBYTE))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)  # pypdf warns about each oddity of a file
    try:
        found = read(path, max_pages)
    except MemoryError:
        found = {"error": TOO_MUCH}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
