"""The example of docs/webhooks.md, run as it stands there."""

from __future__ import annotations

import re
import time
from typing import Any

from webapp.config import ROOT
from webapp.domain.webhooks import secret_of, signature

PAGE = (ROOT / "docs/webhooks.md").read_text()


def test_the_example_takes_what_we_sign_and_nothing_else() -> None:
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], names)
    secret, now, body = secret_of("a secret key", "salt"), int(time.time()), b'{"type": "job.completed"}'

    def judge(at: int, said: bytes, old: str = "") -> bool:
        secrets = [secret_of("a secret key", old), secret] if old else [secret]
        signed = signature(secrets, "msg_1", at, body)
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signed}
        return bool(names["is_from_sluice"](secret, headers, said))

    assert judge(now, body)
    assert judge(now, body, old="changed meanwhile")
    assert not judge(now, body + b" ")
    assert not judge(now - 400, body)
