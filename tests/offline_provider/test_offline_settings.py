"""Settings: read once, all faults at once; the README knows each of them."""

import ast
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from offline_provider.settings import BadSettings, Settings

PACKAGE = Path(__file__).resolve().parents[2] / "offline_provider"


def test_defaults_need_only_the_key():
    settings = Settings.from_env({"OFFLINE_PROVIDER_KEY": "k"})
    assert (settings.bind, settings.response_seconds) == ("127.0.0.1:8088", 0)


def test_all_faults_are_reported_at_once():
    env = {"OFFLINE_THREADS": "many", "OFFLINE_VALIDATING_SECONDS": "-1", "OFFLINE_WINDOW_SECONDS": "nan"}
    with pytest.raises(BadSettings) as caught:
        Settings.from_env(env)
    for name in (*env, "OFFLINE_PROVIDER_KEY"):
        assert name in str(caught.value)


def test_secret_may_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text("from-a-file\n")
    assert Settings.from_env({"OFFLINE_PROVIDER_KEY_FILE": str(tmp_path / "key")}).provider_key == "from-a-file"


def test_server_refuses_to_start_without_a_key(tmp_path):
    command = [sys.executable, "-m", "offline_provider"]
    done = subprocess.run(command, cwd=PACKAGE.parent, env={}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "OFFLINE_PROVIDER_KEY" in done.stderr


def test_readme_lists_every_setting_with_its_default():
    readme = (PACKAGE / "README.md").read_text()
    for field in dataclasses.fields(Settings):
        row = next((line for line in readme.splitlines() if f"`{field.metadata['env']}`" in line), None)
        assert row, f"{field.metadata['env']} is not in the README"
        assert f"`{field.default}`" in row or field.default == "", f"{row} does not name {field.default}"


def test_package_imports_nothing_of_the_project():
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] in ("webapp", "devstack")], path
