"""Brings credentials and workflows into a stopped n8n, through its own commands, and only what differs."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devstack import n8n_sync
from devstack.errors import StackError
from devstack.n8n import N8n
from devstack.n8n_sync import Memory, Workflow
from devstack.processes import Command

COMMAND_SECONDS = 300
PARALLEL_COMMANDS = 2  # each takes seconds, nearly all of it to load n8n

RunOnce = Callable[[Command, float], None]


def prepare(n8n: N8n, run_once: RunOnce, *, force: bool = False) -> list[str]:
    """Import what differs from the last import and publish it. Returns a warning for each edit that it spared.

    `run_once` runs a command to its end. `force` overwrites edits made in the editor. Raises StackError when n8n
    refuses a file.
    """
    memory, files = n8n.memory(), n8n_sync.read_files(n8n.app_url, n8n.workflows)
    plan = n8n_sync.plan(files, n8n.stored(), memory, force=force)

    def run(*arguments: str) -> None:
        run_once(n8n.setup_command(*arguments), COMMAND_SECONDS)

    if not _has_credentials(n8n, memory):
        _import_credentials(n8n, run)
        memory.remember_credentials(n8n.credentials_mark())
    if plan.to_import:
        _import_workflows({key: files[key] for key in plan.to_import}, run)
    _remember_what_is_the_same(n8n, files, memory, plan.to_import)
    with ThreadPoolExecutor(PARALLEL_COMMANDS) as pool:
        list(pool.map(lambda key: run("publish:workflow", f"--id={key}"), (*plan.to_import, *plan.to_publish)))
    return plan.warnings


def _has_credentials(n8n: N8n, memory: Memory) -> bool:
    if memory.credentials != n8n.credentials_mark():
        return False
    with n8n.cluster.connect("n8ndb") as connection:
        return n8n_sync.has_credentials(connection, [entry["id"] for entry in n8n.credentials()])


def _import_credentials(n8n: N8n, run: Callable[..., None]) -> None:
    with _private_folder() as folder:
        file = folder / "credentials.json"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            json.dump(n8n.credentials(), handle)
        run("import:credentials", f"--input={file}")


def _import_workflows(files: Mapping[str, Workflow], run: Callable[..., None]) -> None:
    with _private_folder() as folder:
        for key, workflow in files.items():
            (folder / f"{key}.json").write_text(json.dumps(workflow))
        run("import:workflow", "--separate", f"--input={folder}")


def _remember_what_is_the_same(n8n: N8n, files: Mapping[str, Workflow], memory: Memory, imported: list[str]) -> None:
    stored = n8n.stored()
    for key, workflow in files.items():
        if key in stored and n8n_sync.digest(stored[key].workflow) == n8n_sync.digest(workflow):
            memory.remember(key, workflow, n8n.app_url)
        elif key in imported:  # n8n's command says success even when it skipped a file
            raise StackError(f"n8n did not take over the workflow {workflow['name']} as it is in its file.")


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder (mode 0700) that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        yield Path(folder)
