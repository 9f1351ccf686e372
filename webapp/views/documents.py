"""The documents that somebody uploaded: what they are used for, and their deletion."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from webapp.domain.errors import InvalidMove
from webapp.extensions import db
from webapp.services import document_lists, documents
from webapp.views.access import require_sign_in
from webapp.views.htmx import go_to
from webapp.views.job_filters import read_id

bp = Blueprint("documents", __name__, url_prefix="/documents")
bp.before_request(require_sign_in)


@bp.get("")
def index() -> ResponseReturnValue:
    before, after = (request.args.get(name, type=read_id) for name in ("before", "after"))
    found = document_lists.list_page(db.session(), current_user.id, before=before, after=after)
    return render_template("documents/index.html", found=found, most=document_lists.MOST_COUNTED, before=before)


@bp.post("/<int:document_id>/delete")
def delete(document_id: int) -> ResponseReturnValue:
    try:
        documents.delete_document(db.session(), current_user.id, document_id)
    except InvalidMove as error:
        db.session.rollback()
        flash(error.message, "error")
    else:
        flash("The document was deleted. Jobs that were made from it keep their results.", "success")
    return go_to(url_for("documents.index", before=request.form.get("before", type=read_id)))
