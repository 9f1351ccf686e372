"""An edit made in a real n8n (as its editor makes it) comes back into the files, and no start overwrites it."""

from __future__ import annotations

import http.cookiejar
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import n8n_sync
from devstack.n8n import OWNER_EMAIL

from .conftest import LiveN8n

pytestmark = pytest.mark.e2e

ERRORS = "sluiceErrors0001"


class Editor:
    """The calls that n8n's editor makes."""

    def __init__(self, live: LiveN8n) -> None:
        self._url = f"{live.n8n.url}/rest"
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies)
        self.ask("POST", "/login", emailOrLdapLoginId=OWNER_EMAIL, password=live.n8n.secrets.n8n_owner_password)

    def ask(self, method: str, path: str, **body: Any) -> Any:
        headers = {"Content-Type": "application/json", "browser-id": "a browser"}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        with self._opener.open(request, timeout=20) as answer:
            return json.load(answer)["data"]

    def move_node(self, key: str, name: str, position: list[int]) -> None:
        workflow = self.ask("GET", f"/workflows/{key}")
        next(node for node in workflow["nodes"] if node["name"] == name)["position"] = position
        kept = {part: workflow[part] for part in ("nodes", "connections", "settings", "versionId")}
        self.ask("PATCH", f"/workflows/{key}", **kept)


@pytest.fixture(scope="module")
def edited(live_n8n: LiveN8n) -> Iterator[LiveN8n]:
    """n8n, stopped, with an edit of the error flow that was not exported."""
    Editor(live_n8n).move_node(ERRORS, "Tell the app", [240, 0])
    live_n8n.process.stop()
    yield live_n8n
    assert live_n8n.prepare(force=True) == []
    live_n8n.start()


def place(live: LiveN8n) -> list[int]:
    nodes = live.n8n.stored()[ERRORS].workflow["nodes"]
    return next(node["position"] for node in nodes if node["name"] == "Tell the app")


def test_unedited_workflows_are_in_n8n_as_they_are_in_their_files(live_n8n: LiveN8n) -> None:
    files = n8n_sync.read_files(live_n8n.n8n.app_url, live_n8n.n8n.workflows)
    stored = live_n8n.n8n.stored()
    assert {key: n8n_sync.digest(one.workflow) for key, one in stored.items()} == {
        key: n8n_sync.digest(workflow) for key, workflow in files.items()
    }
    assert all(one.published for one in stored.values())


def test_credentials_are_not_readable_in_the_database(live_n8n: LiveN8n) -> None:
    with live_n8n.n8n.cluster.connect("n8ndb") as connection:
        rows = connection.execute("SELECT id, data FROM credentials_entity").fetchall()
    assert {key for key, _ in rows} == {"sluiceInbound0001", "sluiceInternal001", "sluiceProvider001"}
    assert not any(live_n8n.n8n.secrets.internal_token in data for _, data in rows)


def test_start_without_a_change_runs_nothing(live_n8n: LiveN8n, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveN8n, "run_once", lambda _, command, __: pytest.fail(f"ran {command.argv}"))
    assert live_n8n.prepare() == []


def test_start_does_not_overwrite_the_edit(edited: LiveN8n) -> None:
    (warning,) = edited.prepare()
    assert 'The workflow "Sluice errors" was edited' in warning
    assert place(edited) == [240, 0]


def test_changed_file_does_not_overwrite_the_edit(edited: LiveN8n) -> None:
    file = edited.n8n.workflows / "error.json"
    text = file.read_text()
    file.write_text(text.replace("15000", "16000"))
    try:
        assert len(edited.prepare()) == 1
        assert place(edited) == [240, 0]
    finally:
        file.write_text(text)


def test_export_of_the_edit_is_one_line(edited: LiveN8n, tmp_path: Path) -> None:
    file = edited.n8n.workflows / "error.json"
    old = file.read_text()
    memory = Path(tmp_path / "imported.json")  # a copy: what follows still wants the edit unexported
    memory.write_text((edited.n8n.home / "imported.json").read_text())
    try:
        changed = n8n_sync.export(edited.n8n.stored(), n8n_sync.Memory(memory), edited.n8n.workflows)
        pairs = [(a, b) for a, b in zip(old.splitlines(), file.read_text().splitlines(), strict=True) if a != b]
        assert changed == [file]
        assert [(a.strip(), b.strip()) for a, b in pairs] == [("224,", "240,")]
    finally:
        file.write_text(old)
