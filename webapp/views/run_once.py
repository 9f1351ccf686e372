"""The same form sent twice (a double click, back and Run again, a lost answer) makes its jobs once, JavaScript or not.

Each form that is drawn has an id of its own. Sent again with the same content it makes nothing; changed, it is another
form.
"""

from __future__ import annotations

import hashlib
import json
import secrets

from flask import flash, request
from flask_login import current_user

from webapp.extensions import db
from webapp.services import idempotency

FORM_ID = "form-id"  # no field of a profile has such a key
UNCOUNTED = "csrf_token"
ALREADY = "This form was sent before: here is what it made. To run it once more, open a new form."


def form_id() -> str:
    """A new id, for a form that is drawn."""
    return secrets.token_urlsafe(16)


def run_once(make: idempotency.Make) -> tuple[str, bool]:
    """Make what the sent form asks for, if it did not before: (`job:<id>`, did it). Then the person is told, too.

    A form without an id (a script's) is new each time. Raises what `make` raises.
    """
    if not request.form.get(FORM_ID):
        return make(lambda _: None), False
    digest = _digest()
    # No program's key begins so; and with another content it is another form, not the same key used wrongly.
    asked = idempotency.Request(current_user.id, f"\tform {digest}", digest)
    target, is_replay = idempotency.once(db.session(), asked, make)
    if is_replay:
        flash(ALREADY, "info")
    return target, is_replay


def _digest() -> str:
    """Of all that was filled in and sent, its files, too."""
    said = [(name, value) for name, value in request.form.items(multi=True) if name != UNCOUNTED]
    files = []
    for name, file in request.files.items(multi=True):
        files.append((name, file.filename, hashlib.file_digest(file.stream, "sha256").hexdigest()))  # type: ignore[arg-type]
        file.stream.seek(0)
    return hashlib.sha256(json.dumps([sorted(said), files]).encode()).hexdigest()
