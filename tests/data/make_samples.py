#!/usr/bin/env python3
"""Write the PDF samples that the tests upload: `python tests/data/make_samples.py [folder]`.

The results are committed, so no test needs this script; it says how they were made. The two encrypted files
differ at every run (random file keys), the others do not. Needs pypdf (with cryptography).
"""

import sys
import zlib
from io import BytesIO
from pathlib import Path

from pypdf import PdfReader, PdfWriter

TWO_PAGES = [
    "The sluice keeper",
    [
        "A sluice is a gate in a channel. When it stands open, the water runs through at once.",
        "When it is closed, the water collects behind it until there is enough to turn the mill.",
        "The keeper decides which of the two the village needs today.",
        "Bread for this evening cannot wait, so the gate stays open and the stream does its work slowly.",
        "Flour for the winter can wait until the pond is full, and then one wheel grinds it all for half the effort.",
        "Nothing that has flowed into the pond is ever lost; it only leaves later.",
    ],
    [
        "In spring the keeper writes down the height of the water every morning.",
        "Three marks on the post say how full the pond is, and anyone may read them.",
        "At the third mark the gate is raised, and everything behind it goes through together.",
        "If the pond does not fill by noon, the keeper may raise the gate anyway.",
        "The book of the mill records each sack, its owner, its price and the hour it was ground.",
        "At the end of the year the book and the money in the box must agree.",
    ],
]


def text_stream(title: str, lines: list[str]) -> bytes:
    shown = [f"({line}) Tj T*" for line in lines]
    return "\n".join(["BT /F1 16 Tf 60 760 Td", f"({title}) Tj", "/F1 11 Tf 18 TL 0 -32 Td", *shown, "ET"]).encode()


def pdf(objects: list[bytes]) -> bytes:
    """Number the objects from 1 and add the cross-reference table; object 1 is the catalogue."""
    out, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n" % (size, table, size)
    return bytes(out) + b"startxref\n%d\n%%%%EOF\n" % out.rindex(b"xref\n0 ")


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def document(contents: list[bytes], resources: bytes, repeat: int = 1) -> bytes:
    """A document with one page for each stream object; the whole list of pages may be repeated."""
    first = 4
    pages, kids = [], []
    for index, content in enumerate(contents):
        number = first + 2 * index
        kids.append(b"%d 0 R" % number)
        page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources %s /Contents %d 0 R >>"
        pages += [page % (resources, number + 1), content]
    tree = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids) * repeat, b" ".join(kids * repeat))
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    return pdf([b"<< /Type /Catalog /Pages 2 0 R >>", tree, font, *pages])


FONT_ONLY = b"<< /Font << /F1 3 0 R >> >>"


def two_pages() -> bytes:
    title, *pages = TWO_PAGES
    return document([stream(text_stream(title, lines)) for lines in pages], FONT_ONLY)


def encrypted(user_password: str) -> bytes:
    writer, out = PdfWriter(clone_from=PdfReader(BytesIO(two_pages()))), BytesIO()
    writer.encrypt(user_password=user_password, owner_password="owner", algorithm="AES-256")
    writer.write(out)
    return out.getvalue()


def damaged() -> bytes:
    """Broken off in the middle of an upload: no cross-reference table, no page."""
    return two_pages()[:190]


GLYPHS = {
    "A": "01110 10001 10001 11111 10001 10001 10001", "C": "01111 10000 10000 10000 10000 10000 01111",
    "D": "11110 10001 10001 10001 10001 10001 11110", "E": "11111 10000 10000 11110 10000 10000 11111",
    "N": "10001 11001 10101 10101 10011 10001 10001", "S": "01111 10000 10000 01110 00001 00001 11110",
    " ": "00000 00000 00000 00000 00000 00000 00000",
}  # fmt: skip


def no_text_layer(words: str = "A SCANNED CASE", zoom: int = 6) -> bytes:
    """One page that is a picture of words, as a scanner makes it."""
    rows = ["0".join(GLYPHS[char].split()[row] for char in words) for row in range(7)]
    bits = ["".join(bit * zoom for bit in row) for row in rows for _ in range(zoom)]
    width = (len(bits[0]) + 7) // 8
    raw = b"".join(int(line.ljust(width * 8, "0"), 2).to_bytes(width, "big") for line in bits)
    head = b"/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent 1" % (width * 8, len(bits))
    image = stream(zlib.compress(raw, 9), head + b" /ColorSpace /DeviceGray /Decode [1 0] /Filter /FlateDecode")
    resources = b"<< /XObject << /Scan 5 0 R >> >>"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources %s >>" % resources
    tree = b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>"
    return pdf([b"<< /Type /Catalog /Pages 2 0 R >>", tree, page, stream(b"q 470 0 0 40 60 720 cm /Scan Do Q"), image])


def deflated(chunk: bytes, size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(chunk) for _ in range(size // len(chunk))) + packer.flush()


def compression_bomb(size: int = 320_000_000) -> bytes:
    """A stream packed twice: a few KB that inflate to `size` bytes of valid operators."""
    packed = zlib.compress(deflated(b"BT (drop) Tj ET\n" * 65_536, size), 9)
    return document([stream(packed, b"/Filter [/FlateDecode /FlateDecode]")], FONT_ONLY)


def many_slow_pages(pages: int = 100, size: int = 8_000_000) -> bytes:
    """Below each of pypdf's own limits, but 100 pages share one long stream: minutes of work from a 2 KB upload."""
    packed = zlib.compress(deflated(b"BT (drop) Tj ET\n" * 5_000, size), 9)
    return document([stream(packed, b"/Filter [/FlateDecode /FlateDecode]")], FONT_ONLY, repeat=pages)


SAMPLES = {
    "two-pages.pdf": two_pages,
    "not-a-pdf.pdf": lambda: b"This is a text file that somebody renamed to .pdf.\n",
    "encrypted.pdf": lambda: encrypted("open sesame"),
    "encrypted-empty-password.pdf": lambda: encrypted(""),
    "zero-pages.pdf": lambda: document([], FONT_ONLY),
    "damaged.pdf": damaged,
    "no-text-layer.pdf": no_text_layer,
    "compression-bomb.pdf": compression_bomb,
    "many-slow-pages.pdf": many_slow_pages,
}


def excerpt(source: Path, target: Path) -> None:
    """The 20 pages of debian-history.pdf: title page, licence page, printed pages 1 to 18 (see SOURCES.md)."""
    reader, writer = PdfReader(source), PdfWriter()
    for index in [0, 1, *range(6, 24)]:
        writer.add_page(reader.pages[index])
    writer.add_metadata(
        {"/Title": "A Brief History of Debian", "/Subject": "Excerpt: title, notice, pages 1 to 18 of 21"}
    )
    writer.compress_identical_objects(remove_unreferenced=True)
    writer.write(target)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, make in SAMPLES.items():
        (folder / name).write_bytes(make())
