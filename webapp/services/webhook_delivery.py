"""Send what the outbox holds. One address is spoken to by one thread at a time, and no transaction waits for it.

A message is claimed for LEASE before it is sent: if the process dies in between, it is due again after that, under the
same `webhook-id`. So a message arrives at least once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event, Lock
from typing import Any

from sqlalchemy import Engine, exists, func, select, update
from sqlalchemy.orm import Session

from webapp.domain.answers import storable
from webapp.domain.errors import UndeliveredMessage
from webapp.domain.webhooks import TEST_EVENT, EventType, body_of, next_try, secret_of, signature
from webapp.gateways.webhook_sender import Reply, WebhookSender
from webapp.models import Job, Submission, User, Webhook, WebhookDelivery
from webapp.services.clock import clock

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)  # longer than a name takes to resolve and an address to answer
MOST_AT_ONCE = 8  # addresses
MOST_IN_A_ROW = 100  # messages to one address; then it is another one's turn
MOST_SHOWN_CHARACTERS = 200  # of a refusal's text
GONE = 410


@dataclass(frozen=True)
class Message:
    """A claimed message, with all that sending it needs."""

    delivery_id: int
    webhook_id: int
    attempts: int
    url: str
    secrets: list[str]
    body: bytes


@dataclass
class Deliverer:
    """The threads that send, of the process that leads. `close` lets each end after the message it sends."""

    engine: Engine
    sender: WebhookSender
    secret_key: str
    _busy: set[int] = field(default_factory=set)  # ids of webhooks
    _lock: Lock = field(default_factory=Lock)
    _closed: Event = field(default_factory=Event)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(MOST_AT_ONCE, "webhook"))

    def start_due(self, session: Session) -> None:
        """Give each address that something is due for to a thread, as far as there are any. Ends the transaction."""
        with self._lock:
            busy = set(self._busy)
        free = MOST_AT_ONCE - len(busy)
        due = due_webhooks(session, busy, free) if free else []
        session.rollback()
        for webhook_id in due:
            with self._lock:
                self._busy.add(webhook_id)
            self._threads.submit(self._drain, webhook_id)

    def close(self) -> None:
        self._closed.set()
        self._threads.shutdown(wait=True)

    def _drain(self, webhook_id: int) -> None:
        try:
            with Session(self.engine) as session:
                drain(session, self.sender, self.secret_key, webhook_id, should_stop=self._closed.is_set)
        except Exception:
            log.exception("webhook %d was not served", webhook_id)
        finally:
            with self._lock:
                self._busy.discard(webhook_id)


def due_webhooks(session: Session, busy: set[int], most: int) -> list[int]:
    """Webhooks that something is due for, and that may be spoken to; those that have waited longest first."""
    due = func.min(WebhookDelivery.due_at)
    waits = select(due).where(WebhookDelivery.webhook_id == Webhook.id, WebhookDelivery.due_at.is_not(None))
    since = waits.correlate(Webhook).scalar_subquery()
    return list(session.scalars(
        select(Webhook.id)
        .join(User, User.id == Webhook.user_id)
        .where(Webhook.disabled_at.is_(None), User.is_enabled, Webhook.id.not_in(busy), since <= clock(session))
        .order_by(since, Webhook.id)
        .limit(most)
    ))  # fmt: skip


def drain(
    session: Session, sender: WebhookSender, secret_key: str, webhook_id: int, *,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:  # fmt: skip
    """Send what is due for one address, until it refuses one, or nothing is due. Commits. Returns how many it took.

    An address that does not answer costs one time-out, however much waits for it.
    """
    taken = 0
    while taken < MOST_IN_A_ROW and not should_stop() and (message := claim(session, secret_key, webhook_id)):
        at = clock(session)
        session.rollback()  # nothing is held while the address takes its time
        reply, why = _send(sender, message, int(at.timestamp()))
        if not record(session, message, reply, why):
            break
        taken += 1
    return taken


def claim(session: Session, secret_key: str, webhook_id: int) -> Message | None:
    """Take the message of this address that has been due longest. Commits. None when none is due."""
    now = clock(session)
    first = (
        select(WebhookDelivery.id)
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.due_at <= now, Webhook.disabled_at.is_(None))
        .order_by(WebhookDelivery.due_at, WebhookDelivery.id)
        .limit(1)
        .with_for_update(of=WebhookDelivery, skip_locked=True)
        .cte()
    )
    row = WebhookDelivery
    found = session.execute(
        update(row)
        .where(row.id == first.c.id)
        .values(due_at=now + LEASE, attempts=row.attempts + 1)
        .returning(row.id, row.event_type, row.target_id, row.created_at, row.attempts)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if found is None:
        session.rollback()
        return None
    webhook = session.get_one(Webhook, webhook_id, populate_existing=True)
    message = Message(
        found.id, webhook_id, found.attempts, webhook.url, secrets_of(webhook, secret_key, now),
        body_of(found.event_type, found.created_at, _told_of(session, found.event_type, found.target_id)),
    )  # fmt: skip
    session.commit()
    return message


def secrets_of(webhook: Webhook, secret_key: str, now: datetime) -> list[str]:
    """The secrets that sign now: the new one, and for a while the one before."""
    salts = [webhook.salt]
    if webhook.old_salt and webhook.old_salt_until and webhook.old_salt_until > now:
        salts.append(webhook.old_salt)
    return [secret_of(secret_key, salt) for salt in salts]


def record(session: Session, message: Message, reply: Reply | None, why: str) -> bool:
    """Note what became of a message; an address that is gone, or has long taken nothing, is disabled. Commits.

    Returns whether it was taken. `why` is a sentence for its owner: why there was no answer, or what it was.
    """
    now = clock(session)
    is_taken = reply is not None and 200 <= reply.status < 300
    is_gone = reply is not None and reply.status == GONE
    due_at = None if is_taken or is_gone else next_try(message.attempts, now)
    # Locked first, as deleting does: otherwise the two could wait for each other.
    webhook = session.get(Webhook, message.webhook_id, with_for_update={"key_share": True}, populate_existing=True)
    session.execute(
        update(WebhookDelivery)
        # If its lease ended and somebody else has it by now, that one's word counts.
        .where(WebhookDelivery.id == message.delivery_id, WebhookDelivery.attempts == message.attempts)
        .values(due_at=due_at, delivered_at=now if is_taken else None, last_status=reply and reply.status,
                last_error=None if is_taken else why)
        .execution_options(synchronize_session=False)
    )  # fmt: skip
    is_given_up = due_at is None and not is_taken
    if webhook and webhook.disabled_at is None and is_given_up and not _has_taken_since(session, message):
        tried = "" if is_gone else f"It took nothing in {message.attempts} tries of one message. "
        webhook.disabled_at, webhook.disabled_because = now, f"{tried}The last time: {why}"
        log.warning("webhook %d was disabled after message %d", webhook.id, message.delivery_id)
    session.commit()
    return is_taken


def _send(sender: WebhookSender, message: Message, at: int) -> tuple[Reply | None, str]:
    message_id = f"msg_{message.delivery_id}"
    headers = {
        "webhook-id": message_id, "webhook-timestamp": str(at),
        "webhook-signature": signature(message.secrets, message_id, at, message.body),
    }  # fmt: skip
    try:
        reply = sender.send(message.url, headers, message.body)
    except UndeliveredMessage as error:
        return None, error.message
    return reply, _refusal(reply, shows_text=not sender.allows_private)


def _refusal(reply: Reply, *, shows_text: bool) -> str:
    """Whoever may call machines inside must not read there what they say: then only the status is shown."""
    text = storable(reply.text[:MOST_SHOWN_CHARACTERS]).strip() if shows_text else ""
    return f"It answered {reply.status}{f': {text}' if text else '.'}"


def _has_taken_since(session: Session, message: Message) -> bool:
    """Whether its address took anything since this message was made: then the message is to blame."""
    row = WebhookDelivery
    made_at = select(row.created_at).where(row.id == message.delivery_id).scalar_subquery()
    return bool(session.scalar(select(exists().where(
        row.webhook_id == message.webhook_id, row.delivered_at.is_not(None), row.delivered_at > made_at
    ))))  # fmt: skip


def _told_of(session: Session, event_type: str, target_id: int) -> dict[str, Any]:
    """The message's `data`: what an ended job or submission is, without its inputs and its result."""
    if event_type == TEST_EVENT:
        return {"text": "This is a test. Nothing happened."}
    if event_type == EventType.SUBMISSION_FINISHED:
        return _submission(session, target_id)
    job = session.get_one(Job, target_id)
    error = None
    if job.failure_message:
        error = {"code": job.failure_code, "message": job.failure_message}
    return {
        "id": job.id, "status": job.status, "profile": job.profile_id, "executionMode": job.execution_mode,
        "submission": job.submission_id, "createdAt": _moment(job.created_at), "finishedAt": _moment(job.finished_at),
        "error": error,
    }  # fmt: skip


def _submission(session: Session, submission_id: int) -> dict[str, Any]:
    one = session.get_one(Submission, submission_id)
    by_status = select(Job.status, func.count()).where(Job.submission_id == submission_id).group_by(Job.status)
    return {
        "id": one.id, "profile": one.profile_id, "name": one.name, "jobCount": one.job_count,
        "counts": {status: count for status, count in session.execute(by_status.order_by(Job.status))},
        "createdAt": _moment(one.created_at), "finishedAt": _moment(one.finished_at),
    }  # fmt: skip


def _moment(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None
