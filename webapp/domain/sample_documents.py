"""Documents of three sizes for benchmark runs: real PDFs with real sentences, the same bytes at every call."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Iterator
from functools import lru_cache

PAGES = {"S": 1, "M": 6, "L": 20}  # tier: pages, of about a thousand tokens each
LINES_ON_A_PAGE = 46
LETTERS_ON_A_LINE = 92
PARAGRAPH_SENTENCES = 6

SENTENCES = (
    "In {month} the water at the {place} gate stood at {number} centimetres, {change} than in the year before.",
    "The keeper of the {place} gate let {number} barges through and wrote each of them into the book.",
    "{craft} asked the {board} to keep the gates open on {day}, because their work cannot wait.",
    "The {board} decided that loads which can wait are collected and let through together, at half the toll.",
    "Between {place} and {other} the bank was raised over a length of {number} metres.",
    "A storm in {month} brought so much water that both gates at {place} were open for {number} hours.",
    "Of the money in the box, {number} crowns were spent on {repair}, and the book agrees with the box.",
    "The engineers measured the flow below {place} and found it {change} than the plan had said.",
    "On {day} nobody passed the {place} gate, for the {repair} took longer than was announced.",
    "{craft} of {place} were content with the order of the gates; those of {other} asked for a second opening.",
    "If the pond at {place} is not full by {day}, the keeper may open the gate with what there is.",
    "The {board} compared {number} loads that went through at once with as many that were collected.",
    "For the coming year the {board} plans {repair} at {place} and at {other}, in this order.",
    "The clerk of {place} counted {number} sacks of flour, of which none was lost on the way to {other}.",
)
SLOTS = {
    "month": ("January", "February", "March", "April", "May", "June", "July", "September", "October", "November"),
    "place": ("Alder Bridge", "Broadwater", "Coldharbour", "Dunmere", "Eastlock", "Fallowfield", "Greywater",
              "Hollin Weir", "Ivel Mouth", "Kingsmill", "Long Reach", "Millbrook"),
    "other": ("Northlock", "Old Wharf", "Pinder Cross", "Quarry End", "Redbank", "Stonebridge", "Thornmere",
              "Upper Mill", "Vale Basin", "Westgate"),
    "change": ("a hand lower", "a hand higher", "hardly other", "much lower", "a little higher", "far steadier"),
    "craft": ("The millers", "The brewers", "The bargemen", "The tanners", "The paper makers", "The farmers"),
    "board": ("canal board", "council", "water court", "assembly of the keepers"),
    "day": ("Monday", "market day", "the first of the month", "Thursday", "Saturday", "the eve of the feast"),
    "repair": ("the mending of the lower gate", "new oak for the posts", "dredging", "a new gauge",
               "the repair of the wheel", "the work on the spillway"),
}  # fmt: skip


@lru_cache
def sample_pdf(tier: str) -> bytes:
    """The document of a tier (S, M or L): a yearly report of a canal that never was."""
    pages, title = PAGES[tier], f"Report of the Long Canal, edition {tier}"
    lines = _lines(random.Random(title))  # noqa: S311  (no secret: every call shall give the same)
    contents = []
    for number in range(1, pages + 1):
        body = [next(lines) for _ in range(LINES_ON_A_PAGE)]
        contents.append(_page_stream(f"{title}: page {number} of {pages}", body))
    return _pdf(contents)


def _lines(chance: random.Random) -> Iterator[str]:
    """Lines of paragraphs without end, an empty one between two of them."""
    chapter = 0
    while True:
        chapter += 1
        sentences = []
        for template in chance.sample(SENTENCES, PARAGRAPH_SENTENCES):
            words = {name: chance.choice(choices) for name, choices in SLOTS.items()}
            sentences.append(template.format(number=chance.randint(12, 980), **words))
        yield from textwrap.wrap(f"{chapter}. {' '.join(sentences)}", LETTERS_ON_A_LINE)
        yield ""


def _page_stream(title: str, lines: list[str]) -> bytes:
    shown = [f"({line}) Tj T*" for line in lines]
    text = "\n".join(["BT /F1 14 Tf 60 780 Td", f"({title}) Tj", "/F1 10 Tf 15 TL 0 -28 Td", *shown, "ET"]).encode()
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text)


def _pdf(contents: list[bytes]) -> bytes:
    """A document with one page for each content stream: catalogue, page tree, font, then page and stream in turn."""
    first = 4
    kids = b" ".join(b"%d 0 R" % (first + 2 * index) for index in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(contents), kids),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for index, stream in enumerate(contents):
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (first + 2 * index + 1),
            stream,
        ]
    out, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start, size = len(out), len(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n" % (size, table, size)
    return bytes(out) + b"startxref\n%d\n%%%%EOF\n" % start
