"""What somebody picked in the history: first what would be done to it, then the deed. Both without a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flask import flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from werkzeug.datastructures import MultiDict

from webapp.domain.errors import InvalidInput, InvalidMove, NotFound, OverBudget
from webapp.extensions import db
from webapp.models import User
from webapp.services import selections
from webapp.services.job_lists import Wanted
from webapp.views.htmx import go_to
from webapp.views.job_filters import Filter, read_filter, read_id
from webapp.views.jobs import bp

PAGE, MATCH = "page", "match"  # all on the page, all that match; else those that are ticked


@dataclass(frozen=True)
class Deed:
    title: str
    can: str  # "7 jobs can be …"
    done: str  # "7 jobs …"
    foresee: Callable[..., selections.Outlook]
    do: Callable[..., selections.Done]


DEEDS = {
    "cancel": Deed(
        "Cancel jobs", "can be cancelled", "cancelled", selections.foresee_cancel, selections.cancel_selected
    ),
    "retry": Deed(
        "Run jobs again", "can be run again", "run again", selections.foresee_retry, selections.retry_selected
    ),
}


@bp.get("/selection")
def selection() -> ResponseReturnValue:
    """The question."""
    asked = read_filter(request.args, current_user)
    if asked.ignored:  # else more would be meant than was asked for
        return _back(asked, [*asked.ignored, "Nothing was done."], "error")
    return _question(request.args, asked)


@bp.post("/selection")
def act_on_selection() -> ResponseReturnValue:
    deed, asked = _deed(request.form), read_filter(request.form, current_user)
    if asked.ignored:
        return _back(asked, [*asked.ignored, "Nothing was done."], "error")
    user: User = current_user._get_current_object()
    try:
        done = deed.do(db.session(), _picked(request.form, asked), user=user, reason=request.form.get("reason", ""))
    except InvalidInput as error:
        return _question(request.form, asked, error)
    except (InvalidMove, OverBudget) as error:
        return _back(asked, [error.message], "error")
    said = [f"{_jobs(done.count)} {deed.done}."] if done.count else [f"No job was {deed.done}."]
    if left := left_in_words(done.left):
        said.append(f"{left}.")
    if done.said:
        said.append(done.said)
    flash(" ".join(said), "success" if done.count else "warning")
    if done.submission_id:
        return go_to(url_for("submissions.detail", submission_id=done.submission_id))
    return go_to(url_for("jobs.index", **asked.words))  # type: ignore[arg-type]


def left_in_words(left: Any) -> str:
    """“3 left as they are: 2 ended already, 1 under way”; nothing for none."""
    some = {why: count for why, count in left.items() if count}
    total = sum(some.values())
    whys = ", ".join(f"{count:,} {why}" for why, count in some.items())
    return f"{total:,} left as {'it is' if total == 1 else 'they are'}: {whys}" if some else ""


def _question(given: MultiDict[str, str], asked: Filter, error: InvalidInput | None = None) -> ResponseReturnValue:
    deed, wanted = _deed(given), _picked(given, asked)
    outlook = deed.foresee(db.session(), wanted, user=current_user)
    kept = {name: given[name] for name in ("do", "which", "oldest") if given.get(name)}
    page = render_template(
        "jobs/selection.html", deed=deed, outlook=outlook, words=asked.words, job_ids=given.getlist("job"), kept=kept,
        left=left_in_words(outlook.left), errors=error.errors if error else {}, most=selections.MOST_SELECTED,
    )  # fmt: skip
    return page, 422 if error else 200


def _deed(given: MultiDict[str, str]) -> Deed:
    """Raises NotFound."""
    try:
        return DEEDS[given.get("do", "")]
    except KeyError:
        raise NotFound("There is no such thing to do with jobs.") from None


def _picked(given: MultiDict[str, str], asked: Filter) -> Wanted:
    """Jobs that were ticked are meant whatever has become of them; the others as far as they match the filter."""
    which = given.get("which")
    oldest, newest = (given.get(name, type=read_id) for name in ("oldest", "newest"))
    if which == MATCH:
        return replace(asked.wanted, newest=newest)
    if which == PAGE and oldest is not None:
        return replace(asked.wanted, oldest=oldest, newest=newest)
    ticked = given.getlist("job", type=read_id)[: selections.MOST_SELECTED]
    return Wanted(user_id=None if current_user.is_admin else current_user.id, job_ids=ticked)


def _back(asked: Filter, said: list[str], tone: str) -> ResponseReturnValue:
    flash(" ".join(said), tone)
    return go_to(url_for("jobs.index", **asked.words))  # type: ignore[arg-type]


def _jobs(count: int) -> str:
    return f"{count:,} {'job' if count == 1 else 'jobs'}"
