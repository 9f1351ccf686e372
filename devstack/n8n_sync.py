"""Keeps `n8n/workflows/*.json` and the workflows inside n8n the same, without ever losing an edit made in the editor.

A file holds only what people write (`KEPT_KEYS`) and the address `PLACEHOLDER`, which an import replaces with the
app's own. n8n's tables are read directly (a command of n8n's takes seconds); its version is pinned by the lock file
and the tests read the same tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from devstack.errors import StackError
from devstack.n8n_install import SOURCE

WORKFLOWS = SOURCE / "workflows"
PLACEHOLDER = "http://sluice-internal.invalid"
KEPT_KEYS = ("id", "name", "nodes", "connections", "settings")

Workflow = dict[str, Any]


@dataclass(frozen=True)
class Stored:
    """A workflow in n8n; `published` if what runs is what was last saved."""

    workflow: Workflow
    published: bool


@dataclass
class Plan:
    """What the next start has to do, by workflow id."""

    to_import: list[str] = field(default_factory=list)
    to_publish: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Memory:
    """What was imported last, in a file beside n8n's own: without it an edit could not be told from an old file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    @property
    def credentials(self) -> str | None:
        return self._known.get("credentials")

    def imported(self, key: str) -> tuple[str, str] | None:
        """The digest of what was imported, and the app's address that it was imported with."""
        entry = self._known.get("workflows", {}).get(key)
        return (entry[0], entry[1]) if entry else None

    def remember(self, key: str, workflow: Workflow, app_url: str | None = None) -> None:
        """Note what is in n8n, with the address that its import used (None: as it was)."""
        known = self.imported(key)
        entry = [digest(workflow), app_url or (known[1] if known else "")]
        if self._known.setdefault("workflows", {}).get(key) != entry:
            self._known["workflows"][key] = entry
            self._save()

    def remember_credentials(self, mark: str) -> None:
        self._known["credentials"] = mark
        self._save()

    def _save(self) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._known, indent=1))
        part.replace(self._path)


def plan(files: Mapping[str, Workflow], stored: Mapping[str, Stored], memory: Memory, *, force: bool = False) -> Plan:
    """Compare the files with what n8n has: import what changed in the file, never over an edit that only n8n has."""
    todo = Plan()
    for key, workflow in files.items():
        inside = stored.get(key)
        if inside is None:
            todo.to_import.append(key)
        elif digest(inside.workflow) == digest(workflow):
            if not inside.published:
                todo.to_publish.append(key)
        elif force or _is_unedited(inside, memory.imported(key)):
            todo.to_import.append(key)
        else:
            todo.warnings.append(
                f'The workflow "{workflow["name"]}" was edited in n8n\'s editor and stays as it is there: '
                "`make n8n-export` brings the edit into its file, `make n8n-import FORCE=1` drops it."
            )
    return todo


def export(stored: Mapping[str, Stored], memory: Memory, folder: Path = WORKFLOWS) -> list[Path]:
    """Write the edits made in n8n into the files; return those that changed. An unedited file keeps its bytes.

    Raises StackError, having written nothing, if a file was changed as well since it was imported.
    """
    changed: dict[Path, str] = {}
    for path, committed in _committed(folder):
        inside, imported = stored.get(committed["id"]), memory.imported(committed["id"])
        if inside is None or imported is None or _is_unedited(inside, imported):
            continue
        edited = _replace(inside.workflow, imported[1], PLACEHOLDER)
        if digest(edited) == digest(committed):
            continue
        if digest(_replace(committed, PLACEHOLDER, imported[1])) != imported[0]:
            raise StackError(
                f"{path.name} was changed both in the file and in n8n's editor: put the file back as it was imported "
                "(`git stash`), export, and bring the two together."
            )
        changed[path] = to_text(_like(_with_names_of(edited, committed), edited))
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
        workflow = stored[json.loads(text)["id"]].workflow
        memory.remember(workflow["id"], workflow)
    return list(changed)


def read_files(app_url: str, folder: Path = WORKFLOWS) -> dict[str, Workflow]:
    """The committed workflows by id, with the app's address filled in."""
    return {workflow["id"]: _replace(workflow, PLACEHOLDER, app_url) for _, workflow in _committed(folder)}


def webhook_paths(folder: Path = WORKFLOWS) -> list[str]:
    """The paths of the webhooks that ask for a token."""
    return [
        node["parameters"]["path"]
        for _, workflow in _committed(folder)
        for node in workflow["nodes"]
        if node["type"].endswith(".webhook") and node["parameters"].get("authentication") == "headerAuth"
    ]


def read_database(connection: psycopg.Connection) -> dict[str, Stored]:
    """The workflows in n8n's database by id; none before n8n made its tables."""
    if not _has_table(connection, "workflow_entity"):
        return {}
    rows = connection.execute(
        'SELECT id, name, nodes, connections, settings, active AND "activeVersionId" = "versionId" FROM workflow_entity'
    )
    return {
        key: Stored(dict(zip(KEPT_KEYS, (key, name, nodes, connections, settings or {}), strict=True)), bool(published))
        for key, name, nodes, connections, settings, published in rows
    }


def has_credentials(connection: psycopg.Connection, keys: Iterable[str]) -> bool:
    if not _has_table(connection, "credentials_entity"):
        return False
    found = {key for (key,) in connection.execute("SELECT id FROM credentials_entity")}
    return found.issuperset(keys)


def digest(workflow: Workflow) -> str:
    """The same for workflows that mean the same: the order of nodes and of keys does not count."""
    meaning = {key: workflow.get(key) for key in KEPT_KEYS}
    meaning["nodes"] = sorted(workflow["nodes"], key=lambda node: node["id"])
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def to_text(workflow: Workflow) -> str:
    """The text of a workflow's file."""
    return json.dumps(_with_wires_in_order(workflow), indent=2, ensure_ascii=False) + "\n"


def _committed(folder: Path) -> list[tuple[Path, Workflow]]:
    return [(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]


def _has_table(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("SELECT to_regclass(%s)", [name]).fetchone() != (None,)


def _is_unedited(inside: Stored, imported: tuple[str, str] | None) -> bool:
    return imported is not None and digest(inside.workflow) == imported[0]


def _replace(value: Any, old: str, new: str) -> Any:
    """`value` with `old` replaced in every text in it."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [_replace(item, old, new) for item in value]
    if isinstance(value, dict):
        return {key: _replace(item, old, new) for key, item in value.items()}
    return value


def _with_names_of(edited: Workflow, model: Workflow) -> Workflow:
    """`model` with its wires under the names that its nodes have in `edited`."""
    now = {node["id"]: node["name"] for node in edited["nodes"]}
    ids = {node["name"]: node["id"] for node in model["nodes"]}
    wires = {now.get(ids.get(name), name): wire for name, wire in model["connections"].items()}
    return {**model, "connections": wires}


def _like(model: Any, value: Any) -> Any:
    """`value` in the order that `model` has: its keys, and its nodes by their ids; what is new comes last."""
    if isinstance(value, dict) and isinstance(model, dict):
        keys = [key for key in model if key in value] + [key for key in value if key not in model]
        return {key: _like(model.get(key), value[key]) for key in keys}
    if isinstance(value, list) and isinstance(model, list):
        if _all_have_ids(value) and _all_have_ids(model):
            return _like_by_id(model, value)
        return [_like(model[i] if i < len(model) else None, item) for i, item in enumerate(value)]
    return value


def _like_by_id(model: list[Any], value: list[Any]) -> list[Any]:
    known = {item["id"]: (place, item) for place, item in enumerate(model)}
    ordered = sorted(value, key=lambda item: known.get(item["id"], (len(model), None))[0])
    return [_like(known.get(item["id"], (0, None))[1], item) for item in ordered]


def _all_have_ids(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and isinstance(item.get("id"), str) for item in items)


def _with_wires_in_order(workflow: Workflow) -> Workflow:
    """The connections in the order of their nodes, so that a renamed node's stay where they were."""
    place = {node["name"]: number for number, node in enumerate(workflow["nodes"])}
    wires = sorted(workflow["connections"].items(), key=lambda wire: place.get(wire[0], len(place)))
    return {**workflow, "connections": dict(wires)}
