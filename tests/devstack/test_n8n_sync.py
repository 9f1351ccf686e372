"""Workflows travel between their files and n8n, and no edit is lost on the way."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devstack import n8n_sync
from devstack.errors import StackError
from devstack.n8n_sync import Memory, Stored

APP = "http://127.0.0.1:8001"
RUN = "sluiceRun0000001"
Workflow = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(n8n_sync.WORKFLOWS, tmp_path / "workflows"))


@pytest.fixture
def memory(tmp_path: Path, folder: Path) -> Memory:
    """After an import of all files."""
    memory = Memory(tmp_path / "imported.json")
    for key, workflow in n8n_sync.read_files(APP, folder).items():
        memory.remember(key, workflow, APP)
    return memory


def inside(
    folder: Path, change: Callable[[Workflow], None] = lambda _: None, *, published: bool = True
) -> dict[str, Stored]:
    """What n8n holds: the files, with the run flow changed; in another order of keys, as a database may give it."""
    workflows = copy.deepcopy(n8n_sync.read_files(APP, folder))
    change(workflows[RUN])
    return {key: Stored(json.loads(json.dumps(flow, sort_keys=True)), published) for key, flow in workflows.items()}


def node(workflow: Workflow, name: str) -> dict[str, Any]:
    return next(node for node in workflow["nodes"] if node["name"] == name)


def rename(workflow: Workflow) -> None:
    node(workflow, "Start the job")["name"] = "Begin the job"
    workflow["connections"]["Begin the job"] = workflow["connections"].pop("Start the job")
    workflow["connections"]["Is it a sync job?"]["main"][0][0]["node"] = "Begin the job"


def move(workflow: Workflow) -> None:
    node(workflow, "Note the time")["position"] = [688, -96]


def diff(folder: Path) -> list[tuple[str, str]]:
    """(old, new) of each line that differs, when no line came or went."""
    pairs = []
    for path in sorted(folder.glob("*.json")):
        old = (n8n_sync.WORKFLOWS / path.name).read_text().splitlines()
        pairs += [(a.strip(), b.strip()) for a, b in zip(old, path.read_text().splitlines(), strict=True) if a != b]
    return pairs


def test_import_fills_in_the_address(folder: Path) -> None:
    text = json.dumps(n8n_sync.read_files(APP, folder))
    assert APP + "/api/internal/queues" in text
    assert n8n_sync.PLACEHOLDER not in text


def test_export_without_an_edit_changes_no_byte(folder: Path, memory: Memory) -> None:
    assert n8n_sync.export(inside(folder), memory, folder) == []
    assert diff(folder) == []


def test_export_of_a_move_changes_one_line(folder: Path, memory: Memory) -> None:
    assert [path.name for path in n8n_sync.export(inside(folder, move), memory, folder)] == ["run.json"]
    assert diff(folder) == [("672,", "688,")]


def test_export_of_a_new_name_changes_only_the_lines_that_say_it(folder: Path, memory: Memory) -> None:
    n8n_sync.export(inside(folder, rename), memory, folder)
    changed = diff(folder)
    assert len(changed) == 3
    assert {old.replace("Start", "Begin") for old, _ in changed} == {new for _, new in changed}


def test_export_puts_a_new_node_last_and_leaves_the_rest(folder: Path, memory: Memory) -> None:
    def add(workflow: Workflow) -> None:
        extra = {"id": "run-extra", "name": "An extra node", "type": "n8n-nodes-base.noOp", "typeVersion": 1}
        workflow["nodes"].insert(0, {**extra, "position": [0, 960], "parameters": {}})

    n8n_sync.export(inside(folder, add), memory, folder)
    old = json.loads((n8n_sync.WORKFLOWS / "run.json").read_text())["nodes"]
    new = json.loads((folder / "run.json").read_text())["nodes"]
    assert (new[:-1], new[-1]["id"]) == (old, "run-extra")


def test_export_brings_the_placeholder_back(folder: Path, memory: Memory) -> None:
    stored = inside(folder)
    node(stored["sluiceWindows001"].workflow, "Poll the batch")["position"] = [2256, 0]
    n8n_sync.export(stored, memory, folder)
    assert diff(folder) == [("2240,", "2256,")]


def test_export_of_another_port_is_no_edit(folder: Path, memory: Memory) -> None:
    """The address counts that was imported, not the one of today's settings."""
    assert n8n_sync.export(inside(folder), Memory(memory._path), folder) == []


def test_export_refuses_a_file_that_was_changed_too(folder: Path, memory: Memory) -> None:
    stored = inside(folder, move)
    text = (folder / "run.json").read_text().replace("300000", "200000")
    (folder / "run.json").write_text(text)
    with pytest.raises(StackError, match=r"run\.json was changed both in the file and in n8n's editor"):
        n8n_sync.export(stored, memory, folder)
    assert (folder / "run.json").read_text() == text


def test_first_start_imports_everything(folder: Path, tmp_path: Path) -> None:
    files = n8n_sync.read_files(APP, folder)
    plan = n8n_sync.plan(files, {}, Memory(tmp_path / "none.json"))
    assert (set(plan.to_import), plan.to_publish, plan.warnings) == (set(files), [], [])


def test_second_start_does_nothing(folder: Path, memory: Memory) -> None:
    plan = n8n_sync.plan(n8n_sync.read_files(APP, folder), inside(folder), memory)
    assert (plan.to_import, plan.to_publish, plan.warnings) == ([], [], [])


def test_changed_file_is_imported(folder: Path, memory: Memory) -> None:
    stored = inside(folder)
    (folder / "run.json").write_text((folder / "run.json").read_text().replace("300000", "200000"))
    plan = n8n_sync.plan(n8n_sync.read_files(APP, folder), stored, memory)
    assert (plan.to_import, plan.warnings) == ([RUN], [])


def test_changed_address_is_imported(folder: Path, memory: Memory) -> None:
    plan = n8n_sync.plan(n8n_sync.read_files("http://127.0.0.1:9001", folder), inside(folder), memory)
    assert sorted(plan.to_import) == ["sluiceErrors0001", "sluiceWindows001"]


def test_unexported_edit_is_never_overwritten(folder: Path, memory: Memory) -> None:
    stored = inside(folder, move)
    (folder / "run.json").write_text((folder / "run.json").read_text().replace("300000", "200000"))
    plan = n8n_sync.plan(n8n_sync.read_files(APP, folder), stored, memory)
    assert plan.to_import == []
    assert len(plan.warnings) == 1
    assert "`make n8n-export`" in plan.warnings[0]
    assert "`make n8n-import FORCE=1`" in plan.warnings[0]


def test_unexported_edit_is_overwritten_by_force_alone(folder: Path, memory: Memory) -> None:
    plan = n8n_sync.plan(n8n_sync.read_files(APP, folder), inside(folder, move), memory, force=True)
    assert (plan.to_import, plan.warnings) == ([RUN], [])


def test_workflow_that_nobody_remembers_counts_as_edited(folder: Path, tmp_path: Path) -> None:
    plan = n8n_sync.plan(n8n_sync.read_files(APP, folder), inside(folder, move), Memory(tmp_path / "none.json"))
    assert (plan.to_import, len(plan.warnings)) == ([], 1)


def test_exported_edit_is_published_at_the_next_start(folder: Path, memory: Memory) -> None:
    stored = inside(folder, move, published=False)
    n8n_sync.export(stored, memory, folder)
    plan = n8n_sync.plan(n8n_sync.read_files(APP, folder), {RUN: stored[RUN]}, memory)
    assert RUN in plan.to_publish
    assert RUN not in plan.to_import
    assert plan.warnings == []


def test_exported_edit_may_be_followed_by_a_change_of_the_file(folder: Path, memory: Memory) -> None:
    stored = inside(folder, move)
    n8n_sync.export(stored, memory, folder)
    (folder / "run.json").write_text((folder / "run.json").read_text().replace("300000", "200000"))
    plan = n8n_sync.plan(n8n_sync.read_files(APP, folder), stored, memory)
    assert (plan.to_import, plan.warnings) == ([RUN], [])
