"""The OpenAPI document names every call, and the API keeps to it, whatever programs send (schemathesis).

More cases: SCHEMATHESIS_EXAMPLES=500 python3 -m devstack test tests/contract/test_openapi.py
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, assume, given, settings
from jsonschema_rs import Draft202012Validator
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance
from sqlalchemy.orm import Session

from tests.factories import make_document, make_job, make_user
from webapp.parts import Parts
from webapp.services import accounts, submissions, webhooks
from webapp.views import api_jobs, api_models
from webapp.views.api import OPERATIONS

ADDRESS = "/api/v1/openapi.json"
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "10"))  # of each call and kind: more than 300


@pytest.fixture
def app(make_app: Any, session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An app with something of each kind, all of it with the id 1."""
    monkeypatch.setattr(api_jobs, "MOST_WAIT_SECONDS", 0)  # nobody answers here
    alice = make_user(session)
    make_document(session, alice)
    make_job(session, parts, alice)
    submissions.submit(
        session, parts.settings, parts.profiles, parts.prices, user=alice, profile_id="text_classification",
        runs=[{"text": "All went well."}], source="api", name="one",
    )  # fmt: skip
    webhook, _ = webhooks.create_webhook(session, parts.settings, alice, "https://example.org/hook")
    webhooks.send_test(session, webhook)
    app = make_app()
    app.extensions["token"] = accounts.create_token(session, alice, "schemathesis")
    return app


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    client = app.test_client()
    return client.get(ADDRESS, headers={"Authorization": f"Bearer {app.extensions['token']}"}).json


@pytest.fixture
def schema(app: Flask) -> Any:
    return schemathesis.openapi.from_wsgi(
        ADDRESS, app, headers={"Authorization": f"Bearer {app.extensions['token']}"}
    )  # fmt: skip


def test_every_call_is_in_the_document_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    written = {(path, method.upper()) for path, calls in document["paths"].items() for method in calls}
    routes = {
        (re.sub(r"<int:(\w+)>", r"{\1}", str(rule)).removeprefix("/api/v1"), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if str(rule).startswith("/api/v1/")
    }
    assert written == routes
    assert len(routes) == len(OPERATIONS)


def test_each_profile_s_inputs_are_a_schema(document: dict[str, Any], parts: Parts) -> None:
    schemas = document["components"]["schemas"]
    for profile in parts.profiles:
        assert schemas[f"{profile.id}_inputs"] == profile.input_schema()
    body = {"$ref": "#/components/schemas/NewJob", "components": document["components"]}
    check = Draft202012Validator(body)
    assert check.is_valid({"profile": "text_classification", "inputs": {"text": "x"}})
    assert not check.is_valid({"profile": "pdf_summary", "inputs": {"text": "x"}})
    assert not check.is_valid({"profile": "text_classification", "inputs": {"text": "x", "executionMode": "soon"}})


def test_a_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for name in re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)):
        assert name in document["components"]["schemas"], name
    assert set(api_models.NewJob.model_fields) <= set(
        document["components"]["schemas"]["NewJob_pdf_summary"]["properties"]
    )


# What happens without a token: tests/web/test_api_tokens.py. Inputs are read leniently (spaces around a text, "8" for
# 8), and what is right by the schema may be refused all the same: a profile's own checks, a period that ends too early.
LENIENT = ("create_job", "create_submission", "retry_job")
WITH_OWN_CHECKS = (*LENIENT, "create_documents", "get_usage", "create_webhook", "change_webhook")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_call_keeps_to_the_document(app: Flask, schema: Any, name: str) -> None:
    for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
        assert _ask(app.extensions["token"], schema.find_operation_by_id(name), mode) > 0


def _ask(token: str, operation: Any, mode: GenerationMode) -> int:
    """How many calls were made; each is checked against the document."""
    asked = 0
    name = operation.definition.raw["operationId"]
    excluded = [ignored_auth]
    excluded += [negative_data_rejection] if name in LENIENT else []
    excluded += [positive_data_acceptance] if name in WITH_OWN_CHECKS else []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
              suppress_health_check=[*HealthCheck])  # fmt: skip
    def keeps_to_it(case: schemathesis.Case) -> None:
        nonlocal asked
        # An empty list in an address is not sent: what would be wrong with it never arrives.
        assume(not any(value in ([], {}, None) for value in (case.query or {}).values()))
        if mode is GenerationMode.POSITIVE:
            case.path_parameters = dict.fromkeys(case.path_parameters, 1)  # what is there
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, excluded_checks=excluded)
        asked += 1

    keeps_to_it()
    return asked
