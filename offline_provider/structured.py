"""A JSON value that fits a schema and is taken from the text. The same text gives the same value."""

import re
from collections import Counter
from collections.abc import Iterator

from . import schema as schemas
from .engine import MAX_RANKED_CHARS, best_sentences
from .schema import InvalidSchema
from .schema_numbers import fit_integer, fit_number, is_share
from .text import heading, name_words, sentences, words

MAX_VALUES = 5_000  # references can make a small schema stand for a huge value
ARRAY_ITEMS = 3
_MAX_COMPARED_SENTENCES = 300
_MAX_HINT_CHARS = 200
_NUMBER = re.compile(r"(?<![\w.,-])-?\d{1,15}(?:\.\d{1,6})?(?![\w,])")
_NEVER = re.compile(r"(?!)")
# format → (how it looks in a text, what to say if the text has none)
_FORMATS = {
    "date": (re.compile(r"(?<!\d)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])(?!\d)"), "1970-01-01"),
    "date-time": (_NEVER, "1970-01-01T00:00:00Z"),
    "time": (_NEVER, "00:00:00Z"),
    "duration": (_NEVER, "P0D"),
    "email": (
        re.compile(r"(?<![\w.+-])[\w+-]{1,64}@[A-Za-z0-9]{1,63}\.[A-Za-z]{2,20}(?!\w)", re.ASCII),
        "nobody@example.com",
    ),
    "hostname": (_NEVER, "example.com"),
    "ipv4": (_NEVER, "192.0.2.1"),
    "ipv6": (_NEVER, "2001:db8::1"),
    "uuid": (_NEVER, "00000000-0000-0000-0000-000000000000"),
}
_Where = tuple[str, ...]


def build(schema: dict, source: str) -> dict:
    builder = _Builder(schema, source[:MAX_RANKED_CHARS], iter(range(MAX_VALUES)), ())
    return builder.value(schema, (), "")


class _Endless(InvalidSchema):
    """A value that would have to contain itself. An array or another option may still avoid it."""


class _Builder:
    """Takes values out of one text. Every method gets the schema node and where in it we are;
    `hint` is the property's name and description, the only clue to what is wanted."""

    def __init__(self, root: dict, source: str, budget: Iterator, open_references: tuple):
        self._root = root
        self._source = source
        self._budget = budget
        self._open_references = open_references
        self._sentences = sentences(source)
        self._sentence_words = [set(words(s)) for s in self._sentences[:_MAX_COMPARED_SENTENCES]]
        self._text_words = Counter(words(source))

    def value(self, node: dict, where: _Where, hint: str):
        if next(self._budget, None) is None:
            raise InvalidSchema(where, f"more than {MAX_VALUES} values are not supported.")
        hint = f"{hint} {node.get('description') or ''}"[:_MAX_HINT_CHARS]
        reference = node.get("$ref")
        if reference is None:
            return self._plain_value(node, where, hint)
        if reference in self._open_references:
            raise _Endless(where, "the value would have to contain itself.")
        outer = self._open_references
        self._open_references = (*outer, reference)
        try:
            return self.value(schemas.resolve(node, self._root, where), where, hint)
        finally:
            self._open_references = outer

    def _plain_value(self, node: dict, where: _Where, hint: str):
        if "const" in node:
            return node["const"]
        if "enum" in node:
            return self._by_overlap(node["enum"], where)[0]
        if "anyOf" in node:
            return self._any_of(node["anyOf"], where, hint)
        return getattr(self, "_" + schemas.type_of(node, where))(node, where, hint)

    def _by_overlap(self, options, where: _Where) -> list:
        """The options, best first: most of their words in the text, then most often. Ties keep order."""
        if not isinstance(options, list) or not options:
            raise InvalidSchema(where, "'enum' must be a non-empty array.")
        return sorted(options, key=lambda option: self._overlap(str(option)), reverse=True)

    def _overlap(self, label: str) -> tuple[float, int]:
        """(share of the label's words that are in the text, how often they are)."""
        counts = [self._text_words[word] for word in name_words(label[:_MAX_HINT_CHARS])]
        share = sum(count > 0 for count in counts) / len(counts) if counts else 0.0
        return share, sum(counts)

    def _any_of(self, options: list, where: _Where, hint: str):
        for option in sorted(options, key=lambda option: option.get("type") == "null"):
            try:
                return self.value(option, where, hint)
            except _Endless as fault:
                endless = fault
        raise endless

    def _object(self, node: dict, where: _Where, hint: str) -> dict:
        result = {}
        for name, child in node.get("properties", {}).items():
            try:
                result[name] = self.value(child, (*where, name), name)
            except _Endless:
                if name in node.get("required", []):
                    raise
        return result

    def _array(self, node: dict, where: _Where, hint: str) -> list:
        least = schemas.count(node, "minItems", where, schemas.MAX_ARRAY_ITEMS) or 0
        most = schemas.count(node, "maxItems", where, schemas.MAX_ARRAY_ITEMS)
        if most is not None and least > most:
            raise InvalidSchema(where, "'minItems' is above 'maxItems'.")
        size = max(least, ARRAY_ITEMS if most is None else min(ARRAY_ITEMS, most))
        try:
            found = self._items(node.get("items", {"type": "string"}), size, where, hint)
        except _Endless:
            if least:
                raise
            return []
        return found + found[-1:] * (least - len(found))

    def _items(self, item: dict, size: int, where: _Where, hint: str) -> list:
        """Up to `size` values, at least one: enum values of the text, or one value per sentence."""
        where = (*where, "items")
        if size == 0:
            return []
        if "enum" in item:
            options = self._by_overlap(item["enum"], where)
            named = [option for option in options if self._overlap(str(option))[1]]
            return (named or options[:1])[:size]
        if not self._sentences:
            return [self.value(item, where, hint)]
        return [
            _Builder(self._root, sentence, self._budget, self._open_references).value(item, where, hint)
            for sentence in best_sentences(self._sentences, size)
        ]

    def _string(self, node: dict, where: _Where, hint: str) -> str:
        if "format" in node:
            return self._formatted(str(node["format"]), where)
        title = heading(self._source) if "title" in name_words(hint.split(" ")[0]) else None
        return self._fit(title or self._relevant(hint), node, where)

    def _formatted(self, name: str, where: _Where) -> str:
        if name not in _FORMATS:
            raise InvalidSchema(where, f"format {name[:40]!r} is not supported.")
        pattern, default = _FORMATS[name]
        found = pattern.search(self._source)
        return found[0] if found else default

    def _fit(self, text: str, node: dict, where: _Where) -> str:
        least = schemas.count(node, "minLength", where, schemas.MAX_STRING_CHARS) or 0
        most = schemas.count(node, "maxLength", where, schemas.MAX_STRING_CHARS)
        if most is not None and least > most:
            raise InvalidSchema(where, "'minLength' is above 'maxLength'.")
        if len(text) < least:
            text = f"{text} {self._source}".strip().ljust(least, ".")[:least]
        return text if most is None else text[:most]

    def _relevant(self, hint: str) -> str:
        """The sentence that shares most words with the hint; the most telling one if none does."""
        if not self._sentences:
            return ""
        wanted = set(name_words(hint))
        shared = [len(wanted & found) for found in self._sentence_words]
        best = max(range(len(shared)), key=shared.__getitem__)
        return self._sentences[best] if shared[best] else best_sentences(self._sentences, 1)[0]

    def _number(self, node: dict, where: _Where, hint: str) -> float:
        if is_share(node):
            return round(0.5 + self._overlap(hint)[0] / 2, 2)
        return fit_number(node, self._number_near(hint), where)

    def _integer(self, node: dict, where: _Where, hint: str) -> int:
        return fit_integer(node, self._number_near(hint), where)

    def _number_near(self, hint: str) -> float:
        """The first number of the most relevant sentence, else of the text, else 0."""
        found = _NUMBER.search(self._relevant(hint)) or _NUMBER.search(self._source)
        return float(found[0]) if found else 0

    def _boolean(self, node: dict, where: _Where, hint: str) -> bool:
        return self._overlap(hint)[0] >= 0.5

    def _null(self, node: dict, where: _Where, hint: str) -> None:
        return None
