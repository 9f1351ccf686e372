"""Whatever is in the files, and whenever the ingest dies: each item ends once, and nothing paid is lost or doubled.

Hypothesis builds both files of a small window from hostile lines, interrupts the ingest and lets a job leave for its
deadline on the way. Few jobs, ids and texts: collisions are common.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from tests.factories import empty_tables, end_batch, items_of, make_submitted_window, make_user, output_line, response
from webapp.domain.answers import read_answer
from webapp.domain.batch_lines import read_line
from webapp.domain.errors import StaleLease
from webapp.domain.states import TERMINAL_JOBS, JobStatus
from webapp.models import BatchItem, BatchWindow, Job, JobEvent, JobResult, LedgerEntry, Queue
from webapp.parts import Parts
from webapp.services import batch_ingest, doctor, lifecycle
from webapp.services.clock import clock
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer

JOBS = 2
WITHOUT_LINE = {"completed": "missing", "expired": "expired", "cancelled": "released", "failed": "released"}


class Died(Exception):
    """The ingest ends here, as when its process is killed."""


@dataclass(frozen=True)
class Kind:
    """A line, and what is to be made of it: good | final | retry | expired | released | any."""

    verdict: str
    answer: str | None  # which answer it is; None when it is none
    make: Callable[[BatchItem], Any]
    is_paid: bool = False


def said(item: BatchItem, word: str, number: int | None, **more: Any) -> dict[str, Any]:
    """A good answer of this item: nobody else has this text or this id."""
    body = response(f"- {item.job_id} {word}", id=f"resp_{item.job_id}_{number}", **more)
    if number is None:
        del body["id"]
    return output_line(item, body)


def http(item: BatchItem, status: int) -> dict[str, Any]:
    return output_line(item, {"error": {"message": f"said {status}", "code": "x"}}, status)


def unrun(item: BatchItem, code: str) -> dict[str, Any]:
    return {"custom_id": item.custom_id, "response": None, "error": {"code": code, "message": "never ran"}}


NEVER_RAN = {"code": "batch_cancelled", "message": "never ran"}
KINDS = {
    "first": Kind("good", "0", lambda item: said(item, "first", 0), is_paid=True),
    "second": Kind("good", "1", lambda item: said(item, "second", 1), is_paid=True),
    "first in other words": Kind("good", "0", lambda item: said(item, "third", 0), is_paid=True),
    "without an id": Kind("good", "plain", lambda item: said(item, "plain", None, usage=None), is_paid=True),
    "strange letters": Kind("good", "2", lambda item: said(item, "\x00\ud800", 2, usage={}), is_paid=True),
    "first without text": Kind("final", "0", lambda item: output_line(item, response("", id=f"resp_{item.job_id}_0")),
                               is_paid=True),
    "paid, though it says it is not": Kind("final", "3", lambda item: output_line(
        item, response(id=f"resp_{item.job_id}_3", status="failed", error=NEVER_RAN)), is_paid=True),
    "no object": Kind("final", "busy", lambda item: output_line(item, "busy"), is_paid=True),  # type: ignore[arg-type]
    "400": Kind("final", "400", lambda item: http(item, 400)),
    "429": Kind("retry", "429", lambda item: http(item, 429)),
    "503": Kind("retry", "503", lambda item: http(item, 503)),
    "0": Kind("retry", None, lambda item: output_line(item, {}, 0)),
    "nothing": Kind("retry", None, lambda item: {"custom_id": item.custom_id}),
    "expired": Kind("expired", None, lambda item: unrun(item, "batch_expired")),
    "cancelled": Kind("released", None, lambda item: unrun(item, "batch_cancelled")),
}  # fmt: skip
PATHS = [
    ["custom_id"], ["response"], ["error"], ["response", "status_code"], ["response", "request_id"],
    ["response", "body"], *[["response", "body", key] for key in ("status", "output", "usage", "model", "error")],
    ["response", "body", "output", 1], ["response", "body", "output", 1, "content"],
    ["response", "body", "output", 1, "content", 0, "text"], ["response", "body", "usage", "input_tokens"],
    ["response", "body", "usage", "input_tokens_details"],
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 1.5, 200.0, 2**70, 10**400, 1e308, float("nan"), "", "\x00", "\ud800", "x" * 3000, [], {}, [[]],
    {"a": "\x00"},
]  # fmt: skip
RUBBISH = [b"{", b"null", b"[1]", b"\x00", b"\xff\xfe", b'{"custom_id": "\\u0000"}', b'{"a":' * 30_000]


def bent(path: Sequence[str | int], value: Any) -> Kind:
    """A good answer of which one thing is something else."""

    def make(item: BatchItem) -> dict[str, Any]:
        line = deepcopy(said(item, "bent", 4))
        place: Any = line
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        return line

    return Kind("any", None, make)


KNOWN = st.tuples(st.sampled_from([0, 0, 1]), st.sampled_from([*KINDS.values()]))
LINES = st.one_of(
    KNOWN, KNOWN, KNOWN, KNOWN,
    st.tuples(st.integers(0, JOBS - 1), st.builds(bent, st.sampled_from(PATHS), st.sampled_from(VALUES))),
    st.tuples(st.sampled_from(["ours elsewhere", "nobody's"]), st.sampled_from([KINDS["first"], KINDS["400"]])),
    st.tuples(st.just("rubbish"), st.sampled_from(RUBBISH)),
)  # fmt: skip
PLANS = st.fixed_dictionaries(
    {
        "end": st.sampled_from(["completed", "completed", "expired", "cancelled", "failed"]),
        "output": st.lists(LINES, max_size=6) | st.lists(KNOWN, min_size=2, max_size=5),
        "errors": st.lists(LINES, max_size=4) | st.lists(KNOWN, min_size=1, max_size=3),
        "named": st.lists(st.sampled_from([1, 2, 0, 9, True, "1", None, 2**70]), max_size=2),
        "chunk": st.sampled_from([1, 2, 1000, 1000]),
        # where the ingest dies: before or after which commit of a chunk
        "deaths": st.lists(st.tuples(st.sampled_from(["before", "after"]), st.integers(1, 4)), max_size=2),
        # after so many deaths (or all of them) this job leaves for its deadline, and then …
        "leaves": st.none()
        | st.tuples(
            st.integers(0, 2), st.sampled_from([0, 0, 1]),
            st.sampled_from(["waits", "starts", "completes", "fails", "is withdrawn"]),
        ),
        "max_attempts": st.sampled_from([1, 3]),
        "free_returns": st.sampled_from([0, 9]),
        "cancels_jobs": st.sampled_from([False, False, True]),
    }
)  # fmt: skip


@dataclass
class World:
    """A database with a window that must stay as it is; it is made anew after a failed example."""

    session: Session
    parts: Parts
    monkeypatch: pytest.MonkeyPatch
    elsewhere: int = 0  # the window

    def make(self) -> None:
        self.session.rollback()
        self.session.expunge_all()
        empty_tables(self.session, self.parts)
        self.user = make_user(self.session)
        self.elsewhere = self.submitted(1).id
        self.session.execute(update(BatchWindow).values(due_at=clock(self.session) + timedelta(hours=9)))
        self.session.commit()

    def submitted(self, count: int) -> BatchWindow:
        tomorrow = clock(self.session) + timedelta(days=1)
        return make_submitted_window(
            self.session, self.parts, self.user, count, batchStrategy="deadline", needBy=tomorrow
        )


@pytest.fixture
def world(
    session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:  # fmt: skip
    world = World(session, parts, monkeypatch)
    world.make()
    yield world
    session.rollback()


class Run:
    """One example: the window, its files, and what happens on the way."""

    def __init__(self, world: World, plan: dict[str, Any]) -> None:
        self.world, self.plan, self.session = world, plan, world.session
        limits = world.parts.settings.model_copy(update={"max_attempts": plan["max_attempts"]})
        self.parts = replace(world.parts, settings=limits)
        self.session.execute(update(Queue).values(not_before=None))
        self.window = world.submitted(JOBS)
        self.items = items_of(self.session, self.window)
        self.elsewhere = items_of(self.session, self.session.get_one(BatchWindow, world.elsewhere))[0]
        self.job_ids = [item.job_id for item in self.items]
        self.session.execute(
            update(Job).where(Job.id.in_(self.job_ids)).values(free_returns=plan["free_returns"])
        )  # fmt: skip
        wish = clock(self.session) if plan["cancels_jobs"] else None
        self.session.execute(
            update(BatchWindow).where(BatchWindow.id == self.window.id)
            .values(cancels_jobs=plan["cancels_jobs"], cancel_requested_at=wish, cancel_asked_at=wish)
        )  # fmt: skip
        self.session.commit()
        self.left: int | None = None
        self.ended: dict[int, Any] = {}  # by job: what must not change any more

    def file(self, name: str) -> bytes:
        return b"\n".join(self.line(*line) for line in self.plan[name])

    def line(self, whose: int | str, kind: Any) -> bytes:
        if whose == "rubbish":
            return bytes(kind)
        if whose == "nobody's":
            return json.dumps(kind.make(self.elsewhere) | {"custom_id": "nobody"}).encode()
        return json.dumps(kind.make(self.elsewhere if isinstance(whose, str) else self.items[whose])).encode()

    def ingest(self) -> None:
        """Until it is settled, through all deaths."""
        files = self.world.parts.files.contents  # type: ignore[attr-defined]
        files["output"], files["errors"] = self.file("output"), self.file("errors")
        data = [{"code": "x", "message": f"Line {line}.", "line": line} for line in self.plan["named"]]
        lease = end_batch(
            self.session, self.parts, self.window, self.plan["end"], errors={"data": data}, output_file_id="output",
            error_file_id="errors",
        )  # fmt: skip
        token = lease.token
        for deaths, death in enumerate([*self.plan["deaths"], ("never", 0)]):
            self.leave(deaths)
            self.note_ended()
            with self.world.monkeypatch.context() as patch:
                patch.setattr(batch_ingest, "CHUNK_LINES", self.plan["chunk"])
                self.let_it_die(patch, *death)
                try:
                    self.step(token)
                    break
                except Died:
                    self.session.rollback()
            assert doctor.examine(self.session, self.parts.settings) == []
        with pytest.raises(StaleLease):
            self.step(token)

    def step(self, token: str) -> None:
        batch_ingest.ingest_window(
            self.session, self.parts.settings, self.parts.prices, self.parts.files, window_id=self.window.id,
            token=token,
        )  # fmt: skip

    def let_it_die(self, patch: pytest.MonkeyPatch, when: str, chunk: int) -> None:
        done = Counter[str]()
        end_jobs = batch_ingest._end_jobs

        def reached() -> None:
            done["chunks"] += 1
            if done["chunks"] == chunk:
                raise Died

        def before(*arguments: Any) -> None:
            end_jobs(*arguments)
            reached()

        if when == "before":
            patch.setattr(batch_ingest, "_end_jobs", before)
        if when == "after":
            patch.setattr(batch_ingest, "LeaseKeeper", lambda *_: reached)

    def leave(self, deaths: int) -> None:
        if not self.plan["leaves"] or min(self.plan["leaves"][0], len(self.plan["deaths"])) != deaths:
            return
        _, place, then = self.plan["leaves"]
        job_id, now = self.job_ids[place], clock(self.session)
        moved = lifecycle.move_jobs_to_sync(self.session, [job_id], now=now, actor="heartbeat", reason="due")
        self.session.commit()
        if not moved:
            return
        self.left = job_id
        if then == "is withdrawn":
            lifecycle.move_job(self.session, job_id, JobStatus.CANCELLED, now=now, actor="user:1", reason="withdrawn")
            self.session.commit()
        elif then != "waits":
            start_attempt(self.session, self.parts.settings, job_id=job_id, attempt=2, execution_id="e")
        if then in ("completes", "fails"):
            status, body = (200, response("- Now.", id=f"now_{job_id}")) if then == "completes" else (400, {})
            record_answer(
                self.session, self.parts.settings, self.parts.prices, job_id=job_id, attempt=2, execution_id="e",
                answer=read_answer(status, body), raw=body, elapsed_ms=1,
            )  # fmt: skip

    def note_ended(self) -> None:
        for job in self.jobs():
            if job.status in TERMINAL_JOBS:
                self.ended.setdefault(job.id, self.end_of(job))

    def end_of(self, job: Job) -> Any:
        result = self.session.get(JobResult, job.id, populate_existing=True)
        return job.status, job.finished_at, job.failure_code, job.failure_message, result and result.text

    def jobs(self) -> list[Job]:
        return [self.session.get_one(Job, job_id, populate_existing=True) for job_id in self.job_ids]

    def ledger(self, job_id: int) -> list[LedgerEntry]:
        statement = select(LedgerEntry).where(LedgerEntry.job_id == job_id).order_by(LedgerEntry.id)
        return list(self.session.scalars(statement.execution_options(populate_existing=True)))

    def everything(self) -> Any:
        """All that a repetition must not change."""
        entries = [[(entry.id, entry.reason, entry.amount) for entry in self.ledger(job_id)] for job_id in self.job_ids]
        items = [(item.outcome, item.error_code, item.error_message) for item in items_of(self.session, self.window)]
        jobs = [(self.end_of(job), job.attempt, job.free_returns) for job in self.jobs()]
        events = self.session.scalar(select(func.count()).select_from(JobEvent))
        return entries, items, jobs, events

    def kinds(self, place: int, *names: str) -> list[Kind]:
        """The lines of one item."""
        return [kind for name in names or ("output", "errors") for whose, kind in self.plan[name] if whose == place]


in_one_database = profile(
    deadline=None, max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink takes minutes
    derandomize="CI" in os.environ,  # there, only a change of the code may change the outcome
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def lines(*names: str) -> list[tuple[int, Kind]]:
    return [(0, KINDS[name]) for name in names]


QUIET: dict[str, Any] = {
    "end": "completed", "output": [], "errors": [], "named": [], "chunk": 1000, "deaths": [], "leaves": None,
    "max_attempts": 3, "free_returns": 0, "cancels_jobs": False,
}  # fmt: skip


@given(plan=PLANS)
@example(plan=QUIET | {"output": lines("400", "first")})
@example(plan=QUIET | {"output": lines("first", "400")})
@example(plan=QUIET | {"output": lines("503", "first"), "chunk": 1})
@example(plan=QUIET | {"output": lines("first", "second"), "deaths": [("after", 1)]})
@example(plan=QUIET | {"output": lines("strange letters"), "named": [True], "end": "failed"})
@example(plan=QUIET | {"output": lines("paid, though it says it is not"), "end": "cancelled"})
@example(plan=QUIET | {"named": [True], "end": "failed"})
@example(plan=QUIET | {"output": lines("400"), "leaves": (0, 0, "starts")})
@example(plan=QUIET | {"output": lines("first"), "leaves": (0, 0, "starts")})
@example(plan=QUIET | {"output": lines("first"), "leaves": (0, 0, "completes")})
@example(plan=QUIET | {"output": lines("first without text", "first"), "chunk": 1, "leaves": (0, 0, "waits")})
@in_one_database
def test_each_item_ends_once_and_each_answer_is_paid_once(world: World, plan: dict[str, Any]) -> None:
    try:
        run = Run(world, plan)
        run.ingest()
        check_sum(run)
        for place in range(JOBS):
            check_item(run, place)
            check_job(run, place)
            check_money(run, place)
        check_elsewhere(run)
        check_attention(run)
        check_repetition(run)
        assert doctor.examine(world.session, run.parts.settings) == []
    except BaseException:
        world.make()
        raise


def check_sum(run: Run) -> None:
    run.session.refresh(run.window)
    outcomes = [item.outcome for item in items_of(run.session, run.window)]
    assert (run.window.status, len(outcomes), None in outcomes) == (run.plan["end"], JOBS, False)


def check_item(run: Run, place: int) -> None:
    """The outcome is the word of one of its lines; without any it is the end's."""
    outcome = items_of(run.session, run.window)[place].outcome
    verdicts = {kind.verdict for kind in run.kinds(place)}
    allowed = {{"good": "completed", "final": "failed", "retry": "failed"}.get(word, word) for word in verdicts}
    is_named = run.plan["end"] == "failed" and place + 1 in [n for n in run.plan["named"] if n is not True]
    if "any" in allowed:
        allowed |= {"completed", "failed"}
    if not verdicts or "any" in allowed:
        allowed |= {"failed" if is_named else WITHOUT_LINE[run.plan["end"]]}
    assert outcome in allowed
    if run.plan["chunk"] == 1000 and any(kind.verdict == "good" for kind in run.kinds(place, "output")):
        assert outcome == "completed"


def check_job(run: Run, place: int) -> None:
    """It is completed with its own text, or waits again, or ended with one reason; what had ended stays."""
    job, item = run.jobs()[place], items_of(run.session, run.window)[place]
    if job.id in run.ended:
        assert run.end_of(job) == run.ended[job.id]
    ends = [event.to_status for event in run.session.scalars(select(JobEvent).where(JobEvent.job_id == job.id))
            if event.to_status in TERMINAL_JOBS]  # fmt: skip
    assert ends == ([job.status] if job.status in TERMINAL_JOBS else [])
    verdicts = {kind.verdict for kind in run.kinds(place)}
    if job.status is JobStatus.COMPLETED:
        words = run.session.get_one(JobResult, job.id).text
        is_own = words.startswith(f"- {job.id} ") or (words == "- Now." and job.id == run.left)
        assert is_own or "any" in verdicts  # the text itself may be what was bent
        assert job.failure_message is None
        assert item.outcome == "completed" or words == "- Now."
    elif job.id == run.left:
        assert (job.attempt, job.execution_mode) == (2, "sync")
        assert job.status in TERMINAL_JOBS if job.id in run.ended else job.status in ("created", "processing")
    elif item.outcome == "released" and not run.plan["cancels_jobs"]:
        is_over = run.plan["free_returns"] == 9
        assert (job.status, job.failure_code) == (("failed", "returned_too_often") if is_over else ("queued", None))
        assert (job.attempt, job.free_returns) == (1, 9 if is_over else 1)
    elif job.status is JobStatus.QUEUED:
        assert (job.attempt, run.plan["max_attempts"], run.plan["cancels_jobs"]) == (2, 3, False)
        assert item.outcome in ("failed", "missing", "expired")
        assert not verdicts or verdicts & {"retry", "expired", "any"}  # of two errors the first counts
    elif job.status is JobStatus.CANCELLED:
        assert run.plan["cancels_jobs"]
    else:
        assert job.status == ("expired" if item.outcome == "expired" else "failed")
        assert job.failure_code and job.failure_message
    if "good" in verdicts and job.id not in run.ended:
        # nothing but a final error that came before it keeps a good line from its job
        assert job.status is JobStatus.COMPLETED or verdicts & {"final", "any"}


def check_money(run: Run, place: int) -> None:
    """Each paid answer once, whatever became of it; the used one as `answer` (the doctor compares it)."""
    job, kinds = run.jobs()[place], run.kinds(place)
    entries = run.ledger(job.id)
    from_lines = [entry for entry in entries if entry.execution_mode == "batch"]
    known = {kind.answer for kind in kinds if kind.is_paid}
    bent_lines = sum(kind.verdict == "any" for kind in kinds)
    assert len(known) <= len(from_lines) <= len(known) + bent_lines
    for number in known & set("0123"):
        assert [entry.answer_key for entry in from_lines].count(f"resp_{job.id}_{number}") == 1
    for entry in from_lines:
        is_used = entry.reason == "answer"
        assert entry.attempt == 1
        assert is_used <= (job.status is JobStatus.COMPLETED)
        assert entry.reason != "discarded" or job.status in TERMINAL_JOBS or job.id == run.left
        assert entry.reason != "refused" or any(kind.verdict in ("final", "any") for kind in kinds)
    lost = [entry for entry in entries if entry.reason == "answer_lost"]
    is_under_way = run.plan["leaves"] is not None and run.plan["leaves"][2] == "starts" and job.id == run.left
    assert len(lost) == (is_under_way and job.status is JobStatus.COMPLETED)


def check_elsewhere(run: Run) -> None:
    item = items_of(run.session, run.session.get_one(BatchWindow, run.world.elsewhere))[0]
    job = run.session.get_one(Job, item.job_id, populate_existing=True)
    assert (item.outcome, job.status, job.attempt) == (None, "processing", 1)
    assert run.ledger(job.id) == []


def check_attention(run: Run) -> None:
    """What is strange is named, and nothing else is."""
    said = (run.window.needs_attention or "").split("; ")
    lines = run.plan["output"] + run.plan["errors"]
    has_bent = any(isinstance(kind, Kind) and kind.verdict == "any" for _, kind in lines)
    expected = Counter[str]()
    for whose, _ in lines:
        if isinstance(whose, str):
            name = {"rubbish": "a line that cannot be read", "nobody's": "nobody is not ours"}
            expected[name.get(whose, f"{run.elsewhere.custom_id} is not ours")] += 1
    for place, item in enumerate(run.items):
        if len({kind.answer for kind in run.kinds(place)} - {None}) > 1:
            expected[f"{item.custom_id} has two different answers"] += 1
    if has_bent:
        assert expected <= Counter(said)
    else:
        assert +expected == Counter(filter(None, said))


def check_repetition(run: Run) -> None:
    """A worker that comes too late with the same lines changes nothing."""
    before = run.everything()
    late = batch_ingest.Ingest(
        run.session, run.parts.settings, run.parts.prices, run.window.id, "stale", None, run.window.opened_at
    )
    lines = [read_line(line) for name in ("output", "errors") for line in run.file(name).split(b"\n")]
    batch_ingest._apply_chunk(late, [line for line in lines if line])
    assert run.everything() == before
