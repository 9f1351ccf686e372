"""Every way in which a provider batch ends, and every shape of a line: the sum closes, and each job ends once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tests.factories import (
    answer_step,
    batch_object,
    end_batch,
    items_of,
    make_submitted_window,
    make_user,
    output_line,
    response,
    submit_window,
    take_lease,
)
from tests.fakes import FakeProviderFiles
from webapp.config import Settings
from webapp.domain.answers import LOST_KEY, read_answer
from webapp.domain.batch_lines import read_line
from webapp.domain.errors import DeniedFile, UnavailableService
from webapp.domain.states import ExecutionMode, JobStatus, WindowStatus
from webapp.domain.windows import MOST_DENIALS, Step
from webapp.models import BatchItem, BatchWindow, Job, JobResult, LedgerEntry, Queue, User
from webapp.parts import Parts
from webapp.services import batch_ingest, batches, doctor, ledger, lifecycle, windows
from webapp.services import jobs as job_service
from webapp.services.clock import clock
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer

PAID = Decimal("0.0001")  # 1000 and 200 tokens at the batch price


@pytest.fixture
def settings(base_settings: Settings) -> Settings:
    """A window has room for a whole table."""
    return base_settings.model_copy(update={"max_batch_size": 40})


@pytest.fixture
def user(session: Session) -> User:
    return make_user(session)


@pytest.fixture
def window(session: Session, parts: Parts, user: User) -> BatchWindow:
    """Three jobs with the provider."""
    return make_submitted_window(session, parts, user)


@pytest.fixture
def due_window(session: Session, parts: Parts, user: User) -> BatchWindow:
    """Two jobs with the provider that are needed tomorrow."""
    tomorrow = clock(session) + timedelta(days=1)
    return make_submitted_window(session, parts, user, 2, batchStrategy="deadline", needBy=tomorrow)


def ingest(session: Session, parts: Parts, lease: windows.Lease) -> dict[str, int]:
    """The real step; afterwards the doctor has nothing to say."""
    counts = batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=lease.window.id, token=lease.token
    )
    assert doctor.examine(session, parts.settings) == []
    return counts


def refused(item: BatchItem, status: int, code: str | None = "x", message: str = "bad") -> dict[str, Any]:
    return output_line(item, {"error": {"message": message, "code": code}}, status)


def not_run(item: BatchItem, code: str) -> dict[str, Any]:
    return {"id": "r", "custom_id": item.custom_id, "response": None, "error": {"code": code, "message": "never ran"}}


def jobs(session: Session, window: BatchWindow) -> list[Job]:
    job_ids = [item.job_id for item in items_of(session, window)]
    return [session.get_one(Job, job_id, populate_existing=True) for job_id in job_ids]


def ends(session: Session, window: BatchWindow) -> list[tuple[str | None, str, int]]:
    """(outcome of the item, status and attempt of the job) for each place of the window."""
    pairs = zip(items_of(session, window), jobs(session, window), strict=True)
    return [(item.outcome, job.status.value, job.attempt) for item, job in pairs]


def paid(session: Session) -> list[tuple[str, Decimal | None]]:
    session.expire_all()
    return [(entry.reason, entry.amount) for entry in session.scalars(select(LedgerEntry).order_by(LedgerEntry.id))]


def attention(session: Session, window: BatchWindow) -> str:
    session.refresh(window)
    return window.needs_attention or ""


def let_it_be_due(session: Session, window: BatchWindow, **values: Any) -> None:
    values = {"due_at": clock(session) - timedelta(seconds=1)} | values
    session.execute(update(BatchWindow).where(BatchWindow.id == window.id).values(**values))
    session.commit()


def leave(session: Session, job_id: int) -> None:
    """Its deadline is near: the job leaves the window and runs now."""
    moved = lifecycle.move_jobs_to_sync(session, [job_id], now=clock(session), actor="heartbeat", reason="due")
    assert moved == [job_id]
    session.commit()


def answer_now(session: Session, parts: Parts, job_id: int, status: int = 200) -> None:
    body = response("- Now.", id=f"resp_now_{job_id}") if status == 200 else {"error": {"message": "no"}}
    start_attempt(session, parts.settings, job_id=job_id, attempt=2, execution_id=f"e{job_id}")
    record_answer(
        session, parts.settings, parts.prices, job_id=job_id, attempt=2, execution_id=f"e{job_id}",
        answer=read_answer(status, body), raw=body, elapsed_ms=5,
    )  # fmt: skip


# How the provider ended, and what becomes of an item that has no line.
@pytest.mark.parametrize("files_are", ["there", "empty", "none"])
@pytest.mark.parametrize(
    ("status", "window_end", "outcome", "attempt"),
    [
        ("completed", WindowStatus.COMPLETED, "missing", 2),
        ("Completed", WindowStatus.COMPLETED, "missing", 2),
        ("expired", WindowStatus.EXPIRED, "expired", 2),
        ("cancelled", WindowStatus.CANCELLED, "released", 1),
        ("failed", WindowStatus.FAILED, "released", 1),
    ],
)
def test_each_end_keeps_what_is_answered_and_sends_back_the_rest(
    session: Session, parts: Parts, window: BatchWindow, status: str, window_end: WindowStatus, outcome: str,
    attempt: int, files_are: str,
) -> None:  # fmt: skip
    lines = [output_line(items_of(session, window)[0])] if files_are == "there" else []
    ids: dict[str, Any] = {"output_file_id": "", "error_file_id": ""} if files_are == "none" else {}
    if files_are != "none":
        ids = {"output": lines, "error_lines": []}  # Azure names an error file of 0 bytes
    counts = ingest(session, parts, end_batch(session, parts, window, status, **ids))
    session.refresh(window)
    rest = 3 - len(lines)
    assert counts == ({"completed": 1} if lines else {}) | {outcome: rest}
    assert ends(session, window) == [("completed", "completed", 1)] * len(lines) + [(outcome, "queued", attempt)] * rest
    assert paid(session) == [("answer", PAID)] * len(lines)
    assert (window.status, window.needs_attention, window.lease_token) == (window_end, None, None)


def test_a_batch_in_which_all_failed_has_only_an_error_file(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    lines = [refused(item, 400, message="Unsupported value.") for item in items_of(session, window)]
    counts = {"total": 3, "completed": 0, "failed": 3}
    lease = end_batch(
        session, parts, window, "completed", error_lines=lines, output_file_id=None, request_counts=counts
    )
    assert ingest(session, parts, lease) == {"failed": 3}
    assert ends(session, window) == [("failed", "failed", 1)] * 3
    assert {job.failure_message for job in jobs(session, window)} == {"Unsupported value."}
    assert paid(session) == []


def test_a_batch_that_does_not_expire_is_waited_for(session: Session, parts: Parts, window: BatchWindow) -> None:
    """Azure goes on after its 24 hours."""
    lease = take_lease(session, parts, Step.POLL)
    long_ago = 1_600_000_000
    answer_step(session, parts, lease, batch_object(window, "In_Progress", expires_at=long_ago, error_file_id=""))
    let_it_be_due(session, window)
    lease = end_batch(session, parts, window, "completed", output=[output_line(i) for i in items_of(session, window)])
    assert ingest(session, parts, lease) == {"completed": 3}


Body = dict[str, Any] | str | None
RESPONSE_200: list[tuple[str, Body, str, str | None, Decimal | None]] = [
    # what it says, the body, how the job ends, its words, what was paid
    ("a cut answer", response("- Ha", status="incomplete"), "completed", None, PAID),
    ("a chat completion", {"id": "c1", "object": "chat.completion", "model": "gpt-6-luna",
                           "choices": [{"message": {"content": "- Hi."}, "finish_reason": "stop"}],
                           "usage": {"prompt_tokens": 1000, "completion_tokens": 200}}, "completed", None, PAID),
    ("a deployment's answer", response("- Azure.", model="my-deployment", prompt_filter_results=[{"index": 0}],
                                       content_filter_results={"hate": {"filtered": False}}), "completed", None, PAID),
    ("an answer without counts", response("- Hi.", usage=None), "completed", None, None),
    ("an answer with half its counts", response("- Hi.", usage={"input_tokens": 5}), "completed", None, None),
    ("an answer with huge counts", response("- Hi.", usage={"input_tokens": 10**30, "output_tokens": 1e308}),
     "completed", None, None),
    ("only thoughts", response("", status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "failed",
     "The provider's answer has no text (max_output_tokens).", PAID),
    ("a refusal", response(output=[{"type": "message", "content": [{"type": "refusal", "refusal": "I won't."}]}]),
     "failed", "The model refused: I won't.", PAID),
    ("a failure", response(status="failed", error={"code": "server_error", "message": "It broke."}), "failed",
     "It broke.", PAID),
    ("text that is no JSON", "busy", "failed", "The provider's answer is not a JSON object.", None),
    ("nothing", None, "failed", "The provider's answer is not a JSON object.", None),
    ("wrong types", response(output={"a": [1]}, usage=[3], id=5, model={}), "failed",
     "The provider's answer has no text.", None),
]  # fmt: skip


def test_a_200_is_paid_whatever_it_says(session: Session, parts: Parts, user: User) -> None:
    """In whichever file it is."""
    rows = RESPONSE_200 * 2
    window = make_submitted_window(session, parts, user, len(rows))
    lines = [
        output_line(item) | {"response": {"status_code": 200, "request_id": "req", "body": own(body, item)}}
        for item, (_, body, *_) in zip(items_of(session, window), rows, strict=True)
    ]
    half = len(RESPONSE_200)
    ingest(
        session, parts, end_batch(session, parts, window, "completed", output=lines[:half], error_lines=lines[half:])
    )
    told = {entry.job_id: (entry.reason, entry.amount) for entry in session.scalars(select(LedgerEntry))}
    for job, item, (what, _, end, words, amount) in zip(
        jobs(session, window), items_of(session, window), rows, strict=True
    ):
        assert (what, job.status, item.outcome, job.failure_message) == (what, end, end, words)
        assert (what, told[job.id]) == (what, ("answer" if end == "completed" else "refused", amount))
    assert (len(told), attention(session, window)) == (len(rows), "")


def own(body: Body, item: BatchItem) -> Body:
    """No two answers have the same id."""
    is_named = isinstance(body, dict) and isinstance(body["id"], str)
    return {**body, "id": f"resp_{item.job_id}"} if isinstance(body, dict) and is_named else body


LineOf = Callable[[BatchItem], dict[str, Any]]
UNPAID_LINES: list[tuple[str, LineOf, str, str, int]] = [
    # what it is, the line, the item's outcome, the job's status and attempt
    ("400", lambda item: refused(item, 400), "failed", "failed", 1),
    ("404", lambda item: refused(item, 404), "failed", "failed", 1),
    ("quota", lambda item: refused(item, 429, "insufficient_quota"), "failed", "failed", 1),
    ("408", lambda item: refused(item, 408), "failed", "queued", 2),
    ("429", lambda item: refused(item, 429), "failed", "queued", 2),
    ("503", lambda item: refused(item, 503), "failed", "queued", 2),
    ("status 0", lambda item: output_line(item, {}, 0), "failed", "queued", 2),
    ("status 10**40", lambda item: output_line(item, {}, 10**40), "failed", "queued", 2),
    ("status true", lambda item: output_line(item, status=True), "failed", "queued", 2),
    ("status '200'", lambda item: output_line(item) | {"response": {"status_code": "200"}}, "failed", "queued", 2),
    ("an error that nobody knows", lambda item: not_run(item, "server_error"), "failed", "queued", 2),
    ("neither answer nor error", lambda item: {"custom_id": item.custom_id}, "failed", "queued", 2),
    ("wrong types", lambda item: {"custom_id": item.custom_id, "response": [], "error": 3}, "failed", "queued", 2),
    ("batch_expired", lambda item: not_run(item, "batch_expired"), "expired", "queued", 2),
    ("batch_cancelled", lambda item: not_run(item, "batch_cancelled"), "released", "queued", 1),
]  # fmt: skip


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled", "failed"])
def test_an_error_line_is_unpaid_and_is_tried_again_if_that_may_help(
    session: Session, parts: Parts, user: User, status: str
) -> None:
    """However the batch ended, and in whichever file the line is."""
    rows = UNPAID_LINES * 2
    window = make_submitted_window(session, parts, user, len(rows))
    lines = [line_of(item) for item, (_, line_of, *_) in zip(items_of(session, window), rows, strict=True)]
    half = len(UNPAID_LINES)
    ingest(session, parts, end_batch(session, parts, window, status, output=lines[:half], error_lines=lines[half:]))
    assert ends(session, window) == [(outcome, end, attempt) for _, _, outcome, end, attempt in rows]
    assert [bool(job.failure_message) for job in jobs(session, window)] == [end == "failed" for *_, end, _ in rows]
    assert (paid(session), attention(session, window)) == ([], "")


def test_an_answer_is_paid_though_it_says_that_it_never_ran(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    error = {"code": "batch_cancelled", "message": "never ran"}
    line = output_line(items_of(session, window)[0], response(status="failed", error=error))
    ingest(session, parts, end_batch(session, parts, window, "cancelled", output=[line]))
    assert ends(session, window)[0] == ("failed", "failed", 1)
    assert paid(session) == [("refused", PAID)]


@pytest.mark.parametrize(
    ("line_of", "status", "end", "code", "words"),
    [
        (None, "completed", "failed", "no_answer", "The provider gave no answer in 3 windows."),
        (None, "expired", "expired", "batch_expired", "The provider did not get to it within its time in 3 windows."),
        (lambda item: refused(item, 503, "busy", "We are busy."), "completed", "failed", "busy", "We are busy."),
        (lambda item: output_line(item, {}, 0), "completed", "failed", "http_0", "The provider did not answer."),
        (None, "cancelled", "queued", None, None),
    ],
)
def test_a_job_that_has_used_its_attempts_ends_and_says_why(
    session: Session, parts: Parts, window: BatchWindow, line_of: LineOf | None, status: str, end: str,
    code: str | None, words: str | None,
) -> None:  # fmt: skip
    first = items_of(session, window)[0]
    session.execute(update(Job).where(Job.id == first.job_id).values(attempt=3))
    session.execute(update(BatchItem).where(BatchItem.job_id == first.job_id).values(attempt=3))
    session.commit()
    lines = [line_of(first)] if line_of else []
    ingest(session, parts, end_batch(session, parts, window, status, error_lines=lines))
    job = jobs(session, window)[0]
    assert (job.status, job.failure_code, job.failure_message) == (end, code, words)


def test_json_that_is_not_as_promised_is_paid_and_fails_the_job(session: Session, parts: Parts, user: User) -> None:
    values = {"text": "Fine.", "labels": "a, b", "executionMode": "batch"}
    job_ids = job_service.create_jobs(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="text_classification",
        runs=[values] * 3,
    )  # fmt: skip
    queue_id = session.scalars(select(Queue.id)).one()
    window = batches.open_window(
        session, parts.settings, parts.profiles, queue_id=queue_id, job_ids=job_ids, actor="test"
    )
    submit_window(session, parts, window)
    texts = ['{"label": "a", "confidence": 1, "reason": ""}', '{"label": "a"}', '{"label": "a", "conf']
    lines = [output_line(item, response(text)) for item, text in zip(items_of(session, window), texts, strict=True)]
    ingest(session, parts, end_batch(session, parts, window, "completed", output=lines[:2], error_lines=lines[2:]))
    assert [end for _, end, _ in ends(session, window)] == ["completed", "failed", "failed"]
    assert paid(session) == [("answer", PAID), ("refused", PAID), ("refused", PAID)]
    assert [job.failure_code for job in jobs(session, window)] == [None, "invalid_output", "invalid_output"]
    assert "is not valid JSON" in (jobs(session, window)[2].failure_message or "")


# A failed validation: free, and it may name lines.
@pytest.mark.parametrize(
    ("errors", "named", "words"),
    [
        ([{"code": "a", "message": "Line 1.", "line": 1}, {"code": "b", "message": "Line 3.", "line": 3}], [0, 2],
         "Line 1.; Line 3."),
        ([{"code": "mismatched_model", "message": "Two models.", "param": None, "line": None}], [], "Two models."),
        ([{"code": "a", "message": "Far out.", "line": line} for line in (0, -1, 4, 2**70, True, "1", 1.0)], [],
         "Far out."),
        ([{"code": None, "message": None, "line": 2}], [1], "The provider did not say why."),
        ([{"line": 2, "message": {"a": 1}, "code": ["c"]}], [1], "{'a': 1}"),
        ([], [], "The provider did not say why."),
        (["what", None, 3], [], "The provider did not say why."),
    ],
)  # fmt: skip
def test_a_failed_validation_ends_the_lines_that_it_names(
    session: Session, parts: Parts, window: BatchWindow, errors: list[Any], named: list[int], words: str
) -> None:
    ingest(session, parts, end_batch(session, parts, window, "failed", errors={"object": "list", "data": errors}))
    session.refresh(window)
    assert (window.status, window.failure_message) == (WindowStatus.FAILED, words)
    assert ends(session, window) == [
        ("failed", "failed", 1) if place in named else ("released", "queued", 1) for place in range(3)
    ]
    assert all(job.failure_message and job.failure_code for job in jobs(session, window) if job.status == "failed")
    assert [job.free_returns for job in jobs(session, window)] == [0 if p in named else 1 for p in range(3)]
    assert paid(session) == []


@pytest.mark.parametrize(
    "error",
    [
        {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None},
        {"code": "invalid_request", "message": "Cannot find file file-1, or …", "param": "file_id", "line": None},
    ],
)
def test_each_pause_in_a_row_is_longer_and_a_window_that_runs_ends_the_row(
    session: Session, parts: Parts, user: User, error: dict[str, Any]
) -> None:
    waits = []
    for status in ("failed",) * 5 + ("completed", "failed"):
        session.execute(update(Queue).values(not_before=None))
        window = make_submitted_window(session, parts, user, 1)
        before = clock(session)
        ingest(session, parts, end_batch(session, parts, window, status, errors={"data": [error]}))
        session.refresh(window)
        not_before = window.queue.not_before
        waits.append(round((not_before - before).total_seconds(), -1) if not_before else None)
    assert waits == [30, 60, 120, 300, 300, None, 30]


def test_an_error_of_another_kind_pauses_nothing(session: Session, parts: Parts, window: BatchWindow) -> None:
    error = {"code": "mismatched_model", "message": "Two models.", "line": None}
    ingest(session, parts, end_batch(session, parts, window, "failed", errors={"data": [error]}))
    assert session.scalars(select(Queue.not_before)).one() is None


def test_the_tenth_free_return_ends_a_job_in_the_provider_s_words(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    first = items_of(session, window)[0]
    session.execute(update(Job).where(Job.id == first.job_id).values(free_returns=9))
    session.commit()
    error = {"code": "mismatched_model", "message": "Two models.", "line": None}
    ingest(session, parts, end_batch(session, parts, window, "failed", errors={"data": [error]}))
    assert ends(session, window) == [("released", "failed", 1)] + [("released", "queued", 1)] * 2
    assert jobs(session, window)[0].failure_message == (
        "Its windows ended 10 times before the provider ran it. The last time: Two models."
    )


def test_a_full_quota_says_nothing_against_the_jobs(session: Session, parts: Parts, window: BatchWindow) -> None:
    """An unfinished batch on Azure may hold its tokens for days: the jobs wait as long as it takes."""
    session.execute(update(Job).values(free_returns=9))
    session.commit()
    error = {"code": "token_limit_exceeded", "message": "The number of enqueued tokens …", "line": None}
    ingest(session, parts, end_batch(session, parts, window, "failed", errors={"data": [error]}))
    assert ends(session, window) == [("released", "queued", 1)] * 3
    assert [job.free_returns for job in jobs(session, window)] == [9] * 3


def test_a_window_that_is_cancelled_with_its_jobs_keeps_what_is_finished(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    first, second, _ = items_of(session, window)
    now = clock(session)
    let_it_be_due(session, window, cancels_jobs=True, cancel_requested_at=now, cancel_asked_at=now)
    lease = end_batch(
        session, parts, window, "cancelled", output=[output_line(first)], error_lines=[refused(second, 503)]
    )
    assert ingest(session, parts, lease) == {"completed": 1, "failed": 1, "released": 1}
    assert [end for _, end, _ in ends(session, window)] == ["completed", "cancelled", "cancelled"]
    assert paid(session) == [("answer", PAID)]


# Files that cannot be had.
def test_a_download_that_is_cut_short_changes_nothing_and_is_taken_again(
    session: Session, parts: Parts, window: BatchWindow, files: FakeProviderFiles
) -> None:
    first, second, third = items_of(session, window)
    output, errors = [output_line(first), output_line(second)], [refused(third, 400)]
    lease = end_batch(session, parts, window, "completed", output=output, error_lines=errors)
    files.cut_short = {f"file-error-{window.id}"}
    with pytest.raises(UnavailableService):
        ingest(session, parts, lease)
    session.refresh(window)
    assert (window.status, window.lease_token, window.problems) == (WindowStatus.SUBMITTED, None, 1)
    assert "cut short" in (window.problem or "")
    assert ends(session, window) == [(None, "processing", 1)] * 3
    assert (paid(session), doctor.examine(session, parts.settings)) == ([], [])
    files.cut_short = set()
    let_it_be_due(session, window)
    assert ingest(session, parts, take_lease(session, parts, Step.INGEST)) == {"completed": 2, "failed": 1}


@pytest.mark.parametrize(
    ("status", "window_end"),
    [("completed", "completed"), ("expired", "expired"), ("cancelled", "cancelled"), ("failed", "failed")],
)
def test_a_file_that_the_provider_denies_is_given_up_after_many_tries(
    session: Session, parts: Parts, window: BatchWindow, files: FakeProviderFiles, status: str, window_end: str
) -> None:
    first, second, third = items_of(session, window)
    output, errors = [output_line(first), output_line(second)], [refused(third, 400)]
    lease = end_batch(session, parts, window, status, output=output, error_lines=errors)
    files.denied = {f"file-output-{window.id}"}
    for tries in range(1, MOST_DENIALS):
        with pytest.raises(DeniedFile):
            batch_ingest.ingest_window(
                session, parts.settings, parts.prices, files, window_id=window.id, token=lease.token
            )
        session.refresh(window)
        assert (window.problems, window.problem) == (
            tries, f"The provider says that it has no file file-output-{window.id}."
        )  # fmt: skip
        let_it_be_due(session, window)
        lease = take_lease(session, parts, Step.INGEST)
    assert ends(session, window) == [(None, "processing", 1)] * 3
    assert ingest(session, parts, lease) == {"failed": 1, "missing": 2}
    assert ends(session, window) == [("missing", "queued", 2)] * 2 + [("failed", "failed", 1)]
    assert paid(session) == [("answer_lost", None)] * 2
    assert attention(session, window) == (
        f"the provider no longer has file-output-{window.id}: what it answered there is lost"
    )
    assert window.status == window_end


def test_a_batch_that_the_provider_denies_is_given_up_after_many_tries(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    let_it_be_due(session, window, denials=MOST_DENIALS - 1)
    lease = take_lease(session, parts, Step.POLL)
    answer_step(session, parts, lease, {"error": {"message": "No batch found."}}, 404)
    assert ingest(session, parts, take_lease(session, parts, Step.INGEST)) == {"missing": 3}
    assert ends(session, window) == [("missing", "queued", 2)] * 3
    assert paid(session) == [("answer_lost", None)] * 3
    assert f"no longer knows batch_{window.id}" in attention(session, window)
    assert window.status is WindowStatus.FAILED


# A job that left its window for its deadline: what the window still brings.
def test_a_late_good_line_ends_a_job_that_left(session: Session, parts: Parts, due_window: BatchWindow) -> None:
    first, second = items_of(session, due_window)
    leave(session, first.job_id)
    lines = [output_line(first), output_line(second)]
    ingest(session, parts, end_batch(session, parts, due_window, "completed", output=lines))
    assert ends(session, due_window) == [("completed", "completed", 2), ("completed", "completed", 1)]
    assert paid(session) == [("answer", PAID)] * 2


def test_a_late_good_line_leaves_the_answer_under_way_as_lost(
    session: Session, parts: Parts, due_window: BatchWindow
) -> None:
    first, second = items_of(session, due_window)
    leave(session, first.job_id)
    start_attempt(session, parts.settings, job_id=first.job_id, attempt=2, execution_id="e1")
    lines = [output_line(first), output_line(second)]
    ingest(session, parts, end_batch(session, parts, due_window, "completed", output=lines))
    assert ends(session, due_window)[0] == ("completed", "completed", 2)
    entries = session.execute(
        select(LedgerEntry.attempt, LedgerEntry.reason, LedgerEntry.execution_mode)
        .where(LedgerEntry.job_id == first.job_id).order_by(LedgerEntry.attempt)
    ).all()  # fmt: skip
    assert [tuple(entry) for entry in entries] == [
        (1, "answer", ExecutionMode.BATCH),
        (2, "answer_lost", ExecutionMode.SYNC),
    ]


@pytest.mark.parametrize(("status", "end"), [(200, "completed"), (400, "failed")])
def test_a_late_good_line_of_a_job_that_has_ended_is_discarded(
    session: Session, parts: Parts, due_window: BatchWindow, status: int, end: str
) -> None:
    first, second = items_of(session, due_window)
    leave(session, first.job_id)
    answer_now(session, parts, first.job_id, status)
    before = (jobs(session, due_window)[0].finished_at, paid(session))
    lines = [output_line(first), not_run(second, "batch_cancelled")]
    ingest(session, parts, end_batch(session, parts, due_window, "cancelled", output=lines))
    assert ends(session, due_window) == [("completed", end, 2), ("released", "queued", 1)]
    assert (jobs(session, due_window)[0].finished_at, paid(session)[:-1]) == before
    assert paid(session)[-1] == ("discarded", PAID)


@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize("is_started", [True, False])
def test_a_late_error_line_of_a_job_that_left_ends_nothing(
    session: Session, parts: Parts, due_window: BatchWindow, status: int, is_started: bool
) -> None:
    first, second = items_of(session, due_window)
    leave(session, first.job_id)
    if is_started:
        start_attempt(session, parts.settings, job_id=first.job_id, attempt=2, execution_id="e1")
    error_lines = [refused(first, status), refused(second, status)]
    ingest(session, parts, end_batch(session, parts, due_window, "completed", error_lines=error_lines))
    assert ends(session, due_window)[0] == ("failed", "processing" if is_started else "created", 2)
    assert paid(session) == []


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled", "failed"])
def test_a_job_that_left_is_not_sent_back_by_its_window(
    session: Session, parts: Parts, due_window: BatchWindow, status: str
) -> None:
    first, _ = items_of(session, due_window)
    leave(session, first.job_id)
    error = {"code": "a", "message": "Line 1.", "line": 1}
    ingest(session, parts, end_batch(session, parts, due_window, status, errors={"data": [error]}))
    assert ends(session, due_window)[0][1:] == ("created", 2)
    answer_now(session, parts, first.job_id)
    assert ends(session, due_window)[0][1] == "completed"
    assert doctor.examine(session, parts.settings) == []


# Lines that are doubled, out of order, not ours, or no lines.
def test_lines_come_in_any_order_and_without_an_id(session: Session, parts: Parts, window: BatchWindow) -> None:
    lines = [output_line(item) for item in items_of(session, window)]
    for line in lines:
        del line["id"]  # Azure
    random.Random(4).shuffle(lines)
    ingest(session, parts, end_batch(session, parts, window, "completed", output=lines, error_lines=[]))
    texts = {result.job_id: result.text for result in session.scalars(select(JobResult))}
    assert texts == {item.job_id: f"- Summary of job {item.job_id}." for item in items_of(session, window)}


@pytest.mark.parametrize("chunk", [1, 1000])
@pytest.mark.parametrize("error_status", [400, 503])
def test_an_item_in_both_files_is_told_and_its_good_line_counts(
    session: Session, parts: Parts, window: BatchWindow, monkeypatch: pytest.MonkeyPatch, chunk: int, error_status: int
) -> None:
    monkeypatch.setattr(batch_ingest, "CHUNK_LINES", chunk)
    first, *rest = items_of(session, window)
    lines = [output_line(item) for item in (first, *rest)]
    lease = end_batch(session, parts, window, "completed", output=lines, error_lines=[refused(first, error_status)])
    assert ingest(session, parts, lease) == {"completed": 3}
    assert attention(session, window) == f"{first.custom_id} has two different answers"
    assert paid(session) == [("answer", PAID)] * 3


def test_the_same_line_twice_is_one_answer(session: Session, parts: Parts, window: BatchWindow) -> None:
    lines = [output_line(item) for item in items_of(session, window)]
    lease = end_batch(session, parts, window, "completed", output=lines + lines, error_lines=lines)
    assert ingest(session, parts, lease) == {"completed": 3}
    assert (paid(session), attention(session, window)) == ([("answer", PAID)] * 3, "")


def test_a_second_good_answer_is_paid_but_discarded_and_told(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    first = items_of(session, window)[0]
    lines = [output_line(first), output_line(first, response("- Another."))]
    ingest(session, parts, end_batch(session, parts, window, "completed", output=lines))
    assert session.scalars(select(JobResult.text)).one() == f"- Summary of job {first.job_id}."
    assert paid(session) == [("answer", PAID), ("discarded", PAID)]
    assert attention(session, window) == f"{first.custom_id} has two different answers"


@pytest.mark.parametrize("is_good_first", [True, False])
def test_one_response_that_is_told_in_two_ways_is_paid_once(
    session: Session, parts: Parts, window: BatchWindow, is_good_first: bool
) -> None:
    first = items_of(session, window)[0]
    good, bad = output_line(first, response(id="resp_1")), output_line(first, response("", id="resp_1"))
    lines = [good, bad] if is_good_first else [bad, good]
    assert ingest(session, parts, end_batch(session, parts, window, "completed", output=lines))["completed"] == 1
    assert paid(session) == [("answer", PAID)]


def test_one_response_that_was_refused_before_a_job_left_is_not_used_later(
    session: Session, parts: Parts, due_window: BatchWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_ingest, "CHUNK_LINES", 1)
    first = items_of(session, due_window)[0]
    leave(session, first.job_id)
    lines = [output_line(first, response("", id="resp_1")), output_line(first, response(id="resp_1"))]
    ingest(session, parts, end_batch(session, parts, due_window, "completed", output=lines))
    assert ends(session, due_window)[0] == ("failed", "created", 2)
    assert paid(session) == [("refused", PAID)]


def test_two_answers_are_told_though_the_run_that_saw_them_died(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    first = items_of(session, window)[0]
    lines = [output_line(first), output_line(first, response("- Another."))]
    lease = end_batch(session, parts, window, "completed", output=lines)
    run = batch_ingest.Ingest(
        session, parts.settings, parts.prices, window.id, lease.token, None, window.opened_at
    )  # fmt: skip
    batch_ingest._apply_chunk(run, [line for raw in lines if (line := read_line(raw))])
    ingest(session, parts, lease)
    assert attention(session, window) == f"{first.custom_id} has two different answers"


def test_lines_of_another_window_are_told_and_change_nothing(session: Session, parts: Parts, user: User) -> None:
    window = make_submitted_window(session, parts, user, 1)
    let_it_be_due(session, window, due_at=clock(session) + timedelta(hours=1))
    other = make_submitted_window(session, parts, user, 1)
    foreign = items_of(session, window)[0]
    lines = [output_line(foreign), {"custom_id": "x" * 5000}, *map(output_line, items_of(session, other))]
    ingest(session, parts, end_batch(session, parts, other, "completed", output=lines))
    assert attention(session, other) == f"{foreign.custom_id} is not ours; {'x' * 80} is not ours"
    assert (ends(session, window), len(paid(session))) == ([(None, "processing", 1)], 1)


RUBBISH = [
    b"{", b"null", b"[]", b"3", b'"text"', b"\x00", b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"{}", b'{"custom_id": 3}',
    b'{"custom_id": "a\\u0000"}', b'{"custom_id": "\\ud800"}', b"9" * 5000, b"[" * 100_000,
]  # fmt: skip


def test_what_is_no_line_is_counted_and_told(
    session: Session, parts: Parts, window: BatchWindow, files: FakeProviderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_ingest, "CHUNK_LINES", 3)
    good = [json.dumps(output_line(item)).encode() for item in items_of(session, window)]
    files.contents["file-x"] = b"\n\r\n".join([*RUBBISH, *good, *RUBBISH])
    assert ingest(session, parts, end_batch(session, parts, window, "completed", output_file_id="file-x")) == {
        "completed": 3
    }
    said = attention(session, window)
    assert (said.count("a line that cannot be read"), said.endswith("and 8 more")) == (20, True)


def test_a_line_that_nests_as_deep_as_can_be_read_stops_nothing() -> None:
    """What can just be read may be too deep to be written: both give no line."""
    for left, right in ((b"[", b"]"), (b'{"a":', b"}")):
        lines = [
            read_line(b'{"custom_id": "a", "response": {"status_code": 200, "body": %b1%b}}' % (left * n, right * n))
            for n in range(1, 1100, 7)
        ]
        readable = [line is not None for line in lines]
        assert readable == sorted(readable, reverse=True)  # up to some depth, and never an exception
        assert (readable[0], readable[-1]) == (True, False)


def test_an_id_of_any_length_is_stored(session: Session, parts: Parts, window: BatchWindow) -> None:
    letters = random.Random(1)
    long_id = "".join(letters.choice("abcdefghijklmnop0123456789") for _ in range(20_000))
    line = output_line(items_of(session, window)[0], response(id=long_id, model=long_id))
    assert ingest(session, parts, end_batch(session, parts, window, "completed", output=[line]))["completed"] == 1
    assert paid(session) == [("answer", PAID)]


def test_the_same_body_with_another_status_is_another_answer(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    first = items_of(session, window)[0]
    body = response()
    del body["id"]
    lease = end_batch(
        session, parts, window, "completed", output=[output_line(first, body, 500), output_line(first, body)]
    )
    assert ingest(session, parts, lease) == {"completed": 1, "missing": 2}
    assert attention(session, window) == f"{first.custom_id} has two different answers"
    assert [job.status for job in jobs(session, window)] == [JobStatus.COMPLETED, JobStatus.QUEUED, JobStatus.QUEUED]


@pytest.mark.parametrize(
    ("counts", "flagged"),
    [
        ({"total": 3, "completed": 3, "failed": 0}, True),
        ({"total": 3, "completed": 2, "failed": 1}, True),
        ({"total": 3, "completed": 2, "failed": 0}, False),  # both that it speaks of are there
        ({"total": None, "completed": None, "failed": None}, False),  # Azure
        ({"completed": "3", "failed": [1]}, False),
        (None, False),
    ],
)
def test_a_completed_batch_that_counts_more_than_its_files_hold_needs_attention(
    session: Session, parts: Parts, window: BatchWindow, counts: Any, flagged: bool
) -> None:
    first, second, _ = items_of(session, window)
    lease = end_batch(
        session, parts, window, "completed", output=[output_line(first)], error_lines=[refused(second, 400)],
        request_counts=counts,
    )  # fmt: skip
    assert ingest(session, parts, lease) == {"completed": 1, "failed": 1, "missing": 1}  # the counts decide nothing
    said = "the provider counts 3 answers, its files have 2 lines"
    assert attention(session, window) == (said if flagged else "")


@pytest.mark.parametrize("counts", [{"completed": 3, "failed": 0}, {"completed": 3, "failed": 1}])
def test_counts_that_lie_while_every_line_is_there_are_no_reason_to_look(
    session: Session, parts: Parts, window: BatchWindow, counts: dict[str, int]
) -> None:
    """They say that all went well, or count an error as completed, too."""
    first, second, third = items_of(session, window)
    lease = end_batch(
        session, parts, window, "completed", output=[output_line(first), output_line(second)],
        error_lines=[refused(third, 0)], request_counts=counts,
    )  # fmt: skip
    ingest(session, parts, lease)
    assert attention(session, window) == ""


def test_a_cancelled_batch_counts_what_it_never_ran(session: Session, parts: Parts, window: BatchWindow) -> None:
    line = output_line(items_of(session, window)[0])
    counts = {"total": 3, "completed": 1, "failed": 2}
    ingest(session, parts, end_batch(session, parts, window, "cancelled", output=[line], request_counts=counts))
    assert attention(session, window) == ""


def test_a_response_that_calls_itself_lost_is_paid_beside_the_answer_that_was(
    session: Session, parts: Parts, window: BatchWindow
) -> None:
    """That word is the key of answers that never came."""
    item = items_of(session, window)[0]
    ledger.record_lost_answer(session, session.get_one(Job, item.job_id), clock(session))
    session.commit()
    line = output_line(item, response("- Here.", id=LOST_KEY))
    ingest(session, parts, end_batch(session, parts, window, "completed", output=[line]))
    assert paid(session) == [("answer_lost", None), ("answer", PAID)]
