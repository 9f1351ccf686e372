"""The words of webhooks: signatures, when to try again, and which addresses are nobody's business."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from openai import InvalidWebhookSignatureError, OpenAI

from webapp.domain.webhooks import (
    TEST_EVENT,
    body_of,
    is_public,
    next_try,
    refused_literal,
    secret_of,
    signature,
    split_url,
)

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)


def test_a_signature_is_that_of_the_standard_s_example() -> None:
    """The vector of the Standard Webhooks libraries."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    found = signature([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_somebody_else_s_verifier_takes_it_by_either_secret() -> None:
    """openai's client follows the same standard."""
    old, new = secret_of("a secret key", "old"), secret_of("a secret key", "new")
    at, body = int(datetime.now(UTC).timestamp()), body_of(TEST_EVENT, NOW, {"id": 1})
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": ""}
    headers["webhook-signature"] = signature([new, old], "msg_1", at, body)
    with OpenAI(api_key="none") as client:
        for secret in old, new:
            client.webhooks.verify_signature(body, headers, secret=secret)
        with pytest.raises(InvalidWebhookSignatureError):
            client.webhooks.verify_signature(body + b" ", headers, secret=new)


def test_a_secret_follows_from_the_key_and_the_salt_alone() -> None:
    assert secret_of("key", "salt") == secret_of("key", "salt")
    assert len({secret_of("key", "salt"), secret_of("key", "other"), secret_of("other", "salt")}) == 3


def test_a_body_names_type_time_and_data() -> None:
    assert json.loads(body_of("job.completed", NOW, {"id": 5})) == {
        "type": "job.completed", "timestamp": "2026-11-26T09:00:00Z", "data": {"id": 5},
    }  # fmt: skip


def test_a_message_is_tried_seven_times_in_eighteen_hours() -> None:
    waits, attempts = timedelta(), 1
    while due := next_try(attempts, NOW):
        waits, attempts = waits + (due - NOW), attempts + 1
    assert (attempts, waits) == (7, timedelta(hours=17, minutes=35, seconds=5))


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "168.63.129.16", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0",
    "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1",
    "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2001:0:7f00:1::", "2001:db8::1",
])  # fmt: skip
def test_what_is_not_on_the_internet_is_refused(address: str) -> None:
    assert not is_public(address)
    assert refused_literal(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_is_on_the_internet_is_not_refused(address: str) -> None:
    assert is_public(address)


def test_some_names_tell_by_themselves() -> None:
    refused = [name for name in ("localhost", "LOCALHOST.", "a.localhost", "db.internal", "example.org", "local.org")
               if refused_literal(name)]  # fmt: skip
    assert refused == ["localhost", "LOCALHOST.", "a.localhost", "db.internal"]


@pytest.mark.parametrize("url", [
    "", "example.org/hook", "ftp://example.org", "file:///etc/passwd", "http://", "https://user:pw@example.org/",
    "https://example.org/#part", "https://example.org:99999/", "https://example.org:0/", "http://[::1", "https://[x]/",
    "https://exa mple.org/", "https://example.org/\r\nX: y", "https://bücher.example/", "https://example.org\\@evil/",
    "https://example.org/" + "x" * 2000, "gopher://example.org/", "https://" + "a" * 254 + "/",
])  # fmt: skip
def test_an_address_that_is_none_is_refused_in_words(url: str) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z].+\.$"):
        split_url(url)
