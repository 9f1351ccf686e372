"""Every hot query finds its rows by the index that is meant for it, beside 50,000 jobs on the books.

The app's own functions are run, and what they ask PostgreSQL is explained at that very moment, with Seq Scan switched
off: where a plan has one all the same, no index fits. EXPLAIN counts the rows of each step, too: an index that is read
from end to end, or a sort of a whole table, is no better than a Seq Scan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

from tests import books as on_the_books
from tests.books import Books
from tests.factories import output_line, response
from webapp.config import Settings
from webapp.domain.answers import read_answer
from webapp.domain.states import ExecutionMode, JobStatus, WindowStatus
from webapp.domain.windows import Step
from webapp.models import Base, BatchItem, BatchWindow, Job, Submission, User, Webhook
from webapp.parts import Parts, build_parts
from webapp.services import (
    accounts,
    attempts,
    audit,
    batch_files,
    batch_ingest,
    batches,
    benchmark_figures,
    benchmarks,
    budgets,
    cost_entries,
    cost_reports,
    costs,
    deadlines,
    dispatch,
    document_lists,
    documents,
    estimates,
    failure_reports,
    failures,
    health,
    history,
    idempotency,
    ingest,
    job_exports,
    job_lists,
    job_search,
    jobs,
    latency,
    lifecycle,
    prepared,
    reporting,
    retention,
    retries,
    sign_ins,
    submissions,
    timeline,
    users,
    vitals,
    waiting,
    webhook_delivery,
    webhooks,
    window_reports,
    windows,
)
from webapp.services.clock import clock
from webapp.services.job_lists import Wanted

DAY = timedelta(days=1)
ROWS = 600  # that a step may read: a user has 500 jobs, a window 1,000 (see there), and a list shows a page
# A few rows each, however many jobs there are.
SMALL = {"users", "queues", "heartbeats", "test_clock", "roll_ups", "budgets", "profile_versions", "webhooks",
         "benchmark_runs", "provider_models"}  # fmt: skip
EXPLAINED = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b")
COPIED_OUT = re.compile(r"\s*COPY \((.*)\) TO STDOUT.*", re.DOTALL)


@dataclass(frozen=True)
class Look:
    """What a hot path is asked with."""

    session: Session
    parts: Parts
    books: Books
    folder: Path

    @property
    def both(self) -> tuple[Session, Settings]:
        return self.session, self.parts.settings

    @property
    def user(self) -> User:
        return self.session.get_one(User, self.books.user)

    def one(self, model: Any, id_: int) -> Any:
        return self.session.get_one(model, id_)

    def wanted(self, **changes: Any) -> Wanted:
        return Wanted(**{"user_id": self.books.user, **changes})

    def ago(self, days: float) -> Any:
        return clock(self.session) - days * DAY


@dataclass(frozen=True)
class Hot:
    do: Callable[[Look], object]
    indexes: str  # of the tables that grow; a|b: either is right
    most: int = ROWS  # rows that one step reads


def _ingest(it: Look) -> None:
    """Both kinds of lines, and a few that are missing."""
    window = it.session.scalars(select(BatchWindow).where(BatchWindow.provider_batch_id == "batch_rides_1")).one()
    window.provider_status, window.lease_step, window.lease_token = "completed", Step.INGEST, "token"
    window.lease_until = it.ago(-1)
    it.session.flush()
    items = it.session.scalars(select(BatchItem).where(BatchItem.window_id == window.id)).all()
    refusal = {"error": {"code": "content_filter", "message": "It was stopped."}}
    lines = [
        output_line(one, response(f"{one.job_id}")) if one.job_id % 5 else output_line(one, refusal, 400)
        for one in items[5:]
    ]
    batch_ingest.ingest_window(
        *it.both, it.parts.prices, it.parts.files, window_id=window.id, token="token", items=lines
    )


def _submit(it: Look) -> None:
    """The provider has the batch: the window's jobs move."""
    window_id = it.session.scalars(select(BatchItem.window_id).where(BatchItem.job_id == it.books.riding)).one()
    lifecycle.submit_window_jobs(it.session, window_id, now=it.ago(0))


def _write_back(it: Look) -> None:
    job_id = next(id_ for id_ in range(it.books.sync, it.books.riding) if id_ % 50 == 0)
    body = response()
    ingest.record_answer(*it.both, it.parts.prices, job_id=job_id, attempt=1, execution_id=f"e{job_id}",
                         answer=read_answer(200, body), raw=body, elapsed_ms=1)  # fmt: skip


def _create(it: Look) -> None:
    run = {"text": "The gate was opened.", "labels": "good, bad", "executionMode": "batch"}
    jobs.create_jobs(it.session, it.parts.settings, it.parts.profiles, it.parts.prices, user=it.user,
                     profile_id="text_classification", runs=[run])  # fmt: skip


def _history(**filters: Any) -> Callable[[Look], object]:
    """The page and the tally of the history with a filter; `days` are those since which, and until which."""
    days = filters.pop("days", None)

    def do(it: Look) -> None:
        since, until = days or (None, None)
        times = {"created_after": since and it.ago(since), "created_before": until and it.ago(until)}
        wanted = it.wanted(**times, **filters)
        history.list_page(it.session, wanted)
        history.tally(it.session, wanted)

    return do


CLAIM = "ix_jobs_claim ix_jobs_claim_by_deadline pk_batch_windows pk_job_requests pk_jobs"
LINES = "pk_documents pk_job_documents pk_job_results"  # of jobs: their answers, and the names of their documents
FACTS = "pk_ledger ix_cost_days_user|pk_cost_days"  # of the costs of users: those of a month may be few
# What is left out reads all there is, and is meant to: the roll-ups of all times (what is unknown), the budget of a
# profile (all its unfinished jobs), a whole export, `flask doctor`, the actions of the audit log, sign-in failures (a
# day of them). And of everybody's history the filters by profile and mode: a rare one is looked for among all jobs.
HOT = {
    # the batch path
    "claim": Hot(
        lambda it: batches.open_window(*it.both, it.parts.profiles, queue_id=it.books.queue, actor="test"),
        CLAIM,
    ),
    "claim by deadline": Hot(
        lambda it: batches.open_window(*it.both, it.parts.profiles, queue_id=it.books.deadline_queue, actor="test"),
        CLAIM,
    ),
    "queues": Hot(
        lambda it: batches.list_queues(*it.both, it.parts.profiles, at_most=500),
        "ix_jobs_claim ix_jobs_claim_by_deadline pk_job_requests", most=1_500,
    ),
    "is a queue ready": Hot(
        lambda it: batches.has_ready_queue(*it.both, it.parts.profiles),
        "ix_jobs_claim ix_jobs_claim_by_deadline pk_job_requests",
    ),
    "lease a step": Hot(lambda it: windows.lease_due_window(*it.both), "ix_batch_windows_due"),
    "is a step due": Hot(lambda it: windows.has_due_window(it.session), "ix_batch_windows_due"),
    "input file": Hot(
        lambda it: batch_files.write_input(it.session, it.books.window, it.folder / "input.jsonl"),
        "pk_job_requests uq_batch_items_window_id_job_id", most=1_000,
    ),
    "submit a window": Hot(
        _submit,
        "ix_batch_items_job_id|uq_batch_items_one_open_per_job pk_jobs uq_batch_items_window_id_job_id",
        most=2_000,  # open items of all windows
    ),
    "ingest": Hot(
        _ingest,
        "ix_batch_items_job_id ix_batch_windows_queue_newest pk_batch_items pk_batch_windows pk_jobs"
        " uq_batch_items_one_open_per_job uq_batch_items_window_id_job_id uq_batch_windows_provider_batch_id"
        " uq_job_answers_job_id_attempt_answer_key", most=2_000,  # open items of all windows
    ),
    # the sync path
    "submit": Hot(
        _create,
        "ix_jobs_profile_completed pk_job_requests pk_job_results uq_ledger_job_id_attempt_answer_key"
    ),
    "dispatch": Hot(
        lambda it: dispatch.dispatch_due(*it.both, it.parts.profiles, it.parts.n8n),
        "ix_jobs_dispatch ix_jobs_lease pk_jobs",
    ),
    "start": Hot(
        lambda it: dispatch.start_attempt(*it.both, job_id=it.books.sync, attempt=1, execution_id="e"),
        "pk_job_requests pk_jobs",
    ),
    "write-back": Hot(_write_back, "pk_job_requests pk_jobs"),
    "failed execution": Hot(
        lambda it: failures.record_failed_execution(
            *it.both, execution_id="e", workflow="run", last_node="Ask", message="It failed."),
        "ix_jobs_lease",
    ),
    # each beat of the heartbeat
    "stale leases": Hot(lambda it: dispatch.end_overdue_attempts(*it.both), "ix_jobs_lease"),
    "overdue jobs": Hot(lambda it: dispatch.end_overdue_jobs(*it.both), "ix_jobs_started_before"),
    "cut-offs": Hot(lambda it: deadlines.cut_off_windows(it.session), "ix_batch_windows_due"),
    "cancelled unsent": Hot(lambda it: windows.end_cancelled_unsent(it.session), "ix_batch_windows_due"),
    "deadlines": Hot(
        lambda it: deadlines.run_due_jobs_now(*it.both),
        "ix_jobs_due pk_batch_windows uq_batch_items_one_open_per_job",
    ),
    "benchmark runs": Hot(lambda it: benchmarks.advance(*it.both, it.parts.profiles, it.parts.prices), ""),
    "ended submissions": Hot(
        lambda it: submissions.end_submissions(it.session, clock(it.session)),
        "ix_jobs_user_unfinished ix_submissions_unfinished pk_submissions",
    ),
    "due messages": Hot(lambda it: webhook_delivery.due_webhooks(it.session, set(), 8), "ix_webhook_deliveries_due"),
    "claim a message": Hot(
        lambda it: webhook_delivery.claim(it.session, "key", 1),
        "ix_webhook_deliveries_due pk_jobs pk_webhook_deliveries",
    ),
    # each minute of the heartbeat
    "vitals": Hot(
        lambda it: vitals.write_line(*it.both, it.parts.profiles, {}),
        "ix_batch_windows_keeps_files ix_jobs_claim ix_jobs_claim_by_deadline pk_job_requests",
        most=1_800,  # all that are queued
    ),
    "roll up": Hot(lambda it: costs.roll_up(it.session), "pk_ledger"),
    "old requests": Hot(
        lambda it: retention.delete_requests(*it.both), "ix_jobs_keeps_request pk_job_requests pk_jobs", most=1_000
    ),
    "old documents": Hot(
        lambda it: retention._withdraw_documents(*it.both),
        "ix_documents_keeps_bytes ix_documents_withdrawn ix_job_documents_document_id pk_documents pk_jobs",
    ),
    "old files of windows": Hot(lambda it: retention._due_windows(*it.both), "ix_batch_windows_keeps_files"),
    "old messages": Hot(
        lambda it: webhooks.delete_old(*it.both), "ix_webhook_deliveries_created_at pk_webhook_deliveries"
    ),
    "old keys": Hot(
        lambda it: idempotency.delete_old(it.session), "ix_idempotency_keys_created_at pk_idempotency_keys"
    ),
    # each request
    "session": Hot(lambda it: accounts.load_session_user(it.session, "1.0"), ""),
    "token": Hot(lambda it: accounts.find_bearer(it.session, "sluice_"), "uq_api_tokens_token_hash"),
    "sign in": Hot(lambda it: sign_ins.sign_in(it.session, "a@example.org", "wrong", address="192.0.2.1"), ""),
    "idempotency key": Hot(
        lambda it: idempotency.find(it.session, idempotency.Request(1, "key-100", "")), "pk_idempotency_keys"
    ),
    "budget of a user": Hot(
        lambda it: budgets.budgets_of(it.session, user_id=it.books.user),
        f"ix_jobs_user_unfinished ix_ledger_unknown pk_job_requests uq_ledger_job_id_attempt_answer_key {FACTS}",
    ),
    # the history, and what the API lists
    "history": Hot(lambda it: history.list_page(it.session, it.wanted()), f"ix_jobs_user_newest {LINES}"),
    "history far back": Hot(
        lambda it: history.list_page(it.session, it.wanted(), before=20_000), f"ix_jobs_user_newest {LINES}"
    ),
    "history, newer": Hot(
        lambda it: history.list_page(it.session, it.wanted(), after=20_000), f"ix_jobs_user_newest {LINES}"
    ),
    "history, tally": Hot(lambda it: history.tally(it.session, it.wanted()), "ix_jobs_user_newest"),
    "history, failed": Hot(_history(status=JobStatus.FAILED), f"ix_jobs_user_ended {LINES}"),
    "history, queued": Hot(_history(status=JobStatus.QUEUED), f"ix_jobs_user_unfinished {LINES}"),
    "history, completed": Hot(_history(status=JobStatus.COMPLETED), f"ix_jobs_user_newest {LINES}"),
    "history, sync": Hot(_history(execution_mode=ExecutionMode.SYNC), f"ix_jobs_user_newest {LINES}"),
    "history, a day": Hot(_history(days=(20, 19)), f"ix_jobs_user_newest pk_jobs {LINES}"),
    "history, a document": Hot(
        _history(document_id=102), f"ix_job_documents_document_id ix_jobs_user_newest|pk_jobs pk_jobs {LINES}"
    ),
    "history, a submission": Hot(
        _history(submission_id=302), f"ix_jobs_submission ix_jobs_user_newest|ix_jobs_submission {LINES}"
    ),
    "history of all": Hot(_history(user_id=None), f"pk_jobs {LINES}", most=history.MOST_COUNTED + 1),
    "history of all, since": Hot(_history(user_id=None, days=(1, None)), f"pk_jobs {LINES}", most=6_500),  # unfinished
    "history of all, a day": Hot(_history(user_id=None, days=(20, 19)), f"pk_jobs {LINES}", most=2_000),  # 1 of 30
    "history of all, expired": Hot(_history(user_id=None, status=JobStatus.EXPIRED), f"ix_jobs_user_ended {LINES}"),
    "API: jobs": Hot(
        lambda it: job_lists.find_jobs(it.session, it.wanted(), after=20_000, size=50), "ix_jobs_user_newest"
    ),
    "export, a portion": Hot(
        lambda it: next(job_exports.export_jobs(it.session, it.wanted(), "jsonl")),
        f"ix_jobs_user_newest uq_ledger_job_id_attempt_answer_key {LINES}",
    ),
    "search": Hot(
        lambda it: job_search.search(it.session, "report-77", user_id=it.books.user),
        "ix_documents_user_newest ix_job_answers_answer_key ix_job_documents_document_id pk_batch_items"
        " uq_batch_windows_provider_batch_id",
    ),
    "search of a user": Hot(lambda it: job_search.find_owner(it.session, "user3@example.org"), ""),
    # a job's page and its poll
    "poll": Hot(
        lambda it: timeline.look(it.session, it.books.finished, user_id=it.books.user),
        "ix_batch_items_job_id ix_job_events_job_id ix_window_events_window_id pk_jobs",
    ),
    "glance": Hot(
        lambda it: timeline.glance(it.session.connection(), it.books.finished, user_id=it.books.user, epoch=0),
        "ix_batch_items_job_id ix_job_events_job_id ix_window_events_window_id pk_jobs",
    ),
    "job": Hot(
        lambda it: jobs.get_job(it.session, it.books.finished, user_id=it.books.user), "pk_job_results pk_jobs"
    ),
    "timeline": Hot(
        lambda it: timeline.timeline_of(it.session, it.books.finished),
        "ix_batch_items_job_id ix_job_events_job_id ix_window_events_window_id",
    ),
    "attempts": Hot(
        lambda it: attempts.attempts_of(it.session, it.one(Job, it.books.finished), []),
        "ix_batch_items_job_id ix_job_events_job_id pk_batch_windows pk_jobs",
    ),
    "cost of a job": Hot(
        lambda it: reporting.job_cost(it.session, it.books.finished), "uq_ledger_job_id_attempt_answer_key"
    ),
    "repeats of a job": Hot(lambda it: jobs.repeats_of(it.session, 1_000), "ix_jobs_retry_of"),
    "repeated among": Hot(lambda it: retries.repeated_among(it.session, [1_000, 2_000]), "ix_jobs_retry_of"),
    "why it rides": Hot(
        lambda it: waiting.why_waiting(*it.both, it.parts.profiles, it.one(Job, it.books.riding)),
        "pk_batch_windows pk_jobs uq_batch_items_one_open_per_job",
    ),
    # documents and submissions
    "documents": Hot(
        lambda it: document_lists.list_page(it.session, it.books.user),
        "ix_documents_user_newest ix_job_documents_document_id ix_jobs_user_unfinished|pk_jobs pk_documents",
    ),
    "documents of a job": Hot(
        lambda it: documents.documents_of(it.session, it.books.user, [102, 202]),
        "ix_documents_user_newest|pk_documents",
    ),
    "submissions": Hot(
        lambda it: submissions.list_progress(it.session, user_id=it.books.user),
        "ix_jobs_submission ix_submissions_user_newest", most=1_000,
    ),
    "submission": Hot(
        lambda it: submissions.get_progress(it.session, it.books.submission, user_id=it.books.user),
        "ix_jobs_submission ix_submissions_user_newest|pk_submissions",
    ),
    "jobs of a submission": Hot(
        lambda it: submissions.list_jobs(it.session, it.books.large_submission), f"ix_jobs_submission {LINES}"
    ),
    "results of a submission": Hot(
        lambda it: next(job_lists.results_of(it.session, it.books.submission)), f"ix_jobs_submission {LINES}"
    ),
    "first that waits": Hot(
        lambda it: submissions.first_waiting(it.session, it.one(Submission, it.books.large_submission)),
        "ix_jobs_user_unfinished pk_submissions",
    ),
    "cost of a submission": Hot(
        lambda it: submissions.cost_so_far(it.session, it.books.submission),
        "ix_jobs_submission uq_ledger_job_id_attempt_answer_key",
    ),
    "calibration": Hot(
        lambda it: estimates.calibrate(it.session, "text_classification"),
        "ix_jobs_profile_completed pk_job_requests pk_job_results uq_ledger_job_id_attempt_answer_key",
    ),
    "webhooks": Hot(
        lambda it: webhooks.list_webhooks(it.session, it.user), "ix_webhook_deliveries_due ix_webhook_deliveries_newest"
    ),
    "messages of a webhook": Hot(
        lambda it: webhooks.list_deliveries(it.session, it.one(Webhook, 1)), "ix_webhook_deliveries_newest"
    ),
    "tokens": Hot(lambda it: accounts.list_tokens(it.session, it.user), "ix_api_tokens_user_id"),
    # the admin pages and /metrics
    "jobs of all": Hot(lambda it: jobs.list_jobs(it.session), "pk_jobs"),
    "sync jobs": Hot(
        lambda it: vitals.sync_figures(it.session),
        "ix_job_events_job_id ix_jobs_dispatch ix_jobs_lease pk_jobs", most=700,  # all that were created
    ),
    "ended lately": Hot(lambda it: vitals.ended_since(it.session, it.ago(0.1)), "ix_jobs_keeps_request"),
    "errors of the provider": Hot(
        lambda it: vitals.provider_errors(it.session, it.ago(1)), "ix_job_answers_errors ix_window_events_refused"
    ),
    "counts of windows": Hot(
        lambda it: vitals.window_figures(it.session),
        "ix_batch_windows_attention ix_batch_windows_due ix_batch_windows_ended", most=6_000,  # all, in their index
    ),
    "latency": Hot(
        lambda it: latency.by_hour(it.session, it.ago(0)), "ix_jobs_keeps_request", most=2_000  # of a day
    ),
    "failures": Hot(
        lambda it: failure_reports.job_failures(it.session, DAY), "ix_jobs_failed pk_jobs", most=2_000
    ),
    "failed executions": Hot(
        lambda it: failure_reports.execution_failures(it.session, DAY), "ix_execution_failures_reported_at"
    ),
    "health of windows": Hot(
        lambda it: health._windows(it.session, it.ago(0)), "ix_batch_windows_due ix_batch_windows_keeps_files"
    ),
    "windows": Hot(lambda it: window_reports.list_windows(it.session), "pk_batch_windows"),
    "windows of a queue": Hot(
        lambda it: window_reports.list_windows(it.session, queue_id=it.books.deadline_queue),
        "ix_batch_windows_queue_newest",
    ),
    "windows that failed": Hot(
        lambda it: window_reports.list_windows(it.session, which=WindowStatus.FAILED), "ix_batch_windows_ended"
    ),
    "windows under way": Hot(
        lambda it: window_reports.list_windows(it.session, which=WindowStatus.SUBMITTED), "ix_batch_windows_due"
    ),
    "windows to look at": Hot(
        lambda it: window_reports.list_windows(it.session, which="attention"), "ix_batch_windows_attention"
    ),
    "items of a window": Hot(
        lambda it: window_reports.window_items(it.session, it.books.window), "pk_jobs uq_batch_items_window_id_job_id"
    ),
    "outcomes of a window": Hot(
        lambda it: window_reports.window_outcomes(it.session, it.books.window),
        "uq_batch_items_window_id_job_id", most=1_000,
    ),
    "costs of a window": Hot(
        lambda it: window_reports.window_costs(it.session, it.books.window),
        "uq_batch_items_window_id_job_id uq_ledger_job_id_attempt_answer_key", most=1_000,
    ),
    "events of a window": Hot(
        lambda it: window_reports.window_events(it.session, it.books.window), "ix_window_events_window_id"
    ),
    "costs of a user": Hot(
        lambda it: cost_reports.report(
            it.session, cost_reports.Scope(it.ago(30).date(), it.ago(0).date(), user_id=it.books.user)),
        "ix_cost_days_user ix_ledger_lost pk_ledger uq_ledger_job_id_attempt_answer_key",
    ),
    "unknown costs": Hot(
        lambda it: cost_entries.list_unknown(it.session, cost_reports.Scope(it.ago(30).date(), it.ago(0).date())),
        "ix_ledger_unknown uq_ledger_job_id_attempt_answer_key",
    ),
    "benchmark run": Hot(
        lambda it: benchmark_figures.latest(it.session),
        "ix_benchmark_samples_run_id pk_jobs uq_ledger_job_id_attempt_answer_key",
    ),
    "unfinished jobs of a user": Hot(
        lambda it: users.unfinished_jobs(it.session, it.books.user), "ix_jobs_user_unfinished"
    ),
    "audit": Hot(lambda it: audit.list_audit(it.session), "pk_audit_events"),
    "audit of a queue": Hot(lambda it: audit.list_audit(it.session, target="queue:7"), "ix_audit_events_target"),
}  # fmt: skip
# Indexes that no query above needs: they are rules (unique ones, and the keys of tables), or the hot path is elsewhere.
ELSEWHERE = {
    "ix_cost_days_profile": "the budget of a profile",
    "ix_jobs_profile_unfinished": "the same",
    "ix_cost_hours_user": "the version before, which may run beside this one",
    "ix_cost_hours_profile": "the same",
    "ix_benchmark_runs_running": "each beat, of a table that stays small",
    "ix_webhooks_user_id": "the outbox, of a table that stays small",
}


@pytest.fixture(scope="module")
def filled(engine: Engine, base_settings: Settings) -> Iterator[Books]:
    """Filled once; each test rolls back what it does. The next module finds empty tables, as always."""
    found = on_the_books.fill(engine, build_parts(base_settings))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET default_statistics_target = 200"))  # every row is looked at: no plan is chance
        connection.execute(text("VACUUM ANALYZE"))
    yield found
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))


Plan = Mapping[str, Any]


@contextmanager
def looking(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Session, list[Plan]]]:
    """A session, and the plans of what it asks. Whatever it commits is gone afterwards."""
    plans: list[Plan] = []

    def explain(driver: Any, statement: str, values: Any) -> None:
        driver.execute("SAVEPOINT explained")
        [[[plan]]] = driver.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values).fetchall()
        driver.execute("ROLLBACK TO SAVEPOINT explained")
        plans.append(plan["Plan"])

    def copy(cursor: Any, statement: Any, values: Any = None, **more: Any) -> Any:
        if isinstance(statement, str) and (found := COPIED_OUT.fullmatch(statement)):
            explain(cursor.connection, found[1].strip(), values)
        return own_copy(cursor, statement, values, **more)

    def execute(cursor: Any, statement: Any, values: Any = None, **more: Any) -> Any:
        if cursor.row_factory.__module__ == prepared.__name__ and EXPLAINED.match(statement):
            explain(cursor.connection, statement, values)
        return own_execute(cursor, statement, values, **more)

    own_copy, own_execute = psycopg.Cursor.copy, psycopg.Cursor.execute
    monkeypatch.setattr(psycopg.Cursor, "copy", copy)
    monkeypatch.setattr(psycopg.Cursor, "execute", execute)
    with engine.connect() as connection:
        # Pages of an index come from memory, as those of the last days do; else 50,000 rows are few enough to read all.
        connection.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL random_page_cost = 1.1"))

        @event.listens_for(connection, "before_cursor_execute")
        def note(_conn: Any, cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
            if EXPLAINED.match(statement):
                explain(cursor.connection, statement, values)

        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session, plans
        connection.rollback()


@dataclass(frozen=True)
class Read:
    """One step of a plan that reads a table or an index."""

    how: str
    table: str
    index: str | None
    rows: float
    is_run: bool  # the other half of an OR is planned, too

    @property
    def is_of_a_large_table(self) -> bool:
        return self.table not in SMALL and not self.table.startswith("new_")  # those are temporary ones, for COPY


def reads(plan: Plan, table: str = "") -> Iterator[Read]:
    table = plan.get("Relation Name", table)  # a Bitmap Index Scan does not say whose index it reads
    if "Scan" in plan["Node Type"] and ("Relation Name" in plan or "Index Name" in plan):
        seen = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        rows = sum(plan.get(name, 0) for name in seen) * plan["Actual Loops"]
        yield Read(plan["Node Type"], table, plan.get("Index Name"), rows, plan["Actual Loops"] > 0)
    for child in plan.get("Plans", ()):
        yield from reads(child, table)


@pytest.mark.parametrize("name", HOT)
def test_a_hot_query_uses_its_indexes_and_reads_few_rows(
    engine: Engine, filled: Books, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    hot = HOT[name]
    with looking(engine, monkeypatch) as (session, plans):
        hot.do(Look(session, parts, filled, tmp_path))
    found = [read for plan in plans for read in reads(plan) if read.is_of_a_large_table]
    choices = [choice.split("|") for choice in hot.indexes.split()]
    planned = {read.index for read in found if read.index}
    assert {read.index for read in found if read.is_run and read.index} <= {one for choice in choices for one in choice}
    assert [choice for choice in choices if not planned.intersection(choice)] == []
    assert [read for read in found if read.how == "Seq Scan" or read.rows > hot.most] == []


def test_every_index_is_there_for_something(engine: Engine) -> None:
    used = {index for hot in HOT.values() for index in re.split(r"[ |]", hot.indexes)}
    with engine.connect() as connection:
        there = set(connection.scalars(text(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisunique AND indrelid IN"
            " (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)"
        )))  # fmt: skip
    assert there - used - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) <= there
