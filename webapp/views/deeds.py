"""What administrators do by a form with a reason."""

from __future__ import annotations

from collections.abc import Callable

from flask import flash, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from webapp.domain.errors import InsufficientJobs, InvalidInput, InvalidMove, OverBudget
from webapp.models import User
from webapp.views.htmx import go_to


def actor() -> User:
    """Whoever is signed in."""
    user: User = current_user._get_current_object()
    return user


def do(deed: Callable[[User, str], str], page: str) -> ResponseReturnValue:
    """Do it for the reason in the form, and say on the page how that went."""
    try:
        flash(deed(actor(), request.form.get("reason", "")), "success")
    except InvalidInput as error:
        flash(" ".join(error.errors.values()), "error")
    except (InvalidMove, InsufficientJobs, OverBudget) as error:
        flash(error.message, "error")
    return go_to(page)
