"""`pip install ./client` brings the command and the package, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_it_installs_and_runs_on_its_own(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "client", tmp_path / "client")  # setuptools builds beside the sources
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-index", "--target", target]
    subprocess.run([*pip, tmp_path / "client"], check=True, capture_output=True)
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-S", target / "bin/sluice", "--help"]  # -S: without our environment's packages
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    assert "submit" in said
    assert "exit codes:" in said
    assert (target / "sluice_client/py.typed").exists()
