"""The ledger: the same answer is written once, however often it is read."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select
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
    take_lease,
)
from webapp.domain.errors import StaleLease
from webapp.domain.windows import Step
from webapp.models import LedgerEntry
from webapp.parts import Parts
from webapp.services import batch_ingest, reporting
from webapp.services.clock import move_clock

TIMES = 10


def rows(session: Session) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.execute(select(LedgerEntry.__table__).order_by(LedgerEntry.id))]


def test_polling_and_ingesting_ten_times_change_nothing_in_the_ledger(
    session: Session, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settling commit dies nine times: each time both files are read again. Then it is replayed."""
    window = make_submitted_window(session, parts, make_user(session))
    for number in range(TIMES):
        move_clock(session, ahead=timedelta(minutes=5 * number))
        lease = take_lease(session, parts, Step.POLL)
        answer_step(session, parts, lease, batch_object(window, "in_progress"))
    assert rows(session) == []
    move_clock(session, ahead=timedelta(hours=1))
    items = items_of(session, window)
    lines = [output_line(items[0]), output_line(items[1], response("")), output_line(items[2], status=400)]
    lease = end_batch(session, parts, window, "completed", output=lines)

    settle = batch_ingest.settle
    ledgers = []
    for number in range(TIMES):
        is_last = number == TIMES - 1

        def die(run: batch_ingest.Ingest, is_last: bool = is_last) -> dict[str, int]:
            if not is_last:
                raise ConnectionError("killed")
            return settle(run)

        monkeypatch.setattr(batch_ingest, "settle", die)
        try:
            batch_ingest.ingest_window(
                session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
            )
        except ConnectionError:
            session.rollback()
            move_clock(session, ahead=timedelta(hours=2 + number))
            lease = take_lease(session, parts, Step.INGEST)
        ledgers.append(rows(session))
    assert len(ledgers[0]) == 2  # the answer, and the empty one that was paid all the same; a 400 is not
    assert all(ledger == ledgers[0] for ledger in ledgers)
    with pytest.raises(StaleLease):
        batch_ingest.ingest_window(
            session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
        )
    session.rollback()
    assert rows(session) == ledgers[0]


def test_a_batch_answer_knows_what_it_would_have_cost_in_sync(session: Session, parts: Parts) -> None:
    window = make_submitted_window(session, parts, make_user(session))
    lines = [output_line(item) for item in items_of(session, window)]
    lease = end_batch(session, parts, window, "completed", output=lines)
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    entry = session.scalars(select(LedgerEntry).order_by(LedgerEntry.id)).first()
    assert entry is not None
    assert (entry.amount, entry.sync_amount) == (Decimal("0.0001"), Decimal("0.0002"))
    assert (entry.user_id, entry.profile_id) == (1, "pdf_summary")
    assert reporting.job_cost(session, entry.job_id).saved == Decimal("0.0001")


def test_cache_writes_are_paid_at_their_own_price(session: Session, parts: Parts) -> None:
    window = make_submitted_window(session, parts, make_user(session))
    usage = {
        "input_tokens": 1000, "output_tokens": 0,
        "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 400,
                                 "cache_write_tokens_details": {"ttl_12h_tokens": 100}},
    }  # fmt: skip
    lines = [output_line(item, response(f"- {item.job_id}.", usage=usage)) for item in items_of(session, window)]
    lease = end_batch(session, parts, window, "completed", output=lines)
    batch_ingest.ingest_window(
        session, parts.settings, parts.prices, parts.files, window_id=window.id, token=lease.token
    )
    entry = session.scalars(select(LedgerEntry).order_by(LedgerEntry.id)).first()
    assert entry is not None
    assert entry.cache_write_tokens == 400
    expected = 500 * Decimal("0.05") + 100 * Decimal("0.005") + 300 * Decimal("0.0625") + 100 * Decimal("0.125")
    assert entry.amount == expected / 1_000_000
