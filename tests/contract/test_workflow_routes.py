"""What the n8n workflows call exists, and what the profiles name exists in n8n."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.exceptions import HTTPException

from webapp.config import ROOT
from webapp.domain.profiles import load_profiles
from webapp.gateways.n8n import NUDGE_PATH

APP = "http://sluice-internal.invalid"
WORKFLOWS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "n8n/workflows").glob("*.json")}
# The run flow's call-backs come with the payload (services/dispatch.py writes them).
CALLBACKS = {"callback.start": "/api/internal/jobs/1/start", "callback.result": "/api/internal/jobs/1/result"}


def app_calls() -> Iterator[tuple[str, str, str]]:
    """(node, method, path) of every HTTP node that calls the app."""
    for workflow in WORKFLOWS.values():
        for node in workflow["nodes"]:
            if node["type"] != "n8n-nodes-base.httpRequest":
                continue
            url = node["parameters"]["url"].removeprefix("=")
            method = node["parameters"].get("method", "GET")
            callback = next((path for name, path in CALLBACKS.items() if name in url), None)
            if callback or url.startswith(APP):
                yield node["name"], method, callback or re.sub(r"\{\{.*?\}\}", "1", url.removeprefix(APP))


@pytest.mark.parametrize(("node", "method", "path"), list(app_calls()))
def test_each_call_of_a_workflow_is_a_real_route(make_app: Any, node: str, method: str, path: str) -> None:
    adapter = make_app("internal").url_map.bind("localhost")
    try:
        endpoint, _ = adapter.match(path, method=method)
    except HTTPException as error:
        pytest.fail(f"{node}: {method} {path}: {error}")
    assert endpoint.startswith("internal.")


def test_the_workflows_call_every_route_that_is_theirs(make_app: Any) -> None:
    adapter = make_app("internal").url_map.bind("localhost")
    called = {adapter.match(path, method=method)[0] for _, method, path in app_calls()}
    ours = {
        rule.endpoint for rule in make_app("internal").url_map.iter_rules() if rule.endpoint.startswith("internal.")
    }
    assert ours - called == {"internal.job_context", "internal.job_document"}  # for custom workflows


def test_each_webhook_that_the_app_calls_is_there() -> None:
    hooks = {
        node["parameters"]["path"]
        for workflow in WORKFLOWS.values()
        for node in workflow["nodes"]
        if node["type"] == "n8n-nodes-base.webhook"
    }
    named = {profile.execution.webhook_path for profile in load_profiles(ROOT / "profiles").values()}
    assert named | {NUDGE_PATH} <= hooks
