"""Webhooks of a user: make, change, try, look at what became of their messages, and send one again."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import InvalidInput, InvalidMove, NotFound
from webapp.domain.webhooks import SENTENCES, TEST_EVENT, refused_literal, secret_of, split_url
from webapp.models import Person, User, Webhook, WebhookDelivery
from webapp.services.clock import clock

MOST_WEBHOOKS = 10  # of one user
OLD_SECRET_COUNTS = timedelta(days=1)  # after it was changed, beside the new one
PAGE_SIZE = 50
DELETED_AT_ONCE = 5000
MOST_COUNTED = 1000


def create_webhook(
    session: Session, settings: Settings, user: Person, url: str, events: Iterable[str] | None = None
) -> tuple[Webhook, str]:
    """A new address that hears of these events (default: all). Commits. Returns it with its secret.

    Raises InvalidInput with `url` or `events`.
    """
    errors: dict[str, str] = {}
    url, chosen = _checked_url(settings, url, errors), _checked_events(events, errors)
    # Of two at once the second counts the first one's.
    session.execute(select(User.id).where(User.id == user.id).with_for_update(key_share=True))
    count = session.scalar(select(func.count()).select_from(Webhook).where(Webhook.user_id == user.id)) or 0
    if count >= MOST_WEBHOOKS:
        errors["url"] = f"You have {count} webhooks, and more than {MOST_WEBHOOKS} are not possible: delete one first."
    if errors:
        session.rollback()
        raise InvalidInput(errors)
    webhook = Webhook(
        user_id=user.id, url=url, event_types=chosen, salt=secrets.token_urlsafe(24), created_at=clock(session)
    )
    session.add(webhook)
    session.commit()
    return webhook, _secret(settings, webhook)


def change_webhook(
    session: Session, settings: Settings, webhook: Webhook, *,
    url: str | None = None, events: Iterable[str] | None = None, is_enabled: bool | None = None,
) -> None:  # fmt: skip
    """Change what is not None. Commits. Raises InvalidInput with `url` or `events`.

    What waits for an address while it is disabled is sent when it is enabled again.
    """
    errors: dict[str, str] = {}
    if url is not None:
        url = _checked_url(settings, url, errors)
    chosen = None if events is None else _checked_events(events, errors)
    if errors:
        raise InvalidInput(errors)
    webhook.url, webhook.event_types = url or webhook.url, chosen or webhook.event_types
    if is_enabled is not None and is_enabled != (webhook.disabled_at is None):
        webhook.disabled_at = None if is_enabled else clock(session)
        webhook.disabled_because = None if is_enabled else "You disabled it."
    session.commit()


def rotate_secret(session: Session, settings: Settings, webhook: Webhook) -> str:
    """Give it a new secret; the old one signs beside it for OLD_SECRET_COUNTS. Commits. Returns the new one."""
    webhook.old_salt, webhook.old_salt_until = webhook.salt, clock(session) + OLD_SECRET_COUNTS
    webhook.salt = secrets.token_urlsafe(24)
    session.commit()
    return _secret(settings, webhook)


def delete_webhook(session: Session, webhook: Webhook) -> None:
    """Delete it with all its messages. Commits."""
    session.execute(delete(Webhook).where(Webhook.id == webhook.id).execution_options(synchronize_session=False))
    session.commit()


def send_test(session: Session, webhook: Webhook) -> WebhookDelivery:
    """Write a message that says only that it is a test. Commits. Raises InvalidMove when the address is disabled."""
    if webhook.disabled_at is not None:
        raise InvalidMove("This webhook is disabled: enable it first.")
    now = clock(session)
    delivery = WebhookDelivery(
        webhook_id=webhook.id, event_type=TEST_EVENT, created_at=now, due_at=now,
        target_id=secrets.randbits(62),  # it is about nothing, and another test is another message
    )  # fmt: skip
    session.add(delivery)
    session.commit()
    return delivery


@dataclass(frozen=True)
class Standing:
    """A webhook, how many messages wait for it (at most MOST_COUNTED), and when it took one of the newest last."""

    webhook: Webhook
    waiting: int
    last_taken_at: datetime | None


def list_webhooks(session: Session, user: Person) -> list[Standing]:
    """The user's webhooks, newest first."""
    row = WebhookDelivery
    own = select(row.due_at, row.delivered_at).where(row.webhook_id == Webhook.id).limit(MOST_COUNTED)
    waiting = own.where(row.due_at.is_not(None)).correlate(Webhook).lateral()
    newest = own.order_by(row.id.desc()).correlate(Webhook).lateral()
    rows = session.execute(
        select(
            Webhook,
            select(func.count()).select_from(waiting).scalar_subquery(),
            select(func.max(newest.c.delivered_at)).scalar_subquery(),
        ).where(Webhook.user_id == user.id).order_by(Webhook.id.desc())
    )  # fmt: skip
    return [Standing(*found) for found in rows]


def disable_all(session: Session, user_id: int, *, now: datetime) -> int:
    """Disable the webhooks of a user who is disabled. Does not commit. Returns how many it was."""
    return len(session.scalars(
        update(Webhook).where(Webhook.user_id == user_id, Webhook.disabled_at.is_(None))
        .values(disabled_at=now, disabled_because="Its user was disabled.").returning(Webhook.id)
        .execution_options(synchronize_session=False)
    ).all())  # fmt: skip


def get_webhook(session: Session, webhook_id: int, user: Person) -> Webhook:
    """Raises NotFound: a webhook is its user's alone, as its address and its secret are."""
    found = session.scalars(
        select(Webhook).where(Webhook.id == webhook_id, Webhook.user_id == user.id)
    ).one_or_none()  # fmt: skip
    if found is None:
        raise NotFound
    return found


def list_deliveries(
    session: Session, webhook: Webhook, *, before: int | None = None, size: int = PAGE_SIZE
) -> tuple[list[WebhookDelivery], int | None]:
    """Its messages, newest first, and the id to pass as `before` for the next page."""
    statement = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook.id)
    if before is not None:
        statement = statement.where(WebhookDelivery.id < before)
    found = list(session.scalars(statement.order_by(WebhookDelivery.id.desc()).limit(size + 1)))
    return found[:size], found[size - 1].id if len(found) > size else None


def redeliver(session: Session, webhook: Webhook, delivery_id: int) -> WebhookDelivery:
    """Send a message again, under the same `webhook-id`, with all its tries. Commits.

    Raises NotFound, and InvalidMove when the address is disabled.
    """
    if webhook.disabled_at is not None:
        raise InvalidMove("This webhook is disabled: enable it first.")
    row = WebhookDelivery
    found = session.scalars(
        update(row)
        .where(row.id == delivery_id, row.webhook_id == webhook.id)
        .values(due_at=clock(session), delivered_at=None, attempts=0)
        .returning(row)
        .execution_options(synchronize_session=False, populate_existing=True)
    ).one_or_none()
    if found is None:
        raise NotFound
    session.commit()
    return found


def delete_old(session: Session, settings: Settings) -> int:
    """Forget messages of KEEP_DELIVERIES_DAYS ago, those that were never taken, too. Commits. Returns how many."""
    if not settings.keep_deliveries_days:
        return 0
    last = clock(session) - timedelta(days=settings.keep_deliveries_days)
    row = WebhookDelivery
    old = (
        select(row.id).where(row.created_at <= last).order_by(row.created_at).limit(DELETED_AT_ONCE)
        .with_for_update(skip_locked=True).cte()
    )  # fmt: skip
    deleted = session.scalars(
        delete(row).where(row.id == old.c.id).returning(row.id).execution_options(synchronize_session=False)
    ).all()
    session.commit()
    return len(deleted)


def _secret(settings: Settings, webhook: Webhook) -> str:
    return secret_of(settings.secret_key.get_secret_value(), webhook.salt)


def _checked_url(settings: Settings, url: str, errors: dict[str, str]) -> str:
    """What can be told without asking for the name: sending looks again."""
    try:
        host = split_url(url.strip()).hostname or ""
    except ValueError as error:
        errors["url"] = str(error)
    else:
        if not settings.webhook_private_targets and refused_literal(host):
            errors["url"] = "This address is not on the internet, and this system sends nothing to private ones."
    return url.strip()


def _checked_events(events: Iterable[str] | None, errors: dict[str, str]) -> list[str]:
    wanted = set(SENTENCES) if events is None else set(events)
    if unknown := sorted(wanted - set(SENTENCES)):
        errors["events"] = f"There is no event {', '.join(unknown)}."
    elif not wanted:
        errors["events"] = "Choose what it should hear of."
    return [event for event in SENTENCES if event in wanted]
