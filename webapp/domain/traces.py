"""W3C trace context, derived instead of stored: what has an address has a trace.

Each attempt of a job, in whichever process, is in the one trace of the job; so it is with a window's steps.
"""

from __future__ import annotations

import hashlib
import re

HEADER = "traceparent"
_WELL_FORMED = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def traceparent(public_url: str, kind: str, number: int) -> str:
    """The header of a job or window (`kind`) of the system at this address, so that two systems share no trace."""
    digest = hashlib.sha256(f"{public_url}/{kind}/{number}".encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


def trace_id(header: str) -> str | None:
    """The 32 hexadecimal digits of a traceparent; None when it is none."""
    found = _WELL_FORMED.fullmatch(header)
    return found[1] if found else None
