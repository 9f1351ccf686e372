"""What is said, in one sentence, before anything starts."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from devstack import __main__ as command_line
from devstack import bootstrap, layout, n8n_install, network
from devstack.errors import StackError

BEFORE_THE_VENV = ("__init__", "__main__", "bootstrap", "errors", "layout", "n8n_install", "network")


def test_old_python_is_named() -> None:
    with pytest.raises(StackError, match=r"needs Python 3\.11 or newer and this is 3\.9"):
        bootstrap.check_python((3, 9))
    bootstrap.check_python((3, 11))


@pytest.mark.parametrize("module", BEFORE_THE_VENV)
def test_an_old_python_can_read_the_modules_that_say_so(module: str) -> None:
    source = (layout.CHECKOUT / "devstack" / f"{module}.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    names = [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
    names += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert foreign <= {"devstack"}


def test_missing_venv_module_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name))
    with pytest.raises(StackError, match=r"ensurepip is missing: install it with `apt install python3\.\d+-venv`"):
        bootstrap.check_venv_module()


def test_full_disk_names_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=4_900_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    place = tmp_path / "not" / "there" / "yet"
    with pytest.raises(StackError, match=rf"Only 4\.9 GB are free at {place} and the first start needs 5 GB"):
        bootstrap.check_disk([place])


def test_unreachable_registry_is_named(unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    url = f"http://127.0.0.1:{unused_port}/simple"
    with pytest.raises(
        StackError, match=r"first start installs packages and Python's package index .* cannot be reached"
    ):
        network.check_registry("Python's package index", url)


def test_registry_behind_a_proxy_is_asked_of_the_proxy(unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{unused_port}")
    with pytest.raises(StackError, match="cannot be reached"):
        network.check_registry("npm's registry", "https://npm.example/")


def test_registry_in_a_folder_needs_no_network() -> None:
    network.check_registry("Python's package index", "file:///srv/wheels")


def test_npm_is_not_left_to_try_for_minutes(unused_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{unused_port}/")
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    with pytest.raises(StackError, match=r"npm's registry .* cannot be reached"):
        n8n_install.ensure(lambda _: None)
    assert not n8n_install.is_installed()


def test_what_is_installed_is_not_checked_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("the second start needs neither network nor room")

    monkeypatch.setattr(bootstrap, "_installed", lambda *_: True)
    monkeypatch.setattr(n8n_install, "is_installed", lambda: True)
    for check in ("check_venv_module", "check_disk", "check_registry", "_install"):
        monkeypatch.setattr(bootstrap, check, fail)
    folders = layout.for_folder(tmp_path)
    assert bootstrap.ensure(folders) == folders.venv / "bin/python"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_made_when_a_check_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bootstrap, "FREE_BYTES", 10**18)
    monkeypatch.setattr(bootstrap, "check_registry", lambda *_: None)
    with pytest.raises(StackError, match="make room"):
        bootstrap.ensure(layout.for_folder(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "half done", "other python", "other requirements", "no interpreter"])
def test_damaged_environment_is_noticed(tmp_path: Path, damage: str) -> None:
    wanted = {"app": "1", "stack": "2"}
    venv = tmp_path / "venv"
    if damage != "missing":
        (venv / "bin").mkdir(parents=True)
        (venv / "bin/python").touch()
        known = {"python": sys.version, **wanted}
        changes = {"other python": {"python": "3.12"}, "other requirements": {"app": "0"}}
        (venv / "sluice.json").write_text(bootstrap.json.dumps({**known, **changes.get(damage, {})}))
        if damage == "half done":
            (venv / "sluice.json").unlink()
        if damage == "no interpreter":
            (venv / "bin/python").unlink()
    assert not bootstrap._installed(venv, wanted)


def test_command_line_passes_arguments_through() -> None:
    parse = command_line._parser().parse_args
    assert parse(["test", "-k", "login", "tests/web"]).rest == ["-k", "login", "tests/web"]
    assert parse(["exec", "flask", "doctor", "--help"]).rest == ["flask", "doctor", "--help"]
    assert parse(["exec", "--", "flask", "doctor"]).rest == ["flask", "doctor"]
    assert parse(["exec-dev", "ruff", "check", "."]).command == "tool"
    assert parse(["n8n-import", "--force"]).force
