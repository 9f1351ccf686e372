"""The filter of the history in an address or a form: what it says, and which jobs it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any

from webapp.domain.answers import storable
from webapp.domain.states import ExecutionMode, JobStatus
from webapp.extensions import db
from webapp.models import User
from webapp.parts import parts
from webapp.services import job_search
from webapp.services.job_lists import Wanted

MOST_CHARACTERS = 200
EVERYBODY = "all"
FIELDS = {
    "q": "search", "status": "state", "mode": "mode", "profile": "profile", "submission": "submission",
    "document": "document", "from": "first day", "until": "last day", "whose": "choice of users", "user": "user",
}  # fmt: skip
FOR_ADMINS = ("whose", "user")


@dataclass(frozen=True)
class Filter:
    words: Mapping[str, str]  # as they stand in an address; what was not understood is not among them
    wanted: Wanted
    ignored: list[str]  # what was not understood, for the person who asked for it


def read_filter(given: Mapping[str, str], user: User) -> Filter:
    """What `given` (an address's query or a form) asks for, as far as it can be understood. A user gets her own jobs;
    an admin hers, too, unless the filter says whose."""
    names = [name for name in FIELDS if user.is_admin or name not in FOR_ADMINS]
    spoken = {name: storable(given.get(name, "")).strip()[:MOST_CHARACTERS] for name in names}
    words = {name: word for name, word in spoken.items() if word}
    ignored: list[str] = []

    def read(name: str, understand: Callable[[str], Any]) -> Any:
        if name not in words:
            return None
        try:
            return understand(words[name])
        except (ValueError, OverflowError):
            ignored.append(f"“{words.pop(name)}” is no {FIELDS[name]}: ignored.")
            return None

    user_id: int | None = None if read("whose", _whose) else user.id
    if email := words.get("user"):
        user_id = job_search.find_owner(db.session(), email) or 0
        if not user_id:
            ignored.append(f"Nobody here has the e-mail address “{email}”.")
    wanted = Wanted(
        user_id=user_id, status=read("status", JobStatus), profile_id=words.get("profile"),
        execution_mode=read("mode", ExecutionMode), submission_id=read("submission", read_id),
        document_id=read("document", read_id), created_after=read("from", _midnight),
        created_before=read("until", _next_midnight),
    )  # fmt: skip
    if searched := words.get("q"):
        wanted = replace(wanted, job_ids=job_search.search(db.session(), searched, user_id=user_id))
    return Filter(words, wanted, ignored)


def read_id(word: str) -> int:
    """Raises ValueError for what no row's id can be."""
    if 0 <= (number := int(word)) <= job_search.MOST_ID:
        return number
    raise ValueError


def _whose(word: str) -> bool:
    if word != EVERYBODY:
        raise ValueError
    return True


def _midnight(word: str, days: int = 0) -> datetime:
    """The first moment of a day in TIME_ZONE, as people see the times."""
    return datetime.combine(date.fromisoformat(word) + timedelta(days), time.min, parts().settings.zone)


def _next_midnight(word: str) -> datetime:
    return _midnight(word, 1)
