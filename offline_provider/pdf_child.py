"""Reads a PDF on standard input, writes its text on standard output. Run as a script of its own.

PDFs come from strangers: one can loop, fill the memory or crash the interpreter. It may do so to this
short-lived process, which has a limit on time and memory, and not to the server.
"""

import io
import resource
import sys

MAX_CPU_SECONDS = 15
MAX_MEMORY_BYTES = 1024**3
MAX_TEXT_CHARS = 4_000_000


def read_pdf(content: bytes) -> str:
    from pypdf import PdfReader  # after the limits are set

    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("the file is encrypted")
    pages, length = [], 0
    for page in reader.pages:
        pages.append(page.extract_text())
        length += len(pages[-1])
        if length > MAX_TEXT_CHARS:
            break
    return "\n\n".join(pages)[:MAX_TEXT_CHARS]


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    text = read_pdf(sys.stdin.buffer.read())
    sys.stdout.buffer.write(text.encode("utf-8", errors="replace"))


if __name__ == "__main__":
    main()
