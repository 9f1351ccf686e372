"""A job type is one file: a profile that nobody knew, with a workflow of its own, dropped in."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx2
import pytest

from devstack.n8n_sync import WORKFLOWS
from devstack.stack import Stack
from tests.people import Person
from webapp.config import ROOT

pytestmark = pytest.mark.e2e

PROFILE = {
    "id": "headline",
    "name": "Headline",
    "fields": [
        {"key": "executionMode", "type": "select", "default": "sync", "options": ["sync", "batch"]},
        {"key": "story", "type": "textarea", "label": "The story", "required": True, "minLength": 20},
        {"key": "tone", "type": "multiselect", "options": ["calm", "loud"], "default": ["calm"]},
        {"key": "urgent", "type": "boolean"},
        {"key": "weight", "type": "number", "min": 0, "max": 1, "default": 0.5},
    ],
    "request": {
        "endpoint": "/v1/chat/completions",
        "body": {
            "model": "{{ model }}",
            "messages": [
                {"role": "system", "content": "One headline, {{ inputs.tone | join(' and ') }}."},
                {"role": "user", "content": "{{ inputs.story }}"},
            ],
            "max_completion_tokens": 200,
        },
    },
    "output": {"type": "text"},
    "batch": {"maxBatchSize": 2},
    "execution": {
        "webhookPath": "news/headline",
        "payloadMap": {
            "author": "user.email", "tale": "input.story", "moods": "input.tone", "kind": "executionMode",
            "rush": "input.urgent", "nothing": "input.not.there",
        },
    },
}  # fmt: skip
STORY = "The sluice keeper opened the gate at dawn. Water ran down to the mill. Nobody in the village slept on."


class Witness:
    """Keeps the payload that the second workflow was sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        witness = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                witness.seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


def second_workflow(witness_url: str) -> dict[str, Any]:
    """The run flow under another name and path, without the branch on executionMode, that first tells a witness."""
    workflow: dict[str, Any] = json.loads((WORKFLOWS / "run.json").read_text())
    nodes = {node["type"].rsplit(".", 1)[1]: node for node in workflow["nodes"]}
    hook, branch = nodes["webhook"], nodes["if"]
    hook["parameters"]["path"] = PROFILE["execution"]["webhookPath"]  # type: ignore[index]
    hook["webhookId"] = "news-headline"
    tell = {
        "id": "tell-the-witness", "name": branch["name"], "type": "n8n-nodes-base.httpRequest", "typeVersion": 4.2,
        "position": branch["position"],
        "parameters": {"method": "POST", "url": witness_url, "sendBody": True, "specifyBody": "json",
                       "jsonBody": "={{ $json.body }}", "options": {}},
    }  # fmt: skip
    workflow["nodes"] = [tell if node is branch else node for node in workflow["nodes"]]
    text = json.dumps(workflow).replace("$json.body.", f"$('{hook['name']}').item.json.body.")
    return json.loads(text) | {"id": "headlineRun00001", "name": "Headline run"}


@pytest.fixture(scope="module")
def witness() -> Iterator[Witness]:
    witness = Witness()
    yield witness
    witness.server.shutdown()
    witness.server.server_close()


@pytest.fixture(scope="module")
def stack(witness: Witness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The system with one more profile and one more workflow."""
    profiles, workflows = tmp_path_factory.mktemp("profiles"), tmp_path_factory.mktemp("workflows")
    for source, target in ((ROOT / "profiles", profiles), (WORKFLOWS, workflows)):
        shutil.copytree(source, target, dirs_exist_ok=True)
    (profiles / "headline.json").write_text(json.dumps(PROFILE))
    (workflows / "headline.json").write_text(json.dumps(second_workflow(witness.url)))
    with Stack.throwaway({"PROFILES_DIR": str(profiles), "POLL_SECONDS": "1"}, workflows=workflows) as stack:
        yield stack


def test_the_form_the_checks_and_both_modes_follow_from_the_file(person: Person, witness: Witness) -> None:
    page = person.http.get("/jobs/new?profile=headline").text
    assert "The story" in page
    assert 'name="tone" value="loud"' in page
    refused = person.submit(profile="headline", story="too short", weight="7")
    assert refused.status_code == 422
    assert "at least 20 characters" in refused.text
    assert "less than or equal to 1" in refused.text

    [now] = person.run(profile="headline", story=STORY, tone=["calm", "loud"], urgent="y")
    person.await_status(now)
    assert person.result(now)
    later = [person.run(profile="headline", story=STORY, executionMode="batch")[0] for _ in range(2)]
    for job_id in later:
        person.await_status(job_id)

    [payload] = witness.seen
    callback = payload.pop("callback")
    assert payload == {
        "author": person.email, "tale": STORY, "moods": ["calm", "loud"], "kind": "sync", "rush": True,
        "nothing": None, "jobId": now, "attempt": 1,
    }  # fmt: skip
    assert callback["result"].endswith(f"/api/internal/jobs/{now}/result")


def test_the_api_takes_the_same_fields(stack: Stack, person: Person) -> None:
    headers = {"Authorization": f"Bearer {person.make_token()}"}
    with httpx2.Client(base_url=f"{stack.web_url}/api/v1", headers=headers) as api:
        wrong = api.post("/jobs", json={"profile": "headline", "inputs": {"story": STORY, "tone": ["shrill"]}})
        assert wrong.json()["errors"] == {"tone": "Must be one of: calm, loud."}
        made = api.post("/jobs", json={"profile": "headline", "inputs": {"story": STORY, "weight": 0.25}}).json()
        person.await_status(made["id"])
        done = api.get(f"/jobs/{made['id']}").json()
        assert (done["status"], done["inputs"]["weight"]) == ("completed", 0.25)
        assert float(done["costUsd"]) > 0


def test_the_app_is_unchanged() -> None:
    assert (
        subprocess.run(["git", "grep", "-il", "headline", "--", "webapp"], cwd=ROOT, capture_output=True).stdout == b""
    )
