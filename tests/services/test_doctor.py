"""The doctor: a healthy database passes, and each invariant notices what breaks it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.factories import (
    end_batch,
    items_of,
    make_job,
    make_queued_jobs,
    make_submitted_window,
    make_user,
    make_window,
    output_line,
)
from webapp.domain.batch_objects import BatchObject
from webapp.models import BatchWindow
from webapp.parts import Parts
from webapp.services import batch_ingest, costs, doctor, webhooks
from webapp.services.invariants import INVARIANTS

OLD = "now() - interval '1 day'"
# invariant: what somebody did to the database of `lived_in`. Constraints that would refuse it are dropped first.
SABOTAGE = {
    "job_ends": "UPDATE jobs SET finished_at = now() WHERE status = 'queued'",
    "window_ends": "UPDATE batch_windows SET finished_at = NULL WHERE status = 'completed'",
    "end_is_told": "DELETE FROM job_events WHERE to_status = 'completed'",
    "request_is_there": "UPDATE job_requests SET body = NULL",
    "one_ride": "UPDATE jobs SET status = 'claimed' WHERE status = 'queued'",
    "items_close": "UPDATE batch_items SET outcome = NULL WHERE outcome = 'completed'",
    "sum_closes": "UPDATE batch_windows SET job_count = job_count + 1 WHERE status = 'completed'",
    "result_is_paid": "DELETE FROM ledger WHERE id = (SELECT min(id) FROM ledger)",
    "paid_once": "INSERT INTO ledger (job_id, attempt, answer_key, reason, user_id, profile_id, execution_mode, "
    "answered_at, recorded_at) SELECT job_id, 7, answer_key, 'discarded', user_id, profile_id, 'batch', now(), now() "
    "FROM ledger LIMIT 1",
    "amounts_are_sums": "UPDATE ledger SET amount = amount * 2",
    "roll_ups_are_sums": "UPDATE cost_days SET amount = amount * 2",
    "one_batch": "UPDATE batch_windows SET input_file_id = 'file-1'",
    "attempt_is_owned": "UPDATE jobs SET status = 'processing' WHERE status = 'created'",
    "leases_end": f"UPDATE jobs SET status = 'processing', execution_id = 'e', lease_until = {OLD} "
    "WHERE status = 'created'",
    "wishes_are_heard": f"UPDATE batch_windows SET cancel_requested_at = {OLD} WHERE status = 'open'",
    "steps_are_taken": f"UPDATE batch_windows SET due_at = {OLD} WHERE status = 'open'",
    "jobs_are_started": f"UPDATE jobs SET dispatched_at = {OLD}, created_at = {OLD} WHERE status = 'created'",
    "messages_are_sent": f"UPDATE webhook_deliveries SET due_at = {OLD}",
    "documents_are_there": "UPDATE documents SET deleted_at = now(), provider_file_id = 'file-9'",
}
CONSTRAINTS = (
    ("jobs", "ck_jobs_terminal_iff_finished"),
    ("batch_windows", "ck_batch_windows_terminal_iff_finished"),
)


@pytest.fixture
def lived_in(session: Session, parts: Parts) -> BatchWindow:
    """A database with a bit of everything: a window that has ended, one that is open, jobs that wait in both modes."""
    user = make_user(session)
    window = make_submitted_window(session, parts, user)
    lines = [output_line(item) for item in items_of(session, window)]
    lease = end_batch(session, parts, window, "completed", output=lines)
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    make_window(session, parts, user)
    make_queued_jobs(session, parts, user, 2)
    make_job(session, parts, user)
    webhook, _ = webhooks.create_webhook(session, parts.settings, user, "https://example.org/hook")
    webhooks.send_test(session, webhook)
    costs.roll_up(session)
    return window


def test_a_healthy_database_passes(session: Session, parts: Parts, lived_in: BatchWindow) -> None:
    assert doctor.examine(session, parts.settings) == []


def test_every_invariant_has_its_sabotage() -> None:
    assert [invariant.name for invariant in INVARIANTS] == list(SABOTAGE)


@pytest.mark.parametrize("name", list(SABOTAGE))
def test_what_breaks_an_invariant_is_named(session: Session, parts: Parts, lived_in: BatchWindow, name: str) -> None:
    for table, constraint in CONSTRAINTS:
        session.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"))
    session.execute(text(SABOTAGE[name]))
    found = {finding.name: finding for finding in doctor.examine(session, parts.settings)}  # rolls back
    assert name in found
    assert found[name].count >= 1
    assert any(character.isdigit() or ":" in character for character in found[name].what[0])


class ProviderList:
    """The provider's list of batches."""

    def __init__(self, *batches: dict[str, Any]) -> None:
        self.batches = batches
        self.since: datetime | None = None

    def list_since(self, moment: datetime | None) -> Iterable[BatchObject]:
        self.since = moment
        return [found for batch in self.batches if (found := BatchObject.read(batch))]


def test_a_provider_batch_that_no_window_knows_is_found(session: Session, parts: Parts, lived_in: BatchWindow) -> None:
    ours = {"id": lived_in.provider_batch_id, "input_file_id": "file-1", "status": "completed"}
    listed = ProviderList(
        ours, ours | {"id": "batch_twin", "status": "in_progress"}, ours | {"id": "batch_refused", "status": "failed"},
        {"id": "batch_foreign", "input_file_id": "file-of-somebody-else", "status": "in_progress"},
    )  # fmt: skip
    strays = doctor.find_strays(session, parts.settings, listed)  # type: ignore[arg-type]
    assert [(stray.provider_batch_id, stray.window_id, stray.is_harmless) for stray in strays] == [
        ("batch_twin", lived_in.id, False), ("batch_refused", lived_in.id, True),
    ]  # fmt: skip
    assert listed.since is not None
    assert listed.since <= datetime.now(UTC) + timedelta(seconds=1)
