"""Webhooks out: what they tell, how they are signed, when they are tried again, and which addresses are refused.

Messages follow Standard Webhooks (https://www.standardwebhooks.com); `docs/webhooks.md` is for those who receive them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from webapp.domain.states import TERMINAL_JOBS, JobStatus

SECRET_PREFIX = "whsec_"  # noqa: S105  (makes a leaked secret recognisable to scanners)
MOST_URL_LENGTH = 2000
TEST_EVENT = "webhook.test"  # by hand; nobody listens for it
# After each try without success; then the message is given up.
RETRY_AFTER = (
    timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=5),
    timedelta(hours=10),
)  # fmt: skip
# A public address by its number, but Azure's own host answers there (DNS, agents, health probes).
AZURE_HOST = IPv4Address("168.63.129.16")


class EventType(StrEnum):
    JOB_COMPLETED = "job.completed"
    JOB_FAILED = "job.failed"
    JOB_EXPIRED = "job.expired"
    JOB_CANCELLED = "job.cancelled"
    SUBMISSION_FINISHED = "submission.finished"


SENTENCES = {
    EventType.JOB_COMPLETED: "a job was answered",
    EventType.JOB_FAILED: "a job failed",
    EventType.JOB_EXPIRED: "the provider's window passed too often for a job",
    EventType.JOB_CANCELLED: "a job was cancelled",
    EventType.SUBMISSION_FINISHED: "the last job of a submission ended",
}
JOB_ENDS = {status: EventType(f"job.{status}") for status in JobStatus if status in TERMINAL_JOBS}


def secret_of(secret_key: str, salt: str) -> str:
    """The secret of the webhook with this salt, as its owner gets it: `whsec_` and 32 bytes in base64."""
    key = hmac.digest(secret_key.encode(), f"webhook:{salt}".encode(), "sha256")
    return SECRET_PREFIX + base64.b64encode(key).decode()


def signature(secrets: Sequence[str], message_id: str, at: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret, so that one can take the other's place.

    `at` is the moment of sending, in Unix seconds.
    """
    content = f"{message_id}.{at}.".encode() + body
    keys = (base64.b64decode(secret.removeprefix(SECRET_PREFIX)) for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}" for key in keys)


def body_of(event_type: str, at: datetime, data: dict[str, Any]) -> bytes:
    """The message: the same bytes whenever it is sent. `at` is when it happened."""
    said = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"type": event_type, "timestamp": said, "data": data}, separators=(",", ":")).encode()


def next_try(attempts: int, now: datetime) -> datetime | None:
    """When a message that failed for so many times (from 1) is due again; None when it is given up."""
    return now + RETRY_AFTER[attempts - 1] if attempts <= len(RETRY_AFTER) else None


def split_url(url: str) -> SplitResult:
    """The parts of an address that messages may be sent to. Raises ValueError with a sentence for its owner."""
    if len(url) > MOST_URL_LENGTH:
        raise ValueError(f"Use at most {MOST_URL_LENGTH} characters.")
    if not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        raise ValueError("Use ASCII only, as a browser shows the address when you copy it.")
    try:
        address = urlsplit(url)
        port = address.port
    except ValueError:
        raise ValueError("This is not an address: check its host and port.") from None
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError("Give a whole address that starts with https:// or http://.")
    if "@" in address.netloc or address.fragment:
        raise ValueError("Leave out user names, passwords and what comes after #.")
    if port == 0 or len(address.hostname) > 253:
        raise ValueError("This is not an address: check its host and port.")
    return address


def is_public(address: str) -> bool:
    """Whether this IP address is somewhere on the internet, and not a machine beside us that trusts us.

    An address that stands for another one (IPv4 in IPv6) counts as that one, or as refused. Raises ValueError.
    """
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip.sixtofour is not None or ip.teredo is not None or ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip == AZURE_HOST)


def refused_literal(host: str) -> bool:
    """Whether this host is an address or a name that can be told to be private without asking anybody."""
    host = host.lower().rstrip(".")
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
