"""Counts per minute and model, for the x-ratelimit headers. Nothing is refused for them yet."""

from collections import deque
from threading import Lock

from . import clock
from .errors import ApiError

REQUESTS_PER_MINUTE = 10_000
TOKENS_PER_MINUTE = 30_000_000
_MINUTE = 60


class ModelLimits:
    """What each model was asked for in the current minute."""

    def __init__(self):
        self._lock = Lock()
        self._minute = 0
        self._used: dict[str, tuple[int, int]] = {}  # model → (requests, tokens)

    def headers(self, model: str, tokens: int) -> dict[str, str]:
        """Count one request of so many tokens; say what is left."""
        now = clock.now()
        with self._lock:
            if int(now // _MINUTE) != self._minute:
                self._minute, self._used = int(now // _MINUTE), {}
            requests, all_tokens = self._used.get(model, (0, 0))
            used = (requests + 1, all_tokens + tokens)
            self._used[model] = used
        reset = _duration(_MINUTE - now % _MINUTE)
        return {
            "x-ratelimit-limit-requests": str(REQUESTS_PER_MINUTE),
            "x-ratelimit-limit-tokens": str(TOKENS_PER_MINUTE),
            "x-ratelimit-remaining-requests": str(max(0, REQUESTS_PER_MINUTE - used[0])),
            "x-ratelimit-remaining-tokens": str(max(0, TOKENS_PER_MINUTE - used[1])),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-reset-tokens": reset,
        }


class SlidingLimit:
    """At most so many in any stretch of so many seconds; the next one is refused with 429."""

    def __init__(self, seconds: float, what: str):
        self._seconds = seconds
        self._what = what
        self._lock = Lock()
        self._times: deque[float] = deque()

    def count(self, most: int) -> None:
        now = clock.now()
        with self._lock:
            while self._times and self._times[-1] > now:  # the clock was set back
                self._times.pop()
            while self._times and self._times[0] <= now - self._seconds:
                self._times.popleft()
            if len(self._times) >= most:
                raise ApiError(
                    f"Rate limit reached for {self._what}. Limit: {most:,}. Please try again later.",
                    status=429,
                    code="rate_limit_exceeded",
                    type="requests",
                )
            self._times.append(now)


def _duration(seconds: float) -> str:
    """As the API writes it: 12ms, 59s, 6m0s."""
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))}ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
