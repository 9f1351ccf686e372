"""The provider's time. Every other module asks here, so a day can pass in a second: PUT /admin/clock.

The offset is one for the whole process, like time itself. It is kept in the database and read at the start.
"""

import time

# Longer, and the creation time in a batch id no longer fits into its eight hex digits.
MAX_OFFSET_SECONDS = 50 * 365 * 86_400.0

_offset = 0.0


def now() -> float:
    """Seconds since 1970, UTC, as far ahead of the real time as the offset says."""
    return time.time() + _offset


def offset() -> float:
    return _offset


def set_offset(seconds: float) -> None:
    global _offset
    _offset = seconds


def is_offset(value) -> bool:
    """Whether `value` may become the offset: a number that is neither negative nor endless."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= MAX_OFFSET_SECONDS  # which NaN never is


def stopwatch() -> float:
    """Real seconds on a clock that never goes back; only differences mean anything."""
    return time.perf_counter()


def pause(seconds: float) -> None:
    """Hold this thread, as a slow model would hold the caller. Real seconds, whatever the clock says."""
    if seconds > 0:
        time.sleep(seconds)
