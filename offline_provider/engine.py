"""Text in, text out: an extractive summary by sumy's Luhn. The same prompt always gives the same text."""

import re
from functools import cache

from sumy.models.dom import ObjectDocumentModel, Paragraph, Sentence
from sumy.summarizers.luhn import LuhnSummarizer
from sumy.utils import get_stop_words

from .text import Tokenizer, heading, sentences, words

# Only this much of a text is ranked: about 40 pages, some 100 ms.
MAX_RANKED_CHARS = 120_000
PARAGRAPH_SENTENCES = 3
DEFAULT_BULLETS = 5
MAX_BULLETS = 50
NOTHING_TO_READ = "The request contains no text that could be summarised."

_BULLETS = re.compile(r"(?<!\d)(\d{1,3})[\s-]{1,3}(?:[a-z]{1,20}\s)?bullets?\b", re.IGNORECASE)
_LANGUAGES = ("english", "german", "french", "spanish", "italian", "portuguese")
_LANGUAGE_SAMPLE_WORDS = 400
_MIN_WORDS = 4


class _Luhn(LuhnSummarizer):
    """sumy keeps the significant words in a tuple and searches it for every word of the text."""

    def _get_significant_words(self, words):
        return frozenset(super()._get_significant_words(words))


def summarise(source: str, instructions: str) -> str:
    """Markdown: bullets if the instructions or the text ask for them, else a short paragraph."""
    found = sentences(source[:MAX_RANKED_CHARS])
    if not found:
        return NOTHING_TO_READ
    bullets = _bullets_wanted(instructions, source)
    if bullets is None:
        return " ".join(best_sentences(found, PARAGRAPH_SENTENCES))
    lead = (heading(source) or "Key points").replace("*", "")
    points = best_sentences(found, bullets)
    return f"**{lead}**\n\n" + "\n".join(f"- {point}" for point in points)


def best_sentences(found: list[str], count: int) -> list[str]:
    """The `count` sentences that say most, in the order of the text."""
    # Scraps (page numbers, table cells) only take part if there is nothing better.
    full = [sentence for sentence in found if len(words(sentence)) >= _MIN_WORDS]
    candidates = full if len(full) >= count else found
    tokenizer = Tokenizer()
    paragraph = Paragraph([Sentence(sentence, tokenizer) for sentence in candidates])
    document = ObjectDocumentModel([paragraph])
    luhn = _Luhn()
    luhn.stop_words = _stop_words(document.words)
    return [str(sentence) for sentence in luhn(document, count)]


def _bullets_wanted(instructions: str, source: str) -> int | None:
    for text in (instructions, source[:MAX_RANKED_CHARS]):
        number = _BULLETS.search(text)
        if number:
            return min(max(int(number[1]), 1), MAX_BULLETS)
    return DEFAULT_BULLETS if "bullet" in instructions.lower() else None


@cache
def _stop_words_of(language: str) -> frozenset[str]:
    return get_stop_words(language)


def _stop_words(text_words: tuple[str, ...]) -> frozenset[str]:
    """The stop words of the language that the text seems to be in."""
    sample = text_words[:_LANGUAGE_SAMPLE_WORDS]
    lists = [_stop_words_of(language) for language in _LANGUAGES]
    return max(lists, key=lambda stop_words: sum(word in stop_words for word in sample))
