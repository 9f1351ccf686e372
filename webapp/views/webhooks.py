"""The pages of webhooks: addresses that hear of ends, and what became of each message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, flash, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from webapp.domain.errors import InvalidInput
from webapp.domain.webhooks import SENTENCES
from webapp.extensions import db
from webapp.models import Webhook
from webapp.parts import parts
from webapp.services import webhooks
from webapp.services.clock import clock
from webapp.views.access import require_sign_in
from webapp.views.htmx import go_to

NO_COPY = {"Cache-Control": "no-store"}  # of a page with a secret
bp = Blueprint("webhooks", __name__, url_prefix="/webhooks")
bp.before_request(require_sign_in)


@bp.get("")
def index() -> ResponseReturnValue:
    return _list()


@bp.post("")
def create() -> ResponseReturnValue:
    """Shows the secret in this answer and never again, so it is not a redirect."""
    form = request.form
    try:
        made, secret = webhooks.create_webhook(
            db.session(), parts().settings, current_user, form.get("url", ""), form.getlist("events")
        )
    except InvalidInput as error:
        return _list(given=form, errors=error.errors), 422
    return _detail(made, secret=secret), 201, NO_COPY


@bp.get("/<int:webhook_id>")
def detail(webhook_id: int) -> ResponseReturnValue:
    return _detail(_own(webhook_id), before=request.args.get("before", type=int))


@bp.post("/<int:webhook_id>/change")
def change(webhook_id: int) -> ResponseReturnValue:
    webhook, form = _own(webhook_id), request.form
    try:
        webhooks.change_webhook(
            db.session(), parts().settings, webhook, url=form.get("url", ""), events=form.getlist("events")
        )
    except InvalidInput as error:
        return _detail(webhook, given=form, errors=error.errors), 422
    return _done(webhook, "The webhook was changed.")


@bp.post("/<int:webhook_id>/<any(enable,disable):deed>")
def switch(webhook_id: int, deed: str) -> ResponseReturnValue:
    webhook = _own(webhook_id)
    webhooks.change_webhook(db.session(), parts().settings, webhook, is_enabled=deed == "enable")
    return _done(webhook, f"The webhook was {deed}d.")


@bp.post("/<int:webhook_id>/secret")
def rotate_secret(webhook_id: int) -> ResponseReturnValue:
    """Shows the new secret in this answer and never again, so it is not a redirect."""
    webhook = _own(webhook_id)
    secret = webhooks.rotate_secret(db.session(), parts().settings, webhook)
    return _detail(webhook, secret=secret), 200, NO_COPY


@bp.post("/<int:webhook_id>/delete")
def delete(webhook_id: int) -> ResponseReturnValue:
    webhooks.delete_webhook(db.session(), _own(webhook_id))
    flash("The webhook was deleted.", "success")
    return go_to(url_for("webhooks.index"))


@bp.post("/<int:webhook_id>/test")
def send_test(webhook_id: int) -> ResponseReturnValue:
    webhook = _own(webhook_id)
    webhooks.send_test(db.session(), webhook)
    return _done(webhook, "A test is on its way. Look again in a moment.")


@bp.post("/<int:webhook_id>/deliveries/<int:delivery_id>/redeliver")
def redeliver(webhook_id: int, delivery_id: int) -> ResponseReturnValue:
    webhook = _own(webhook_id)
    webhooks.redeliver(db.session(), webhook, delivery_id)
    return _done(webhook, "The message is on its way again.")


def _own(webhook_id: int) -> Webhook:
    """Raises NotFound."""
    return webhooks.get_webhook(db.session(), webhook_id, current_user)


def _done(webhook: Webhook, message: str) -> ResponseReturnValue:
    flash(message, "success")
    return go_to(url_for("webhooks.detail", webhook_id=webhook.id))


def _list(*, given: Any = None, errors: Mapping[str, str] | None = None) -> str:
    return render_template(
        "webhooks/index.html", found=webhooks.list_webhooks(db.session(), current_user), sentences=SENTENCES,
        url=given.get("url", "") if given else "", chosen=given.getlist("events") if given else list(SENTENCES),
        errors=errors or {}, most=webhooks.MOST_WEBHOOKS, most_counted=webhooks.MOST_COUNTED,
    )  # fmt: skip


def _detail(
    webhook: Webhook, *, secret: str | None = None, before: int | None = None, given: Any = None,
    errors: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    deliveries, older = webhooks.list_deliveries(db.session(), webhook, before=before)
    return render_template(
        "webhooks/detail.html", webhook=webhook, secret=secret, deliveries=deliveries, older=older, before=before,
        sentences=SENTENCES, url=given.get("url", "") if given else webhook.url,
        chosen=given.getlist("events") if given else webhook.event_types, errors=errors or {},
        now=clock(db.session()),
    )  # fmt: skip
