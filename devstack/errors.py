"""The one exception of this package."""

from __future__ import annotations


class StackError(Exception):
    """Something that a person must put right; the message says what, in a sentence, and is all that is shown."""
