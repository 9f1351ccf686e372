"""Nonsense in addresses and forms is refused in words, on every page: a 5xx on bad input is a bug."""

from __future__ import annotations

import inspect
import random
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session
from werkzeug.routing import Rule

from tests.factories import make_job, make_submission, make_user
from webapp.extensions import db, login_manager
from webapp.models import User
from webapp.parts import Parts

SEED, TRIES = 6, 8  # requests for each route and method
VALUES = (
    "", " ", "0", "-1", "1", "2", "x", "1e3", "1.5", "99999999999999999999", "9" * 5000, str(2**63 - 1), "true", "null",
    "a\x00b", "\x00", "\ufffd", "\u202e", "💧" * 300, "x" * 10_000, "../../etc/passwd", "'; DROP TABLE jobs; --",
    "<script>alert(1)</script>", "{{ 7 * 7 }}", "%s%n", "=1+1", "2026-13-45", "0001-01-01", "9999-12-31",
    "9999-12-31T23:59", "0001-01-01T00:00", "sync", "batch", "completed", "deadline", "pdf_summary",
    "text_classification", "NaN", "Infinity", "-0", "1_000", "１２",
)  # fmt: skip
LEAVE = {"static", "health.ready"}  # no heartbeat beats here: it says 503


ALWAYS = ("profile", "executionMode", "batchStrategy", "needBy", "text", "labels", "bullets", "document-kept", "")


def names(app: Flask, rule: Rule) -> list[str]:
    """What the module of this view reads of an address or a form, and what forms of a profile have."""
    module = inspect.getmodule(app.view_functions[rule.endpoint])
    read = set(re.findall(r"\"([a-z][\w-]{1,20})\"", inspect.getsource(module))) if module else set()
    return sorted(read | set(ALWAYS))


def routes(app: Flask) -> list[tuple[Rule, str]]:
    return [
        (rule, method)
        for rule in sorted(app.url_map.iter_rules(), key=str)
        for method in sorted((rule.methods or set()) & {"GET", "POST"})
        if rule.endpoint not in LEAVE and not str(rule).startswith("/api/")
    ]


@pytest.fixture
def admin(client: FlaskClient, session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """Somebody who may do everything, on tables where each thing has the id 1."""
    user = make_user(session, role="admin")
    make_job(session, parts, user)
    make_submission(session, parts, user)
    # Some of these requests end sessions: who comes without one is let in all the same.
    monkeypatch.setattr(login_manager, "_request_callback", lambda _request: db.session.get(User, user.id))
    return client


def test_nonsense_is_never_an_error_of_ours(admin: FlaskClient) -> None:
    rng, broken = random.Random(SEED), []
    for rule, method in routes(admin.application):
        known = names(admin.application, rule)
        for _ in range(TRIES):
            path = re.sub(r"<[^>]+>", lambda _: rng.choice(("1", "1", "2", "99999999999999999999")), str(rule))
            given = {name: rng.choice(VALUES) for name in rng.sample(known, rng.randrange(1, len(known)))}
            form: dict[str, Any] = {"data": given} if method == "POST" else {"query_string": given}
            headers = rng.choice(({}, {"HX-Request": "true"}))
            answer = admin.open(path, method=method, headers=headers, **form)
            if answer.status_code >= 500:
                broken.append((method, path, headers, given))
            answer.close()
    assert broken == []
