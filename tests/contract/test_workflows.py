"""House rules of n8n/workflows: what people see in the editor is tidy, and nothing in a file can hurt."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import n8n_sync

FILES = sorted(n8n_sync.WORKFLOWS.glob("*.json"))
WORKFLOWS = {path.name: json.loads(path.read_text()) for path in FILES}
EVERY = pytest.mark.parametrize("name", WORKFLOWS)
ERROR_FLOW = WORKFLOWS["error.json"]

CREDENTIALS = {"sluiceInbound0001", "sluiceInternal001", "sluiceProvider001"}
NODE_TYPES = {
    "errorTrigger", "httpRequest", "if", "scheduleTrigger", "set", "splitOut", "stickyNote", "stopAndError", "switch",
    "webhook",
}  # fmt: skip
TRIGGERS = {"errorTrigger", "scheduleTrigger", "webhook"}
WRITE_BACKS = {("run.json", "Write the answer back"), ("windows.json", "Write the answer back")}
GRID, WIDTH, HEIGHT = 16, 96, 96


def nodes(name: str, *types: str) -> list[dict[str, Any]]:
    return [node for node in WORKFLOWS[name]["nodes"] if not types or kind(node) in types]


def kind(node: dict[str, Any]) -> str:
    return node["type"].removeprefix("n8n-nodes-base.")


def headers_of(node: dict[str, Any]) -> set[str]:
    """The headers that the node sends besides those of its credential."""
    return {header["name"] for header in node["parameters"].get("headerParameters", {}).get("parameters", [])}


def wires(name: str) -> Iterator[tuple[str, str]]:
    for source, outputs in WORKFLOWS[name]["connections"].items():
        for output in outputs["main"]:
            for wire in output:
                yield source, wire["node"]


def box(node: dict[str, Any]) -> tuple[int, int, int, int]:
    x, y = node["position"]
    size = node["parameters"] if kind(node) == "stickyNote" else {}
    outputs = len(node["parameters"]["rules"]["values"]) + 1 if kind(node) == "switch" else 1
    return x, y, x + size.get("width", WIDTH), y + size.get("height", max(HEIGHT, 36 * outputs))


def test_there_are_workflows() -> None:
    assert set(WORKFLOWS) == {"run.json", "windows.json", "error.json"}


def test_ids_are_fixed_and_unique() -> None:
    ids = [workflow["id"] for workflow in WORKFLOWS.values()]
    ids += [node["id"] for name in WORKFLOWS for node in nodes(name)]
    ids += [node["webhookId"] for name in WORKFLOWS for node in nodes(name, "webhook")]
    assert [key for key, count in Counter(ids).items() if count > 1] == []
    assert all(re.fullmatch(r"[A-Za-z0-9]{16}", workflow["id"]) for workflow in WORKFLOWS.values())


@EVERY
def test_file_is_what_an_export_would_write(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert tuple(workflow) == n8n_sync.KEPT_KEYS
    assert (n8n_sync.WORKFLOWS / name).read_text() == n8n_sync.to_text(workflow)


@EVERY
def test_only_plain_built_in_nodes_are_used(name: str) -> None:
    assert {kind(node) for node in nodes(name)} <= NODE_TYPES, "no Code node, no SQL, no community node"


@EVERY
def test_nothing_of_the_environment_is_read(name: str) -> None:
    text = json.dumps(WORKFLOWS[name])
    assert [word for word in ("$env", "$vars", "$secrets", "process.") if word in text] == []


@EVERY
def test_secrets_come_from_the_known_credentials(name: str) -> None:
    for node in nodes(name, "httpRequest", "webhook"):
        assert node["credentials"]["httpHeaderAuth"]["id"] in CREDENTIALS, node["name"]
        assert "queryParameters" not in node["parameters"], node["name"]
        assert headers_of(node) <= {"traceparent"}, node["name"]
    text = json.dumps(WORKFLOWS[name])
    assert re.findall(r"(?i)bearer |\bsk-\w|api[-_]key|password|[\"']X-(?:Internal|Sluice)-Token", text) == []


@EVERY
def test_webhook_refuses_calls_without_its_token(name: str) -> None:
    for node in nodes(name, "webhook"):
        assert node["parameters"]["authentication"] == "headerAuth"
        assert node["credentials"]["httpHeaderAuth"]["id"] == "sluiceInbound0001"
        assert node["parameters"].get("responseMode", "onReceived") == "onReceived"


@EVERY
def test_addresses_are_the_placeholder_or_come_with_the_data(name: str) -> None:
    for node in nodes(name, "httpRequest"):
        url = node["parameters"]["url"]
        to_the_app = url.removeprefix("=").startswith(n8n_sync.PLACEHOLDER + "/api/internal/") or ".callback." in url
        by_the_app = re.fullmatch(r"=\{\{ \$json\.(body\.request\.)?url \}\}", url)
        assert to_the_app or by_the_app, url
        assert node["credentials"]["httpHeaderAuth"]["id"] == (
            "sluiceInternal001" if to_the_app else "sluiceProvider001"
        )
    assert "127.0.0.1" not in json.dumps(WORKFLOWS[name])


def test_what_is_done_for_a_job_or_window_is_in_its_trace() -> None:
    """Not the provider's calls: our traces are none of its business."""
    own = [node for name in ("run.json", "windows.json") for node in nodes(name, "httpRequest")
           if re.search(r"\.callback\.|\.batch\.id", node["parameters"]["url"])]  # fmt: skip
    assert len(own) == 5
    traced = [node for name in WORKFLOWS for node in nodes(name, "httpRequest") if headers_of(node) == {"traceparent"}]
    assert traced == own


@EVERY
def test_failed_execution_is_reported(name: str) -> None:
    settings = WORKFLOWS[name]["settings"]
    assert settings["executionOrder"] == "v1"
    assert settings["saveDataSuccessExecution"] == "none"
    assert settings.get("errorWorkflow") == (None if WORKFLOWS[name] is ERROR_FLOW else ERROR_FLOW["id"])


@EVERY
def test_provider_is_asked_once_and_its_answer_is_taken_as_it_is(name: str) -> None:
    for node in nodes(name, "httpRequest"):
        if node["credentials"]["httpHeaderAuth"]["id"] != "sluiceProvider001":
            continue
        assert "retryOnFail" not in node, f"{node['name']}: a repeated call is paid twice"
        assert node["onError"] == "continueErrorOutput"
        options = node["parameters"]["options"]
        assert options["response"]["response"] == {
            "fullResponse": True,
            "neverError": True,
            "responseFormat": "text",
            "outputPropertyName": "body",
        }
        assert options["redirect"]["redirect"] == {"followRedirects": False}


def test_run_flow_gives_the_provider_300_seconds() -> None:
    (node,) = [node for node in nodes("run.json") if node["name"] == "Ask the provider"]
    assert node["parameters"]["options"]["timeout"] == 300_000


@pytest.mark.parametrize(("name", "node_name"), sorted(WRITE_BACKS))
def test_write_backs_are_repeated(name: str, node_name: str) -> None:
    (node,) = [node for node in nodes(name) if node["name"] == node_name]
    assert (node["retryOnFail"], node["maxTries"], node["waitBetweenTries"]) == (True, 5, 5000)


@EVERY
def test_only_write_backs_are_repeated(name: str) -> None:
    repeated = {(name, node["name"]) for node in nodes(name) if node.get("retryOnFail")}
    # start may be asked again: the app gives the owner of the attempt the same answer.
    assert repeated <= WRITE_BACKS | {("error.json", "Tell the app"), ("run.json", "Start the job")}


def test_schedule_is_the_safety_net_of_each_minute() -> None:
    (node,) = nodes("windows.json", "scheduleTrigger")
    assert node["parameters"] == {"rule": {"interval": [{"field": "minutes", "minutesInterval": 1}]}}


@EVERY
def test_connections_resolve_and_every_node_is_reached(name: str) -> None:
    names = {node["name"] for node in nodes(name) if kind(node) != "stickyNote"}
    ends = {end for wire in wires(name) for end in wire}
    assert ends <= names
    reached = {node["name"] for node in nodes(name, *TRIGGERS)}
    while new := {target for source, target in wires(name) if source in reached} - reached:
        reached |= new
    assert reached == names


@EVERY
def test_expressions_name_nodes_that_exist(name: str) -> None:
    named = re.findall(r"\$\('([^']+)'\)", json.dumps(WORKFLOWS[name], ensure_ascii=False))
    assert set(named) <= {node["name"] for node in nodes(name)}


@EVERY
def test_a_sticky_note_says_what_the_flow_does(name: str) -> None:
    (note,) = nodes(name, "stickyNote")
    text = note["parameters"]["content"]
    assert all(word in text for word in ("**Called by**", "**Does**", "**Must never**")), text


@EVERY
def test_node_names_are_sentences(name: str) -> None:
    names = [node["name"] for node in nodes(name)]
    assert len(set(names)) == len(names)
    assert [node for node in names if " " not in node or node != node.strip() or not node[0].isupper()] == []


@EVERY
def test_nodes_sit_on_the_grid_and_do_not_overlap(name: str) -> None:
    boxes = [(node["name"], *box(node)) for node in nodes(name)]
    assert [one for one in boxes if one[1] % GRID or one[2] % GRID] == []
    overlapping = [
        (a[0], b[0])
        for place, a in enumerate(boxes)
        for b in boxes[place + 1 :]
        if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
    ]
    assert overlapping == []


@EVERY
def test_flow_reads_from_left_to_right(name: str) -> None:
    x = {node["name"]: node["position"][0] for node in nodes(name)}
    backwards = {target for source, target in wires(name) if x[target] <= x[source]}
    assert backwards <= {"Look at the queues", "Lease a due window"}, "only the two loops lead back"


@EVERY
def test_timeouts_are_said(name: str) -> None:
    assert [n["name"] for n in nodes(name, "httpRequest") if not n["parameters"]["options"].get("timeout")] == []


def test_files_of_the_installation_name_no_registry() -> None:
    lock = json.loads((n8n_sync.SOURCE / "package-lock.json").read_text())
    assert [key for key, entry in lock["packages"].items() if "resolved" in entry] == []
    package = json.loads((n8n_sync.SOURCE / "package.json").read_text())
    assert lock["packages"]["node_modules/n8n"]["version"] == package["dependencies"]["n8n"]


def test_no_other_file_is_taken_for_a_workflow() -> None:
    assert {path.suffix for path in Path(n8n_sync.WORKFLOWS).iterdir()} == {".json"}
