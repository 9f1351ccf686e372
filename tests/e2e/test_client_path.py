"""The client on the whole system: the commands of its README, and the PDFs of tests/data, in both modes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.stack import Stack
from tests.conftest import DATA, ROOT
from tests.people import Person

pytestmark = pytest.mark.e2e
README = (ROOT / "client/README.md").read_text()
Bash = Callable[[str], "subprocess.CompletedProcess[str]"]
PATIENCE_SECONDS = 180


@pytest.fixture
def login(stack: Stack, person: Person) -> str:
    """What `sluice login` asks for."""
    return f"{stack.web_url}\n{person.make_token()}\n"


@pytest.fixture
def bash(login: str, tmp_path: Path) -> Bash:
    """A shell in a folder of its own, with `sluice` and nothing of ours in its environment."""
    program = tmp_path / "bin/sluice"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT}/client exec {sys.executable} -m sluice_client "$@"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "LANG": "C.UTF-8"}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line], input=login, env=environment, cwd=tmp_path, capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    return run


def test_each_command_of_the_readme_works(bash: Bash, tmp_path: Path) -> None:
    (tmp_path / "invoices").mkdir()
    for name in ("two-pages.pdf", "debian-history.pdf"):
        shutil.copy(DATA / name, tmp_path / "invoices")
    (tmp_path / "texts.jsonl").write_text('{"text": "All went well."}\n{"text": "It broke."}\n')
    [block] = re.findall(r"^```\n(.+?)^```$", README, re.MULTILINE | re.DOTALL)
    ids: list[str] = []

    def own_id(found: re.Match[str]) -> str:
        return f"{found[1]} {ids[int(found[2]) - 1]}"

    for line in block.splitlines():
        own = re.sub(r"(watch|results|--submission) (\d)", own_id, line)
        said = bash(own)
        assert said.returncode == 0, f"{own}\n{said.stdout}{said.stderr}"
        ids += said.stdout.split() if "submit" in line else []
    assert "cancelled" in said.stderr  # the last: the batch window of two was never full
    written = sorted((tmp_path / "summaries").iterdir())
    assert [re.sub(r"\d+", "N", path.name) for path in written] == ["debian-history-N.md", "two-pages-N.md"]
    assert all(len(path.read_text()) > 20 for path in written)


def test_what_sluice_takes_of_a_folder_is_summarised(bash: Bash, tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    bash("sluice login")
    refused = bash("sluice submit data --profile pdf_summary --out out")
    assert (refused.returncode, "not-a-pdf.pdf: " in refused.stderr) == (3, True)
    said = bash("sluice submit data --profile pdf_summary --skip-bad --out out")
    assert said.returncode == 0, said.stderr
    names = {re.sub(r"-\d+\.md$", ".pdf", path.name) for path in (tmp_path / "out").iterdir()}
    assert {"debian-history.pdf", "two-pages.pdf"} <= names < {path.name for path in DATA.glob("*.pdf")}


def test_a_folder_goes_through_a_batch_window(bash: Bash, tmp_path: Path) -> None:
    (tmp_path / "three").mkdir()
    for number in range(3):
        shutil.copy(DATA / "two-pages.pdf", tmp_path / f"three/{number}.pdf")
    bash("sluice login")
    said = bash("sluice submit three --profile pdf_summary --mode batch --out out")
    assert said.returncode == 0, said.stderr
    assert "3 of 3 · 3 completed" in said.stderr
    assert len([*(tmp_path / "out").glob("*.md")]) == 3
