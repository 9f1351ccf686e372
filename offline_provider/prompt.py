"""What a request asks, in one form for both endpoints."""

import re
from dataclasses import dataclass
from functools import cached_property

from . import tokens
from .errors import ApiError
from .models import Model

# "Summarise the following text:" at the head of a user's text is a wish, not a part of the text.
_WISH = re.compile(
    r"\b(summari[sz]e|summary|bullets?|extract|classify|translate|describe|explain|analy[sz]e"
    r"|fasse|zusammen\w*)\b",
    re.IGNORECASE,
)
_MAX_WISH_CHARS = 500
_WISH_HEAD_CHARS = 80  # the verb of a wish comes early


@dataclass(frozen=True)
class Message:
    role: str
    texts: tuple[str, ...]  # one per text or file part
    images: int = 0

    @property
    def tokens(self) -> int:
        texts = sum(tokens.count_text(text) for text in self.texts)
        return tokens.MESSAGE_OVERHEAD + texts + self.images * tokens.IMAGE_TOKENS


@dataclass(frozen=True)
class Format:
    """What the answer must be: text, some JSON object, or JSON that fits a schema."""

    echo: dict  # the format as a Response repeats it
    schema: dict | None = None
    json_object: bool = False


@dataclass(frozen=True)
class Prompt:
    model: Model
    messages: tuple[Message, ...]
    format: Format
    service_tier: str  # the one that is used, not the one that was asked for
    max_tokens: int | None = None  # for reasoning and answer together
    effort: str | None = None
    has_cache_key: bool = False

    @cached_property
    def input_tokens(self) -> int:
        messages = sum(message.tokens for message in self.messages)
        return tokens.REQUEST_OVERHEAD + messages + tokens.count_schema(self.format.schema)

    @property
    def cached_tokens(self) -> int:
        is_long = self.input_tokens >= tokens.CACHED_PREFIX_TOKENS
        return tokens.CACHED_PREFIX_TOKENS if self.has_cache_key and is_long else 0

    @cached_property
    def instructions(self) -> str:
        return "\n\n".join(self._system_texts + [wish for wish, _ in self._user_texts])

    @cached_property
    def source(self) -> str:
        """The text that the answer is made from."""
        text = "\n\n".join(rest for _, rest in self._user_texts).strip()
        return text or self.instructions

    @property
    def _system_texts(self) -> list[str]:
        return [text for message in self.messages if message.role in ("system", "developer") for text in message.texts]

    @cached_property
    def _user_texts(self) -> list[tuple[str, str]]:
        texts = [text for message in self.messages if message.role == "user" for text in message.texts]
        if len(texts) == 1:
            return [_split_wish(texts[0])]
        # Several parts, such as a question beside a document: a short part that asks is a wish.
        return [(text, "") if _is_wish(text) else ("", text) for text in texts]

    def check(self) -> None:
        if self.input_tokens > self.model.context_window:
            raise ApiError(
                "Your input exceeds the context window of this model. Please adjust your input and try again.",
                param="input",
                code="context_length_exceeded",
            )
        if self.format.json_object and not self._mentions_json():
            raise ApiError(
                "The messages must contain the word 'json' in some form to use the response format 'json_object'.",
                param="messages",
            )

    def _mentions_json(self) -> bool:
        return any("json" in text.lower() for message in self.messages for text in message.texts)


def _is_wish(text: str) -> bool:
    return len(text) <= _MAX_WISH_CHARS and bool(_WISH.search(text[:_WISH_HEAD_CHARS]))


def _split_wish(text: str) -> tuple[str, str]:
    """(wish at the head, the rest); the wish is "" if there is none or if nothing follows it."""
    text = text.lstrip()
    line, _, below = text.partition("\n")
    head, _, rest = (line, "", below) if line.rstrip().endswith(":") else text.partition("\n\n")
    return (head, rest) if rest.strip() and _is_wish(head) else ("", text)
