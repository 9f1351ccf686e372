"""How long to wait before trying again."""

from __future__ import annotations

import random


def back_off_seconds(failures: int, *, first: float, most: float) -> float:
    """`first`, twice that, … at most `most` after so many failures in a row (from 1), with up to a quarter more.

    The jitter keeps what failed together from coming back together.
    """
    return min(first * 2 ** min(failures - 1, 30), most) * random.uniform(1, 1.25)  # noqa: S311
