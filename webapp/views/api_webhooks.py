"""`/api/v1/webhooks`: addresses that hear of ends, and what became of their messages."""

from __future__ import annotations

from flask import g, url_for
from flask.typing import ResponseReturnValue

from webapp.domain.webhooks import TEST_EVENT, EventType
from webapp.extensions import db
from webapp.models import Webhook, WebhookDelivery
from webapp.parts import parts
from webapp.services import webhooks
from webapp.views import api_models as models
from webapp.views.api import bp, read_body, read_query, show

NO_COPY = {"Cache-Control": "no-store"}  # of an answer with a secret


@bp.get("/webhooks")
def list_webhooks() -> ResponseReturnValue:
    found = webhooks.list_webhooks(db.session(), g.user)
    return show(models.WebhookList(webhooks=[_shown(one.webhook) for one in found]))


@bp.post("/webhooks")
def create_webhook() -> ResponseReturnValue:
    wanted = read_body(models.NewWebhook)
    made, secret = webhooks.create_webhook(db.session(), parts().settings, g.user, wanted.url, wanted.events)
    address = url_for("api.get_webhook", webhook_id=made.id)
    return show(models.WebhookWithSecret(**dict(_shown(made)), secret=secret), 201, {"Location": address, **NO_COPY})


@bp.get("/webhooks/<int:webhook_id>")
def get_webhook(webhook_id: int) -> ResponseReturnValue:
    return show(_shown(_own(webhook_id)))


@bp.patch("/webhooks/<int:webhook_id>")
def change_webhook(webhook_id: int) -> ResponseReturnValue:
    webhook, wanted = _own(webhook_id), read_body(models.WebhookChange)
    webhooks.change_webhook(
        db.session(), parts().settings, webhook, url=wanted.url, events=wanted.events, is_enabled=wanted.is_enabled
    )
    return show(_shown(webhook))


@bp.delete("/webhooks/<int:webhook_id>")
def delete_webhook(webhook_id: int) -> ResponseReturnValue:
    webhooks.delete_webhook(db.session(), _own(webhook_id))
    return "", 204


@bp.post("/webhooks/<int:webhook_id>/secret")
def rotate_secret(webhook_id: int) -> ResponseReturnValue:
    webhook = _own(webhook_id)
    secret = webhooks.rotate_secret(db.session(), parts().settings, webhook)
    return show(models.WebhookWithSecret(**dict(_shown(webhook)), secret=secret), headers=NO_COPY)


@bp.post("/webhooks/<int:webhook_id>/test")
def send_test(webhook_id: int) -> ResponseReturnValue:
    return show(_message(webhooks.send_test(db.session(), _own(webhook_id))), 202)


@bp.get("/webhooks/<int:webhook_id>/deliveries")
def list_deliveries(webhook_id: int) -> ResponseReturnValue:
    webhook, query = _own(webhook_id), read_query(models.Page)
    found, after = webhooks.list_deliveries(db.session(), webhook, before=query.after, size=query.limit)
    return show(models.DeliveryList(deliveries=[_message(one) for one in found], next=after))


@bp.post("/webhooks/<int:webhook_id>/deliveries/<int:delivery_id>/redeliver")
def redeliver(webhook_id: int, delivery_id: int) -> ResponseReturnValue:
    return show(_message(webhooks.redeliver(db.session(), _own(webhook_id), delivery_id)), 202)


def _own(webhook_id: int) -> Webhook:
    """Raises NotFound."""
    return webhooks.get_webhook(db.session(), webhook_id, g.user)


def _shown(one: Webhook) -> models.Webhook:
    return models.Webhook(
        id=one.id, url=one.url, events=[EventType(name) for name in one.event_types],
        is_enabled=one.disabled_at is None, disabled_because=one.disabled_because, created_at=one.created_at,
    )  # fmt: skip


def _message(one: WebhookDelivery) -> models.Delivery:
    return models.Delivery(
        id=one.id, event=one.event_type, target=None if one.event_type == TEST_EVENT else one.target_id,
        attempts=one.attempts, created_at=one.created_at, delivered_at=one.delivered_at, next_try_at=one.due_at,
        last_status=one.last_status, last_error=one.last_error,
    )  # fmt: skip
