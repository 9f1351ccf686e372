"""Plain text into sentences and words, by regular expressions only.

sumy's own tokenizer would ask for nltk's data files; this one needs no file and no network.
Every pattern here is linear in the length of the text, whatever the text is.
"""

import re

# Longer stretches without a full stop (tables, broken PDFs) are cut at a space.
MAX_SENTENCE_CHARS = 400

_LIST_MARKER = re.compile(r"(?:[-*•–‣]|\(?\d{1,3}[.)])\s+")
# The lookbehinds let a match begin only at the first mark of a run: no quadratic scanning.
_SENTENCE_END = re.compile(r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+\s++|(?<![。！？])[。！？]++["'”’」』）]*+\s*+""")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|[Mm]rs?|[Mm]s|[Dd]rs?|[Pp]rof|St|[Nn]o|[Nn]r|[Ff]ig|[Ee]q|[Ss]ec|[Vv]ol|pp?"
    r"|vs|cf|approx|[Ee]\.g|[Ii]\.e|z\.\s?B|bzw|ca|U\.S|U\.K|Inc|Ltd|Co|Corp|Jan|Feb|Aug|Sept?|Oct|Nov|Dec)\.\s$"
)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+(?:['’][^\W\d_]+)*")
_CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|_")


class Tokenizer:
    """What sumy asks of a tokenizer."""

    def to_sentences(self, text: str) -> list[str]:
        return sentences(text)

    def to_words(self, text: str) -> list[str]:
        return words(text)


def words(text: str) -> list[str]:
    """Lower-case words; a CJK character counts as a word."""
    return _WORD.findall(text.lower())


def name_words(name: str) -> list[str]:
    """The words of an identifier: `documentType` and `document_type` give the same two."""
    return words(_CAMEL_HUMP.sub(" ", name))


def sentences(text: str) -> list[str]:
    """Each different sentence once, in order, white space collapsed, none over MAX_SENTENCE_CHARS."""
    found: dict[str, None] = {}
    for block in blocks(text):
        for sentence in _split_block(block):
            found.update(dict.fromkeys(_pieces(sentence)))
    return list(found)


def heading(text: str) -> str | None:
    """The title: a short first line, marked with `#` or followed by an empty line."""
    lines = text.lstrip()[:1000].splitlines()
    if not lines:
        return None
    first = lines[0].strip()
    if first.startswith("#"):
        return first.lstrip("#").strip()[:120] or None
    stands_alone = len(lines) > 1 and not lines[1].strip()
    is_short = len(first) <= 100 and not first.endswith((".", "!", "?", ":", "。"))
    return first if stands_alone and is_short else None


def blocks(text: str) -> list[str]:
    """Paragraphs and list items, each on one line. Headings marked with `#` are left out."""
    found: list[str] = []
    lines: list[str] = []
    for line in text.splitlines():
        line = " ".join(line.split())
        marker = _LIST_MARKER.match(line)
        is_text = line and not line.startswith(("#", "```"))
        if marker or not is_text:
            found.append(" ".join(lines))
            lines = []
        if is_text:
            lines.append(line[marker.end() :] if marker else line)
    found.append(" ".join(lines))
    return [block for block in found if block]


def _split_block(block: str) -> list[str]:
    found, start = [], 0
    for end in _SENTENCE_END.finditer(block):
        following = block[end.end() : end.end() + 1]
        # Only a look-back of some characters: the longest abbreviation is short.
        before = block[max(0, end.end() - 12) : end.end()]
        if following.islower() or _ABBREVIATION.search(before):
            continue
        found.append(block[start : end.end()].strip())
        start = end.end()
    found.append(block[start:].strip())
    return [sentence for sentence in found if sentence]


def _pieces(sentence: str) -> list[str]:
    found = []
    while len(sentence) > MAX_SENTENCE_CHARS:
        cut = sentence.rfind(" ", 1, MAX_SENTENCE_CHARS)
        cut = MAX_SENTENCE_CHARS if cut < 0 else cut
        found.append(sentence[:cut])
        sentence = sentence[cut:].lstrip()
    return [*found, sentence] if sentence else found
