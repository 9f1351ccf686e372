"""What people read when something cannot be: plain words, and a way on."""

from __future__ import annotations

from typing import Any

import pytest
from flask import abort
from flask.testing import FlaskClient

from webapp.domain.errors import UnavailableService

WORDS = {
    403: "You are signed in, but this is not open to you.",
    404: "There is nothing at this address: it was mistyped, or what was here is gone.",
    405: "This address does not do that.",
    415: "What was sent is of a kind that cannot be read here.",
    429: "That was more than is allowed for now. Wait a moment, then try again.",
    500: "Nothing you sent was half stored.",
    503: "Another service did not answer; try again in a moment.",
}


@pytest.fixture
def client(make_app: Any) -> FlaskClient:
    """Of an app with an address for each kind of error."""
    app = make_app()
    app.testing = False
    app.config["PROPAGATE_EXCEPTIONS"] = False

    def fail(code: int) -> str:
        if code == 503:
            raise UnavailableService
        if code == 500:
            raise ZeroDivisionError
        abort(code)

    app.add_url_rule("/fail/<int:code>", view_func=fail)
    return app.test_client()


@pytest.mark.parametrize("code", WORDS)
def test_each_error_says_in_words_what_is_wrong_as_page_and_as_fragment(client: FlaskClient, code: int) -> None:
    page = client.get(f"/fail/{code}")
    fragment = client.get(f"/fail/{code}", headers={"HX-Request": "true"})
    assert page.status_code == fragment.status_code == code
    assert WORDS[code] in page.text and WORDS[code] in fragment.text
    assert f'class="error-code">{code}' in page.text and 'class="btn btn-primary"' in page.text
    assert "<html" not in fragment.text and "data-error=" in fragment.text
    assert ("Try again" in page.text) == (code in (429, 500, 503))


def test_a_body_that_is_too_large_says_how_large_it_may_be(client: FlaskClient) -> None:
    client.application.config["MAX_CONTENT_LENGTH"] = 2**20
    answer = client.post("/login", data=b"x" * 2**21, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 413
    assert "At most 1 MB can be sent at once. Nothing was stored." in answer.text
