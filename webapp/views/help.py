"""Pages that explain."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from webapp.views.access import require_sign_in

bp = Blueprint("help", __name__)
bp.before_request(require_sign_in)


@bp.get("/keys")
def keys() -> ResponseReturnValue:
    return render_template("keys.html")
