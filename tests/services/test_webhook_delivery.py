"""Messages reach a real HTTP server, are tried again, are given up, and are sent by one at a time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from openai import OpenAI
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from tests.factories import make_job, make_submission, make_user
from tests.receiver import Receiver, receiving, wait_until
from webapp.domain.webhooks import RETRY_AFTER
from webapp.gateways.webhook_sender import WebhookSender
from webapp.models import User, Webhook, WebhookDelivery
from webapp.parts import Parts
from webapp.services import heartbeat, jobs, submissions, users, vitals, webhook_delivery, webhooks
from webapp.services.clock import clock, move_clock
from webapp.services.webhook_delivery import LEASE, Deliverer

SENDER = WebhookSender(allows_private=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def alice(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def secret(session: Session, parts: Parts, alice: User, receiver: Receiver) -> str:
    """Of webhook 1, which hears everything."""
    settings = parts.settings.model_copy(update={"webhook_private_targets": True})
    return webhooks.create_webhook(session, settings, alice, receiver.url)[1]


def key(parts: Parts) -> str:
    return parts.settings.secret_key.get_secret_value()


def drain(session: Session, parts: Parts) -> int:
    return webhook_delivery.drain(session, SENDER, key(parts), 1)


def only(session: Session) -> WebhookDelivery:
    return session.scalars(select(WebhookDelivery).execution_options(populate_existing=True)).one()


def webhook(session: Session) -> Webhook:
    return session.get_one(Webhook, 1, populate_existing=True)


def test_an_end_arrives_signed(session: Session, parts: Parts, alice: User, receiver: Receiver, secret: str) -> None:
    job = make_job(session, parts, alice)
    jobs.cancel_job(session, job, actor="user:1")
    assert drain(session, parts) == 1
    [(_, headers, body)] = receiver.got
    told = json.loads(body)
    assert (told["type"], told["data"]["id"], told["data"]["status"]) == ("job.cancelled", job.id, "cancelled")
    with OpenAI(api_key="none") as client:  # which follows the same standard
        client.webhooks.verify_signature(body, headers, secret=secret)
    found = only(session)
    assert (found.attempts, found.due_at, found.last_status, found.last_error) == (1, None, 204, None)
    assert (found.delivered_at is not None, drain(session, parts)) == (True, 0)


def test_a_submission_s_end_counts_its_jobs(
    session: Session, parts: Parts, alice: User, receiver: Receiver, secret: str
) -> None:
    made = make_submission(session, parts, alice, 3)
    submissions.cancel_waiting(session, made.id, user=alice)
    heartbeat.tick(session, parts, heartbeat.Beat())
    assert drain(session, parts) == 4
    data = json.loads(receiver.got[-1][2])["data"]
    assert (data["id"], data["jobCount"], data["counts"]) == (made.id, 3, {"cancelled": 3})


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_refused_message_is_due_again_and_the_rest_waits(
    session: Session, parts: Parts, receiver: Receiver, secret: str, status: int
) -> None:
    webhooks.send_test(session, webhook(session))
    webhooks.send_test(session, webhook(session))
    receiver.status, receiver.body = status, b"no, thanks"
    assert (drain(session, parts), len(receiver.got)) == (0, 1)
    first, second = session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id))
    assert (first.attempts, first.last_status, second.attempts) == (1, status, 0)
    assert f"answered {status}" in (first.last_error or "")
    assert first.due_at
    assert timedelta(seconds=3) < first.due_at - clock(session) <= RETRY_AFTER[0]


def test_the_same_message_comes_again_until_it_is_taken(
    session: Session, parts: Parts, receiver: Receiver, secret: str
) -> None:
    webhooks.send_test(session, webhook(session))
    receiver.status = 503
    drain(session, parts)
    assert drain(session, parts) == 0  # it is not due yet
    receiver.status = 200
    move_clock(session, ahead=RETRY_AFTER[0])
    assert drain(session, parts) == 1
    (_, first, one), (_, second, other) = receiver.got
    assert (first["webhook-id"], one) == (second["webhook-id"], other)
    assert first["webhook-signature"] != second["webhook-signature"]  # the time of sending is in it


def test_what_is_never_taken_is_given_up_and_its_address_disabled(
    session: Session, parts: Parts, receiver: Receiver, secret: str
) -> None:
    webhooks.send_test(session, webhook(session))
    receiver.status, ahead = 500, timedelta()
    for wait in (timedelta(), *RETRY_AFTER):
        assert webhook(session).disabled_at is None
        ahead += wait + timedelta(seconds=1)
        move_clock(session, ahead=ahead)
        drain(session, parts)
    assert (len(receiver.got), only(session).due_at, only(session).delivered_at) == (7, None, None)
    assert "7 tries" in (webhook(session).disabled_because or "")
    assert webhook_delivery.due_webhooks(session, set(), 9) == []


def test_an_address_that_takes_others_stays_enabled(
    session: Session, parts: Parts, receiver: Receiver, secret: str
) -> None:
    webhooks.send_test(session, webhook(session))
    only(session).attempts = len(RETRY_AFTER)
    session.commit()
    webhooks.send_test(session, webhook(session))
    bad = session.scalars(select(WebhookDelivery.id).order_by(WebhookDelivery.id)).first()
    receiver.before_answer = lambda: setattr(receiver, "status", 500 if len(receiver.got) == 2 else 204)
    session.get_one(WebhookDelivery, bad).due_at = clock(session)  # after the other one
    session.commit()
    assert drain(session, parts) == 1
    assert session.get_one(WebhookDelivery, bad, populate_existing=True).due_at is None
    assert webhook(session).disabled_at is None


def test_an_address_that_is_gone_is_disabled_at_once(
    session: Session, parts: Parts, receiver: Receiver, secret: str
) -> None:
    webhooks.send_test(session, webhook(session))
    receiver.status = 410
    drain(session, parts)
    assert (only(session).due_at, webhook(session).disabled_because) == (None, "The last time: It answered 410.")


def test_what_was_claimed_by_a_process_that_died_is_sent_later(
    session: Session, parts: Parts, receiver: Receiver, secret: str
) -> None:
    webhooks.send_test(session, webhook(session))
    assert webhook_delivery.claim(session, key(parts), 1)  # and then it died
    assert drain(session, parts) == 0
    move_clock(session, ahead=LEASE)
    assert (drain(session, parts), receiver.got[0][1]["webhook-id"]) == (1, "msg_1")


def test_who_comes_back_too_late_changes_nothing(
    session: Session, parts: Parts, receiver: Receiver, secret: str
) -> None:
    webhooks.send_test(session, webhook(session))
    slow = webhook_delivery.claim(session, key(parts), 1)
    move_clock(session, ahead=LEASE)
    drain(session, parts)
    assert slow
    webhook_delivery.record(session, slow, None, "There was no answer.")
    assert (only(session).delivered_at is not None, only(session).due_at) == (True, None)


def test_of_two_deliverers_one_sends(
    session: Session, tables: Engine, parts: Parts, receiver: Receiver, secret: str
) -> None:
    for _ in range(20):
        webhooks.send_test(session, webhook(session))
    deliverers = [Deliverer(tables, SENDER, key(parts)) for _ in range(2)]
    for deliverer in deliverers:
        deliverer.start_due(session)
    wait_until(lambda: len(receiver.got) == 20)
    for deliverer in deliverers:
        deliverer.close()
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == len(receiver.got) == 20


def test_the_heartbeat_sends(
    session: Session, tables: Engine, parts: Parts, alice: User, receiver: Receiver, secret: str
) -> None:
    made = make_submission(session, parts, alice)
    submissions.cancel_waiting(session, made.id, user=alice)
    clients = replace(parts, webhooks=SENDER, settings=parts.settings.model_copy(update={"heartbeat_seconds": 0.01}))
    until = time.monotonic() + 20
    heartbeat.run(tables, clients, should_stop=lambda _: len(receiver.got) == 3 or time.monotonic() > until)
    types = sorted(json.loads(body)["type"] for _, _, body in receiver.got)
    assert types == ["job.cancelled", "job.cancelled", "submission.finished"]


def test_nothing_is_locked_while_an_address_thinks(
    session: Session, tables: Engine, parts: Parts, receiver: Receiver, secret: str
) -> None:
    webhooks.send_test(session, webhook(session))
    go_on = threading.Event()
    receiver.before_answer = lambda: go_on.wait(10)
    deliverer = Deliverer(tables, SENDER, key(parts))
    deliverer.start_due(session)
    wait_until(lambda: receiver.got)
    deliverer.start_due(session)  # a beat meanwhile: the address is busy
    row = session.scalars(select(WebhookDelivery).with_for_update(nowait=True)).one()
    assert (row.attempts, row.delivered_at) == (1, None)
    webhooks.delete_webhook(session, webhook(session))
    go_on.set()
    deliverer.close()
    assert len(receiver.got) == 1


def test_a_disabled_user_s_addresses_hear_nothing(
    session: Session, parts: Parts, alice: User, receiver: Receiver, secret: str
) -> None:
    webhooks.send_test(session, webhook(session))
    assert webhook_delivery.due_webhooks(session, set(), 9) == [1]
    assert webhook_delivery.due_webhooks(session, {1}, 9) == []
    admin = make_user(session, "admin@example.org", role="admin")
    users.disable_user(session, alice.id, cancels_jobs=True, by=admin, reason="left")
    assert webhook_delivery.due_webhooks(session, set(), 9) == []
    users.enable_user(session, alice.id, by=admin, reason="came back")
    assert webhook_delivery.due_webhooks(session, set(), 9) == []
    assert webhook(session).disabled_because == "Its user was disabled."


def test_an_old_secret_signs_beside_the_new_one_for_a_day(session: Session, parts: Parts, secret: str) -> None:
    new = webhooks.rotate_secret(session, parts.settings, webhook(session))
    now = clock(session)
    assert webhook_delivery.secrets_of(webhook(session), key(parts), now) == [new, secret]
    assert webhook_delivery.secrets_of(webhook(session), key(parts), now + timedelta(days=1)) == [new]


def test_old_messages_go(session: Session, parts: Parts, secret: str) -> None:
    webhooks.send_test(session, webhook(session))
    keeps = parts.settings.keep_deliveries_days
    move_clock(session, ahead=timedelta(days=keeps, minutes=-1))
    assert webhooks.delete_old(session, parts.settings) == 0
    assert webhooks.delete_old(session, parts.settings.model_copy(update={"keep_deliveries_days": 0})) == 0
    move_clock(session, ahead=timedelta(days=keeps))
    assert webhooks.delete_old(session, parts.settings) == 1


def test_what_waits_is_counted_where_it_may_be_sent(session: Session, parts: Parts, secret: str) -> None:
    webhooks.send_test(session, webhook(session))
    move_clock(session, ahead=timedelta(minutes=2))
    waiting, overdue = vitals.webhook_figures(session)
    assert (waiting, 119 < overdue < 180) == (1, True)
    webhooks.change_webhook(session, parts.settings, webhook(session), is_enabled=False)
    assert vitals.webhook_figures(session) == (0, 0.0)
