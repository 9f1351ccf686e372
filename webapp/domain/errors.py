"""What can go wrong, in words. The docstring is the default message; `views/errors.py` maps each to a status."""

from __future__ import annotations

from typing import Any


class SluiceError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None, **detail: Any) -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.detail = detail
        super().__init__(self.message)


class NotFound(SluiceError):
    """There is nothing here."""


class InvalidInput(SluiceError):
    """Some values are not right."""

    def __init__(self, errors: dict[str, str], message: str | None = None) -> None:
        """`errors` maps a field's key to what is wrong with it."""
        super().__init__(message, errors=errors)
        self.errors = errors


class InvalidRows(InvalidInput):
    """Some runs are not right; none was stored."""

    def __init__(self, rows: dict[int, InvalidInput]) -> None:
        """`rows` maps the place of a run (from 0) to what is wrong with it. `errors` are those of the first."""
        self.rows = rows
        first = rows[min(rows)]
        super().__init__(first.errors, first.message)


class UnknownProfile(SluiceError):
    """There is no such profile."""


class PlannedProfile(SluiceError):
    """This profile is planned: it can be looked at, but not run yet."""


class BadDocument(SluiceError):
    """This file cannot be used."""


class DocumentTooLarge(BadDocument):
    """This file is larger than MAX_UPLOAD_MB allows."""


class InvalidMove(SluiceError):
    """The job or window has moved on, so this cannot be done any more."""


class OverBudget(SluiceError):
    """This may cost more than is left of a budget."""


class InsufficientJobs(SluiceError):
    """Not enough jobs are queued to open a window."""


class StaleLease(SluiceError):
    """This lease has ended or was never given; nothing was changed."""


class ReusedKey(SluiceError):
    """This Idempotency-Key was used for another request: choose a new key for each thing that you want."""


class TakenKey(SluiceError):
    """A request with this Idempotency-Key is under way: ask again in a moment."""


class NoResult(SluiceError):
    """This job has no result."""


class TooManyTries(SluiceError):
    """There were too many tries."""

    def __init__(self, seconds: int) -> None:
        """`seconds`: how long to wait, at least 1."""
        self.seconds = seconds
        wait = f"{seconds} seconds" if seconds < 100 else f"{-(-seconds // 60)} minutes"
        super().__init__(f"There were too many wrong passwords. Try again in {wait}.")


class UnavailableService(SluiceError):
    """Another service did not answer; try again in a moment."""

    is_unreachable = True  # False: it answered, but with a refusal


class DeniedFile(UnavailableService):
    """The provider says that it has no such file."""

    is_unreachable = False


class UndeliveredMessage(SluiceError):
    """The address of a webhook did not take a message."""


class InvalidProfile(SluiceError):
    """A profile file is wrong."""
