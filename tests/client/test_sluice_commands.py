"""The other commands of `sluice`, and what it is called with."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from sluice_client import Client, SluiceError, cli, login
from tests.client.conftest import Shell
from tests.client.flaky import Link
from tests.web.test_api_jobs import finish
from webapp.parts import Parts

TEXT = {"text": "All went well."}


def test_profiles_say_what_they_want(shell: Shell) -> None:
    said = shell("profiles").out
    assert "pdf_summary  PDF summary: " in said
    assert "  document  needed; document\n" in said
    assert "  audience  general | expert | executive; default general\n" in said


def test_jobs_are_listed_for_people_and_programs(shell: Shell, sluice: Client) -> None:
    for _ in range(3):
        sluice.create_job("text_classification", TEXT)
    assert [line.split()[:3] for line in shell("jobs", "--limit", "2").out.splitlines()] == [
        ["3", "created", "sync"], ["2", "created", "sync"],
    ]  # fmt: skip
    found = shell("jobs", "--json", "--mode", "now", "--status", "created").out.splitlines()
    assert [json.loads(line)["id"] for line in found] == [3, 2, 1]
    assert shell("jobs", "--mode", "batch").out == ""


def test_what_has_not_started_is_cancelled(shell: Shell, sluice: Client, session: Session, parts: Parts) -> None:
    made = sluice.create_submission("text_classification", [TEXT] * 3)
    finish(session, parts, 1)
    assert shell("cancel", "--submission", str(made["id"])).code == 0
    assert sluice.get_submission(made["id"])["counts"] == {"completed": 1, "cancelled": 2}
    said = shell("cancel", "1", "99")
    assert (said.code, said.err.count("Job 1: "), said.err.count("Job 99: ")) == (1, 1, 1)
    assert "Say which" in shell("cancel").err


def test_login_is_kept_for_its_owner_alone(
    shell: Shell, link: Link, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.delenv("SLUICE_URL")
    monkeypatch.delenv("SLUICE_TOKEN")
    missing = shell("jobs")
    assert (missing.code, "Run `sluice login`" in missing.err) == (2, True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{link.url}\n{token}\n"))
    assert shell("login").code == 0
    path = login.config_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert shell("jobs").code == 0
    path.chmod(0o640)
    said = shell("jobs")
    assert (said.code, f"chmod 600 {path}" in said.err) == (2, True)


def test_a_wrong_login_is_not_kept(shell: Shell, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{link.url}\nsluice_wrong\n"))
    said = shell("login")
    assert (said.code, "sluice_wrong" in said.err) == (3, False)
    assert not login.config_path().exists()


def test_a_saved_token_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    login.save("https://one.example", "secret")
    monkeypatch.delenv("SLUICE_TOKEN", raising=False)
    monkeypatch.setenv("SLUICE_URL", "https://other.example")
    with pytest.raises(SluiceError, match="Only one of"):
        login.load()


def test_what_others_wrote_cannot_steer_the_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"id": 1, "status": "failed", "executionMode": "sync", "createdAt": "2026-11-26T00:00:00Z", "profile": "p",
           "error": {"message": "\x1b]0;owned\x07 \u202e it broke"}}  # fmt: skip
    monkeypatch.setattr(Client, "list_jobs", lambda *_, **__: iter([job]))
    said = shell("jobs").out
    assert said.endswith("it broke\n")
    assert said.removesuffix("\n").isprintable()


def test_a_wrong_command_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as wrong:
        cli.main(["submit", "folder"])
    assert (wrong.value.code, "--profile" in capsys.readouterr().err) == (2, True)


def test_the_codes_are_in_the_readme() -> None:
    readme = (Path(cli.__file__).parent.parent / "README.md").read_text()
    for line in cli.EPILOG.splitlines()[1:]:
        code, meaning = line.split(maxsplit=1)
        assert f"| {code} | {meaning} |" in readme, line
