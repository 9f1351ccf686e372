"""The provider's time. Every other module asks here, so that a virtual clock has one place to go."""

import time


def now() -> float:
    """Seconds since 1970, UTC."""
    return time.time()


def stopwatch() -> float:
    """Seconds on a clock that never goes back; only differences mean anything."""
    return time.perf_counter()


def pause(seconds: float) -> None:
    """Hold this thread, as a slow model would hold the caller."""
    if seconds > 0:
        time.sleep(seconds)
