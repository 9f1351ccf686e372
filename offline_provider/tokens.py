"""How this provider counts tokens. One fixed rule, so that anyone can check a bill by hand.

text            ceil(UTF-8 bytes / 4)
image           85
message         4 + its parts
request         3 + its messages + the JSON schema of the answer, if any, as text
reasoning       a fixed number per effort, at most half of the token limit
"""

import json

BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 85
MESSAGE_OVERHEAD = 4
REQUEST_OVERHEAD = 3
REASONING_TOKENS = {
    "none": 0,
    "minimal": 0,
    "low": 16,
    "medium": 32,
    "high": 64,
    "xhigh": 96,
    "max": 128,
}
# A request with `prompt_cache_key` pays this much of its input at the cached price,
# if the input is at least so long.
CACHED_PREFIX_TOKENS = 1024


def count_text(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode("utf-8"))
    return -(-size // BYTES_PER_TOKEN)


def count_schema(schema: dict | None) -> int:
    if schema is None:
        return 0
    return count_text(json.dumps(schema, ensure_ascii=False, separators=(",", ":")))


def cut_text(text: str, limit: int) -> str:
    """The longest start of the text that is at most `limit` tokens."""
    return text.encode("utf-8")[: limit * BYTES_PER_TOKEN].decode("utf-8", errors="ignore")


def reasoning_tokens(effort: str | None, limit: int | None) -> int:
    wanted = REASONING_TOKENS.get(effort or "none", 0)
    return wanted if limit is None else min(wanted, limit // 2)
