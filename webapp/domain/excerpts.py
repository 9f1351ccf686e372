"""The beginning of a text that is too long to be shown whole."""

from __future__ import annotations


def beginning(text: str, most: int) -> str:
    """`text`, or of a longer one its first `most` characters at most, ending with a whole block, line or word.

    Markdown that is cut so reads as it did: a table ends with a row, and a code block that is left open ends here.
    """
    if len(text) <= most:
        return text
    for end in ("\n\n", "\n", " "):
        if (at := text.rfind(end, most // 2, most)) >= 0:
            return text[:at]
    return text[:most]
