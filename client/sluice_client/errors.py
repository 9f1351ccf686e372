"""The one error of this package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MOST_SHOWN_LINES = 20
FIELDS = {"title": str, "code": str, "errors": dict, "lines": list}


class SluiceError(Exception):
    """What Sluice refused (the fields of its problem+json), or `status` None: no answer came (code `no_answer`),
    or it was never asked, as something here is wrong.

    `errors` says by field what is wrong with it, `lines` by line (`line`, `detail`, `errors`); `more` holds what else
    the answer said: `scope`, `left`, `ceiling`. `retry_after` is in seconds.
    """

    def __init__(
        self, detail: str, *, status: int | None = None, title: str = "", code: str | None = None,
        errors: Mapping[str, str] | None = None, lines: list[dict[str, Any]] | None = None,
        more: Mapping[str, Any] | None = None, retry_after: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.detail, self.status, self.title, self.code = detail, status, title, code
        self.errors, self.lines, self.more = dict(errors or {}), list(lines or []), dict(more or {})
        self.retry_after = retry_after

    @property
    def is_passing(self) -> bool:
        """No answer, or the server is in trouble or busy: later it may work."""
        return self.code in ("no_answer", "in_progress") or (self.status or 0) >= 500 or self.status == 429

    @property
    def is_refusal(self) -> bool:
        """The server understood it and says no."""
        return 400 <= (self.status or 0) < 500 and not self.is_passing

    def __str__(self) -> str:
        """All that was said, one fault in each line."""
        faults = [f"  {name}: {said}" for name, said in self.errors.items()]
        for one in self.lines[:MOST_SHOWN_LINES]:
            said = "; ".join(f"{name}: {fault}" for name, fault in one.get("errors", {}).items())
            faults.append(f"  line {one.get('line')}: {said or one.get('detail')}")
        return "\n".join((self.detail, *faults))


def error_of(status: int, reason: str, body: bytes, retry_after: float | None) -> SluiceError:
    """The error in an answer; one that is not problem+json (a proxy's) is told by its status."""
    try:
        said = json.loads(body)
        detail = said.pop("detail")
        known = {key: _of_kind(said.pop(key, None), kind) for key, kind in FIELDS.items()}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return SluiceError(f"The server answered {status} {reason}.", status=status, retry_after=retry_after)
    said.pop("status", None)
    return SluiceError(str(detail), status=status, **known, more=said, retry_after=retry_after)


def _of_kind(value: Any, kind: type) -> Any:
    """Somebody else's server may mean something else by that name."""
    return value if isinstance(value, kind) else kind()
