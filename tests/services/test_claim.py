"""The claim: all or nothing, in order, once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from tests.factories import make_jobs, make_queued_jobs, make_user
from webapp.domain.errors import InsufficientJobs
from webapp.domain.states import JobStatus, WindowStatus
from webapp.models import BatchItem, BatchWindow, Job, JobRequest, Queue
from webapp.parts import Parts
from webapp.services import batches, windows
from webapp.services.batches import open_window
from webapp.services.clock import clock


def open_one(session: Session, parts: Parts, queue_id: int, **more: object) -> BatchWindow:
    return open_window(session, parts.settings, parts.profiles, queue_id=queue_id, actor="test", **more)


def test_open_window_leaves_queue_untouched_when_short(session: Session, parts: Parts) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, make_user(session), 2)
    with pytest.raises(InsufficientJobs) as refused:
        open_one(session, parts, queue_id)
    assert refused.value.detail == {"needed": 3, "available": 2, "reason": "short"}
    assert session.scalars(select(Job.status).where(Job.id.in_(job_ids))).all() == [JobStatus.QUEUED] * 2
    assert session.scalar(select(func.count()).select_from(BatchWindow)) == 0


def test_open_window_takes_the_oldest_jobs_of_a_full_window(session: Session, parts: Parts) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, make_user(session), 5)
    window = open_one(session, parts, queue_id)
    claimed = session.scalars(select(BatchItem.job_id).where(BatchItem.window_id == window.id)).all()
    assert (sorted(claimed), window.job_count) == (job_ids[:3], 3)


def test_max_batch_size_may_only_lower_the_size(session: Session, parts: Parts) -> None:
    queue_id, _ = make_queued_jobs(session, parts, make_user(session), 9)
    assert open_one(session, parts, queue_id, max_batch_size=2).job_count == 2
    assert open_one(session, parts, queue_id, max_batch_size=50).job_count == 3


def test_chosen_jobs_are_taken_all_or_none(session: Session, parts: Parts) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, make_user(session), 3)
    with pytest.raises(InsufficientJobs):
        open_one(session, parts, queue_id, job_ids=[job_ids[0], 999_999])
    window = open_one(session, parts, queue_id, job_ids=[job_ids[2]])
    assert session.scalars(select(BatchItem.job_id).where(BatchItem.window_id == window.id)).all() == [job_ids[2]]


def test_chosen_jobs_may_not_be_more_than_a_window_takes(session: Session, parts: Parts) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, make_user(session), 4)
    with pytest.raises(InsufficientJobs):
        open_one(session, parts, queue_id, job_ids=job_ids)


def test_chosen_jobs_that_do_not_fit_are_not_taken_in_part(session: Session, parts: Parts) -> None:
    queue_id, job_ids = make_queued_jobs(session, parts, make_user(session), 3)
    limited = parts.settings.model_copy(update={"max_window_bytes": 1500})
    with pytest.raises(InsufficientJobs):
        open_window(session, limited, parts.profiles, queue_id=queue_id, job_ids=job_ids, actor="test")
    assert session.scalar(select(func.count()).where(Job.status == JobStatus.QUEUED)) == 3


def test_a_window_closes_early_at_the_byte_limit(session: Session, parts: Parts) -> None:
    queue_id, _ = make_queued_jobs(session, parts, make_user(session), 3)
    limited = parts.settings.model_copy(update={"max_window_bytes": 1500})
    window = open_window(session, limited, parts.profiles, queue_id=queue_id, actor="test")
    assert 0 < window.job_count < 3
    assert session.scalar(select(func.count()).where(Job.status == JobStatus.QUEUED)) == 3 - window.job_count


def test_concurrent_openers_never_claim_twice_and_none_starves(tables: Engine, session: Session, parts: Parts) -> None:
    queue_id, _ = make_queued_jobs(session, parts, make_user(session), 1000)
    sized = parts.settings.model_copy(update={"max_batch_size": 50})
    opened: list[int] = []

    def open_until_short() -> None:
        with Session(tables) as own:
            try:
                while True:
                    opened.append(open_window(own, sized, parts.profiles, queue_id=queue_id, actor="test").id)
            except InsufficientJobs:
                pass

    openers = [threading.Thread(target=open_until_short) for _ in range(16)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    claims = Counter(session.scalars(select(BatchItem.job_id)))
    assert (len(opened), len(claims), max(claims.values())) == (20, 1000, 1)


def tokens_of_a_job(session: Session) -> int:
    return session.scalars(select(JobRequest.most_input_tokens).limit(1)).one()


def with_allowance(parts: Parts, tokens: int) -> Parts:
    return replace(parts, settings=parts.settings.model_copy(update={"max_enqueued_tokens": tokens}))


def test_a_window_closes_at_what_is_left_of_the_providers_allowance(session: Session, parts: Parts) -> None:
    queue_id, _ = make_queued_jobs(session, parts, make_user(session), 7)
    each = tokens_of_a_job(session)
    parts = with_allowance(parts, 5 * each)
    first = open_one(session, parts, queue_id)
    assert (first.job_count, first.enqueued_tokens) == (3, 3 * each)
    assert open_one(session, parts, queue_id).job_count == 2
    with pytest.raises(InsufficientJobs, match="allowance of enqueued tokens"):
        open_one(session, parts, queue_id)
    [view] = batches.list_queues(session, parts.settings, parts.profiles)
    assert (view.readiness.ready, view.readiness.reason) == (False, "no_room")
    end_unsent(session, first)
    assert open_one(session, parts, queue_id).job_count == 3


def test_a_job_that_is_larger_than_the_allowance_rides_alone(session: Session, parts: Parts) -> None:
    queue_id, _ = make_queued_jobs(session, parts, make_user(session), 3)
    assert open_one(session, with_allowance(parts, 1), queue_id).job_count == 1


def test_queues_of_one_model_share_its_allowance(session: Session, parts: Parts, tables: Engine) -> None:
    user = make_user(session)
    for strategy in ("count_only", "count_or_wait"):
        make_jobs(session, parts, user, 3, executionMode="batch", batchStrategy=strategy)
    parts = with_allowance(parts, 4 * tokens_of_a_job(session))
    queue_ids = session.scalars(select(Queue.id)).all()
    session.commit()

    def opener(queue_id: int) -> int:
        with Session(tables) as own:
            return open_one(own, parts, queue_id).job_count

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(opener, queue_ids)) == [1, 3]


def end_unsent(session: Session, window: BatchWindow) -> None:
    windows.end_unsent(session, window, WindowStatus.CANCELLED, "a test", now=clock(session))
    session.commit()


@pytest.mark.parametrize(("urgent", "is_urgent_first"), [("small", True), ("large", False)])
def test_a_queue_with_deadlines_is_judged_by_the_job_that_is_claimed_first(
    session: Session, parts: Parts, urgent: str, is_urgent_first: bool
) -> None:
    """The oldest is not the most urgent, and only one of the two fits beside what the model's other windows hold."""
    user, tomorrow = make_user(session), clock(session) + timedelta(days=1)
    make_jobs(session, parts, user, 3, executionMode="batch")
    other = session.scalars(select(Queue.id)).one()
    due = {"executionMode": "batch", "batchStrategy": "deadline"}
    [oldest] = make_jobs(session, parts, user, 1, **due, needBy=tomorrow + timedelta(hours=1))
    [first] = make_jobs(session, parts, user, 1, **due, needBy=tomorrow)
    late = make_jobs(session, parts, user, 1, **due, needBy=clock(session) + timedelta(minutes=1))  # no window takes it
    each = tokens_of_a_job(session)
    large = oldest if urgent == "small" else first
    change_tokens(session, [large, *late], each * 5)
    parts = with_allowance(parts, 5 * each)
    open_one(session, parts, other)
    queue = session.scalars(select(Queue).where(Queue.id != other)).one()
    [view] = batches.list_queues(session, parts.settings, parts.profiles)
    state = batches.queue_state(session, parts.settings, parts.profiles, queue, clock(session))
    assert (view.state.has_room, state.has_room) == (is_urgent_first, is_urgent_first)
    assert (view.state.queued, state.queued) == (2, 2)  # the late one is not counted either


def test_a_queue_without_deadlines_is_judged_by_its_oldest_job(session: Session, parts: Parts) -> None:
    user = make_user(session)
    queue_id, job_ids = make_queued_jobs(session, parts, user, 6)
    each = tokens_of_a_job(session)
    parts = with_allowance(parts, 5 * each)
    open_one(session, parts, queue_id)
    change_tokens(session, job_ids[3:4], each * 5)
    [view] = batches.list_queues(session, parts.settings, parts.profiles)
    assert not view.state.has_room
    change_tokens(session, job_ids[4:], each * 5)
    change_tokens(session, job_ids[3:4], each)
    [view] = batches.list_queues(session, parts.settings, parts.profiles)
    assert view.state.has_room


def change_tokens(session: Session, job_ids: Sequence[int], tokens: int) -> None:
    session.execute(update(JobRequest).where(JobRequest.job_id.in_(job_ids)).values(most_input_tokens=tokens))
    session.commit()
