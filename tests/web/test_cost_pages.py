"""The page of costs: charts and tables with the same figures, filters in the address, downloads."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_job, make_user
from tests.statements import heard
from webapp.domain.states import ExecutionMode
from webapp.models import Job, LedgerEntry
from webapp.parts import Parts
from webapp.services import cost_entries
from webapp.services.clock import clock

DIMENSIONS = ("day", "mode", "model", "profile", "user")


@pytest.fixture
def job(session: Session, parts: Parts) -> Job:
    return make_job(session, parts, make_user(session))


@pytest.fixture
def admin(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session, "admin@example.org", role="admin")
    client.post("/login", data={"email": "admin@example.org", "password": PASSWORD})
    return client


def add(session: Session, job: Job, number: int = 1, amount: str | None = "0.25", **values: Any) -> datetime:
    """A batch answer that would have cost 1 USD now. Returns its time: one minute ago."""
    at = clock(session) - timedelta(minutes=1)
    session.add(LedgerEntry(**{
        "job_id": job.id, "attempt": number, "answer_key": f"resp_{number}", "reason": "answer", "user_id": job.user_id,
        "profile_id": job.profile_id, "execution_mode": ExecutionMode.BATCH, "model": "gpt-6-luna", "answered_at": at,
        "recorded_at": at, "input_tokens": 12_345, "output_tokens": 10, "amount": amount and Decimal(amount),
        "sync_amount": Decimal(1),
    } | values))  # fmt: skip
    session.commit()
    return at.astimezone(UTC)


def test_the_page_says_what_was_spent_and_saved(admin: FlaskClient, session: Session, job: Job) -> None:
    add(session, job)
    add(session, job, 2, "0.5", reason="discarded")
    page = admin.get("/admin/costs").text
    for figure in ("$0.7500", "24,690", "$0.2500", "alice@example.org", "gpt-6-luna", "1 discarded"):
        assert figure in page, figure
    assert 'aria-current="page"' in page.split("Admin</a>")[0].rsplit("<a", 1)[1]  # the navigation knows where this is


def test_without_answers_the_page_says_so(admin: FlaskClient, session: Session) -> None:
    page = admin.get("/admin/costs").text
    assert "Nothing was paid" in page
    assert "data-chart" not in page


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_each_chart_has_the_figures_of_its_table(
    admin: FlaskClient, session: Session, job: Job, dimension: str
) -> None:
    at = add(session, job)
    add(session, job, 2, "0.5", execution_mode=ExecutionMode.SYNC, sync_amount=Decimal("0.5"), model="gpt-5")
    chart = admin.get(f"/admin/costs/chart/{dimension}.json?period=7d").json
    assert chart
    assert (chart["unit"], chart["kind"]) == ("USD", "bars")
    series = {one["label"]: one["values"] for one in chart["series"]}
    if dimension == "day":
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        day = chart["x"]["values"].index(midnight)
        assert (len(chart["x"]["values"]), chart["x"]["unit"], chart["stacked"]) == (7, "UTC", True)
        assert (series["Now"][day], series["Batch"][day]) == (0.5, 0.25)
        assert sum(series["Now"] + series["Batch"]) == 0.75
    else:
        alone = {"profile": job.profile_id, "user": job.user.email}
        if dimension in alone:
            expected, spent, saved = [alone[dimension]], [0.75], [0.75]
        else:
            expected = ["Now", "Batch"] if dimension == "mode" else ["gpt-5", "gpt-6-luna"]
            spent, saved = [0.5, 0.25], [0, 0.75]
        assert chart["x"]["values"] == expected
        assert series == {"Spent": spent, "Saved by batching": saved}


def test_a_chart_joins_what_is_beyond_its_bars(admin: FlaskClient, session: Session, job: Job) -> None:
    for number in range(14):
        add(session, job, number, "0.5" if number < 12 else "0.125", model=f"model {number}")
    chart = admin.get("/admin/costs/chart/model.json").json
    assert chart
    assert (chart["x"]["values"][-1], len(chart["x"]["values"])) == ("2 others", 13)
    assert [one["values"][-1] for one in chart["series"]] == [0.25, 1.75]


def test_filters_are_in_every_address_of_the_page(admin: FlaskClient, session: Session, job: Job) -> None:
    add(session, job)
    add(session, job, 2, "0.5", model="gpt-5")
    page = admin.get("/admin/costs?period=7d&mode=batch&model=gpt-5").text
    assert "$0.5000" in page
    assert "$0.7500" not in page
    for address in ("/chart/day.json", "/user.csv", "/entries.csv"):
        rest = page.split(address, 1)[1].split('"', 1)[0]
        assert "mode=batch" in rest, address
        assert "model=gpt-5" in rest, address
    assert '<option value="gpt-5" selected>' in page


@pytest.mark.parametrize("query", ["period=century", "from=yesterday", "mode=both", "user=alice"])
@pytest.mark.parametrize("path", ["", "/chart/day.json", "/day.csv", "/entries.csv"])
def test_an_impossible_filter_is_refused(admin: FlaskClient, session: Session, path: str, query: str) -> None:
    assert admin.get(f"/admin/costs{path}?{query}").status_code == 422


@pytest.mark.parametrize("query", ["from=0001-01-01&until=9999-12-31", "from=9999-12-31&until=0001-01-01"])
def test_a_period_of_all_times_in_any_order_ends_today(
    admin: FlaskClient, session: Session, job: Job, query: str
) -> None:
    add(session, job)
    assert "$0.2500" in admin.get(f"/admin/costs?{query}").text
    chart = admin.get(f"/admin/costs/chart/day.json?{query}").json
    assert chart
    assert (chart["x"]["label"], len(chart["x"]["values"])) == ("Month", 1)


def test_each_line_leads_to_itself_alone(admin: FlaskClient, session: Session, job: Job) -> None:
    at = add(session, job)
    page = admin.get("/admin/costs").text
    for query in (f"from={at.date()}&amp;until={at.date()}", "model=gpt-6-luna", "mode=batch", f"user={job.user_id}"):
        assert query in page, query


def test_unknown_entries_are_listed_with_their_reason(admin: FlaskClient, session: Session, job: Job) -> None:
    for number in range(cost_entries.UNKNOWN_PAGE + 1):
        add(session, job, number, None, input_tokens=None)
    page = admin.get("/admin/costs").text
    assert page.count("the provider reported no usage") == cost_entries.UNKNOWN_PAGE
    assert f'href="/jobs/{job.id}"' in page
    older = page.split("before=", 1)[1].split("&", 1)[0].split("#", 1)[0]
    assert admin.get(f"/admin/costs?before={older}").text.count("the provider reported no usage") == 1


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_groups_can_be_downloaded(admin: FlaskClient, session: Session, job: Job, dimension: str) -> None:
    add(session, job)
    answer = admin.get(f"/admin/costs/{dimension}.csv", buffered=True)
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert (row["amount"], row["saved"], row["answers"]) == ("0.250000000000", "0.750000000000", "1")
    assert f"attachment; filename=costs-by-{dimension}-" in answer.headers["Content-Disposition"]


def test_all_entries_can_be_downloaded(admin: FlaskClient, session: Session, job: Job) -> None:
    for number in range(2500):  # more than are read at once
        session.add(LedgerEntry(
            job_id=job.id, attempt=1, answer_key=f"r{number}", reason="answer", user_id=job.user_id,
            profile_id=job.profile_id, execution_mode=ExecutionMode.SYNC, model="=1+1", answered_at=clock(session),
            recorded_at=clock(session), input_tokens=1, output_tokens=1, amount=Decimal("0.5"),
        ))  # fmt: skip
    session.commit()
    answer = admin.get("/admin/costs/entries.csv", buffered=True)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert (len(rows), {row["model"] for row in rows}) == (2500, {"'=1+1"})
    assert int(answer.headers["Content-Length"]) == len(answer.data)


def test_no_such_dimension_is_not_there(admin: FlaskClient, session: Session) -> None:
    assert admin.get("/admin/costs/chart/weekday.json").status_code == 404
    assert admin.get("/admin/costs/weekday.csv").status_code == 404


def test_the_admin_page_says_what_was_saved_and_leads_here(admin: FlaskClient, session: Session, job: Job) -> None:
    add(session, job)
    page = admin.get("/admin").text
    assert 'href="/admin/costs">$0.2500</a><small>$0.7500 saved by batching</small>' in page


def test_the_page_asks_little_however_much_there_is(admin: FlaskClient, session: Session, job: Job) -> None:
    for number in range(30):
        add(session, job, number, model=f"model {number}", profile_id=f"profile {number}")
    with heard() as said:
        admin.get("/admin/costs")
    assert 0 < len(said) <= 8
