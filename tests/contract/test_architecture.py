"""Imports run one way, and states change in one place. The house rules, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from webapp.config import ROOT

LAYERS = {
    # layer: what it may import of the app
    "domain": {"domain"},
    "models": {"domain", "models"},
    "gateways": {"domain", "gateways"},
    "services": {"config", "domain", "gateways", "models", "services"},
    "views": {"domain", "extensions", "models", "parts", "services", "views"},
}
# Below the views nobody knows the web. (models.user has Flask-Login's mixin.)
WEB = {"flask", "flask_login", "flask_wtf", "wtforms", "htmx_flask", "werkzeug"}
MAY_KNOW_THE_WEB = {"webapp/models/user.py"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    for path in modules(f"webapp/{layer}"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "webapp":
                assert parts[1] in LAYERS[layer], f"{path.relative_to(ROOT)} must not import {name}"


@pytest.mark.parametrize("layer", ["domain", "models", "gateways", "services"])
def test_only_views_know_the_web(layer: str) -> None:
    for path in modules(f"webapp/{layer}"):
        known = {name.split(".")[0] for name in imports(path)} & WEB
        assert not known or str(path.relative_to(ROOT)) in MAY_KNOW_THE_WEB, f"{path} imports {known}"


def test_the_offline_provider_is_an_app_of_its_own() -> None:
    for path in modules("offline_provider"):
        assert not {name.split(".")[0] for name in imports(path)} & {"webapp", "devstack"}, path


def test_states_are_written_in_lifecycle_only() -> None:
    for path in modules("webapp/services"):
        if path.name == "lifecycle.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                assert not any(isinstance(t, ast.Attribute) and t.attr == "status" for t in targets), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values":
                written = {keyword.arg for keyword in node.keywords}
                assert "status" not in written, f"{path.name} line {node.lineno} writes a status"
        assert "SET status" not in path.read_text(), path


def test_no_profile_is_named_in_the_app() -> None:
    names = [path.stem for path in (ROOT / "profiles").glob("*.json") if not path.name.endswith(".schema.json")]
    assert names
    for path in [*modules("webapp"), *(ROOT / "webapp/templates").rglob("*.html")]:
        text = path.read_text()
        assert not [name for name in names if name in text], path
