"""What holds for every page and every form: walked over, so that a new one is walked, too."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import PASSWORD
from tests.web.test_access import TABLE, job_of_owner, path_of  # noqa: F401  (a fixture)
from webapp.views.access import safe_next

PAGES = [rule for method, rule in TABLE if method == "GET" and not rule.startswith("/api/")]
FORMS = [(method, rule) for method, rule in TABLE if method != "GET" and not rule.startswith("/api/")]
SHOWN = {"text/html", "application/json", "application/problem+json"}


@pytest.fixture
def app(make_app: Any, job_of_owner: int) -> Flask:  # noqa: F811
    app: Flask = make_app()
    app.add_url_rule("/crash", "crash", lambda: 1 / 0)
    return app


@pytest.fixture
def admin(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.post("/login", data={"email": "admin@example.org", "password": PASSWORD})
    return client


def test_every_form_is_refused_without_its_token(app: Flask, admin: FlaskClient) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    for client in (admin, app.test_client()):
        for method, rule in FORMS:
            assert client.open(path_of(rule), method=method).status_code == 419, f"{method} {rule}"


def test_every_form_that_is_shown_has_its_token(app: Flask, admin: FlaskClient) -> None:
    app.config["WTF_CSRF_ENABLED"] = True
    seen = 0
    for client in (admin, app.test_client()):
        for rule in PAGES:
            for form in re.findall(r"<form[^>]*>.*?</form>", client.get(path_of(rule), buffered=True).text, re.S):
                if re.search(r'<form[^>]*method="post"', form):
                    assert 'name="csrf_token"' in form, f"{rule}: {form[:200]}"
                    seen += 1
    assert seen > 20


@pytest.mark.parametrize("is_signed_in", [False, True])
def test_every_answer_has_the_strict_headers(app: Flask, admin: FlaskClient, is_signed_in: bool) -> None:
    client = admin if is_signed_in else app.test_client()
    for path in [*map(path_of, PAGES), "/api/v1/jobs", "/static/app.css", "/nothing/here", "/crash"]:
        headers = client.get(path, buffered=True).headers
        policy = headers["Content-Security-Policy"]
        for directive in ("default-src 'none'", "script-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
            assert directive in policy, path
        assert "unsafe" not in policy, path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "same-origin", path
        assert "Access-Control-Allow-Origin" not in headers, path


def test_what_is_not_a_page_is_saved_and_never_shown(admin: FlaskClient) -> None:
    for rule in PAGES:
        answer = admin.get(path_of(rule), buffered=True)
        if answer.status_code == 200 and answer.mimetype not in SHOWN:
            assert answer.headers["Content-Disposition"].startswith("attachment"), rule


def test_n8n_s_door_shows_nothing_either(internal: FlaskClient, job_of_owner: int) -> None:  # noqa: F811
    for path in ("/api/internal/queues", "/api/internal/jobs/1/document", "/healthz"):
        headers = internal.get(path, buffered=True).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff", path


def test_on_https_browsers_are_told_to_stay_there(make_app: Any) -> None:
    answer = make_app(public_url="https://sluice.example").test_client().get("/healthz")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
        "/\t/evil.example", "/\n/evil.example", "\t//evil.example", "javascript:alert(1)", "data:text/html,x",
        "evil.example", " /jobs", "/\t\\evil.example", "https:evil.example", "", None,
    ],
)  # fmt: skip
def test_no_next_leads_away(target: str | None) -> None:
    assert safe_next(target, "/jobs") == "/jobs"


def test_a_next_of_this_site_is_kept() -> None:
    assert safe_next("/jobs?status=failed&q=a%2Fb", "/") == "/jobs?status=failed&q=a%2Fb"
