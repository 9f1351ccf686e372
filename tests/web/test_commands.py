"""What operators type: `flask doctor`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from tests.factories import make_job, make_submitted_window, make_user
from webapp.domain.batch_objects import BatchObject
from webapp.domain.errors import UnavailableService
from webapp.models import Job
from webapp.parts import Parts
from webapp.services import accounts
from webapp.services.audit import list_audit
from webapp.services.invariants import INVARIANTS


class ProviderList:
    """The provider's list of batches; one that has ended refuses to be cancelled."""

    def __init__(self, *batches: dict[str, Any]) -> None:
        self.batches = [found for batch in batches if (found := BatchObject.read(batch))]
        self.cancelled: list[str] = []

    def list_since(self, _: object) -> list[BatchObject]:
        return self.batches

    def cancel(self, batch_id: str) -> None:
        if batch_id == "batch_stubborn":
            raise UnavailableService("The provider did not cancel it")
        self.cancelled.append(batch_id)


@pytest.fixture
def run_doctor(make_app: Any, parts: Parts) -> Any:
    def run(*options: str, batches: ProviderList | None = None) -> tuple[int, str]:
        app = make_app()
        app.extensions["sluice"] = replace(parts, batches=batches or ProviderList())
        with app.app_context():  # as the `flask` command has it
            result = app.test_cli_runner().invoke(args=["doctor", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return result.exit_code, result.output

    return run


def test_the_doctor_is_content_with_a_healthy_database(session: Session, parts: Parts, run_doctor: Any) -> None:
    make_job(session, parts, make_user(session))
    count = len(INVARIANTS)
    assert run_doctor() == (0, f"{count} of {count} invariants hold.\n")


def test_the_doctor_names_what_is_broken_and_exits_with_1(session: Session, parts: Parts, run_doctor: Any) -> None:
    job = make_job(session, parts, make_user(session))
    session.execute(update(Job).values(status="processing"))
    session.commit()
    status, said = run_doctor()
    assert status == 1
    assert "BROKEN attempt_is_owned: A sync job that is processing has an execution and a lease" in said
    assert f"- job {job.id} (processing)" in said


def test_the_doctor_stops_running_batches_that_no_window_knows(session: Session, parts: Parts, run_doctor: Any) -> None:
    window = make_submitted_window(session, parts, make_user(session))
    twin = {"input_file_id": window.input_file_id, "status": "in_progress"}
    batches = ProviderList(
        twin | {"id": "batch_ended", "status": "completed"}, twin | {"id": "batch_stubborn"},
        twin | {"id": "batch_runs"}, twin | {"id": "batch_refused", "status": "failed"},
    )  # fmt: skip
    status, said = run_doctor("--provider", "--cancel-strays", batches=batches)
    assert (status, batches.cancelled) == (1, ["batch_runs"])
    assert "batch_refused of window 1: failed unbilled" in said
    assert "4 provider batches that no window knows." in said


def test_after_a_restore_it_never_stops_what_another_sluice_may_have_made(parts: Parts, run_doctor: Any) -> None:
    def made(batch_id: str, **mark: str) -> dict[str, Any]:
        return {"id": batch_id, "status": "in_progress", "metadata": {"sluice_window": "77", **mark}}

    batches = ProviderList(
        made("batch_ours", sluice=parts.settings.public_url), made("batch_theirs", sluice="https://sluice.example"),
        made("batch_older"),
    )  # fmt: skip
    status, said = run_doctor("--restored", "2026-11-26T04:00:00", "--cancel-strays", batches=batches)
    assert (status, batches.cancelled) == (1, ["batch_ours"])
    assert "batch_older of window 77: STRAY, in_progress: it may be billed (it does not say which Sluice" in said
    assert "batch_theirs" not in said


def test_a_failed_create_alone_is_no_reason_to_worry(session: Session, parts: Parts, run_doctor: Any) -> None:
    window = make_submitted_window(session, parts, make_user(session))
    refused = {"id": "batch_refused", "input_file_id": window.input_file_id, "status": "failed"}
    status, _ = run_doctor("--provider", batches=ProviderList(refused))
    assert status == 0


def test_the_first_administrators_password_may_come_as_a_file(
    session: Session, make_app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, file = make_app(), tmp_path / "password"
    monkeypatch.setenv("SLUICE_ADMIN_PASSWORD_FILE", str(file))

    def create() -> tuple[int, str]:
        with app.app_context():
            result = app.test_cli_runner().invoke(args=["create-admin", "--email", "admin@example.org"])
        return result.exit_code, result.output

    assert create() == (1, f"Error: SLUICE_ADMIN_PASSWORD_FILE: No such file or directory: {file}\n")
    file.write_text("correct horse battery\n")
    assert create() == (0, "admin@example.org was created.\n")
    assert accounts.authenticate(session, "admin@example.org", "correct horse battery")


def acknowledge(batch_id: str = "batch_ended", who: str = "admin@example.org", why: str = "a test") -> list[str]:
    return ["--acknowledge", batch_id, "--as", who, "--reason", why]


@pytest.fixture
def strays(session: Session, parts: Parts) -> ProviderList:
    """One batch that no window knows has ended, one still runs."""
    make_user(session, "admin@example.org", role="admin")
    window = make_submitted_window(session, parts, make_user(session))
    twin = {"input_file_id": window.input_file_id}
    counts = {"total": 3, "completed": 2, "failed": 1}
    return ProviderList(
        twin | {"id": "batch_ended", "status": "completed", "request_counts": counts},
        twin | {"id": "batch_runs", "status": "in_progress"},
    )


def test_an_ended_stray_is_reported_until_an_administrator_has_looked_into_it(
    session: Session, run_doctor: Any, strays: ProviderList
) -> None:
    strays.batches = strays.batches[:1]
    status, said = run_doctor("--provider", batches=strays)
    assert status == 1
    assert "batch_ended of window 1: STRAY, completed with 2 answers, which were billed" in said
    status, said = run_doctor(*acknowledge(), batches=strays)
    assert status == 0
    assert "batch_ended of window 1: acknowledged by admin@example.org: a test (completed with 2 answers" in said
    assert run_doctor("--provider", batches=strays)[0] == 0
    [deed] = list_audit(session, target="window:1")
    assert (deed.action, deed.reason, deed.user.email) == ("acknowledge_stray", "a test", "admin@example.org")
    assert deed.detail == {"providerBatch": "batch_ended", "status": "completed", "completed": 2}


def test_a_stray_that_runs_keeps_the_status_at_1(run_doctor: Any, strays: ProviderList) -> None:
    assert run_doctor(*acknowledge(), batches=strays)[0] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (acknowledge("batch_runs"), "batch_runs still runs (in_progress): cancel it first."),
        (acknowledge("batch_foreign"), "lists no batch batch_foreign of ours"),
        (acknowledge(who="alice@example.org"), "There is no administrator alice@example.org."),
        (acknowledge(why=" "), "Say why: it is kept in the audit log."),
    ],
)
def test_what_cannot_be_acknowledged_is_refused_and_noted_nowhere(
    session: Session, run_doctor: Any, strays: ProviderList, options: list[str], words: str
) -> None:
    status, said = run_doctor(*options, batches=strays)
    assert (status, words in said) == (1, True)
    assert list_audit(session) == []
