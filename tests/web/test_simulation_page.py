"""The page of window policies, and `flask simulate`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_queued_jobs, make_user
from webapp.parts import Parts

GENERATED = "rate=30&hours=24&seed=1&sizes=10,20&waits=600&strategies=count_or_wait&strategies=count_only"


@pytest.fixture
def admin(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session, "admin@example.org", role="admin")
    client.post("/login", data={"email": "admin@example.org", "password": PASSWORD})
    return client


def test_without_any_job_the_page_shows_generated_arrivals(admin: FlaskClient) -> None:
    page = admin.get("/admin/simulate")
    assert page.status_code == 200
    assert "generated arrivals, seed 1, constant rate" in page.text
    assert page.text.count("Unbeaten</span>") > 1


def test_the_page_begins_with_the_profile_of_the_last_batch_job(
    admin: FlaskClient, session: Session, parts: Parts
) -> None:
    make_queued_jobs(session, parts, make_user(session), 4)
    page = admin.get("/admin/simulate").text
    assert '<option selected value="pdf_summary">' in page
    assert "4 recorded arrivals" in page


def test_the_chart_and_the_table_have_the_same_figures(admin: FlaskClient) -> None:
    page = admin.get(f"/admin/simulate?{GENERATED}").text
    address = re.search(r'data-chart="([^"]+)"', page)
    assert address
    chart = admin.get(address[1].replace("&amp;", "&")).get_json()
    assert [(one["label"], len(one["values"])) for one in chart["series"]] == [
        ("All now", 1), ("Count or wait", 2), ("Count only", 2),
    ]  # fmt: skip
    assert (chart["kind"], chart["unit"], chart["series"][0]["x"]) == ("points", "USD", [0.0])
    for cost in {value for one in chart["series"] for value in one["values"]}:
        assert f"${cost:.4f}" in page
    assert len(re.findall(r"<tr><td>", page)) == 5


def test_where_nothing_is_recorded_the_page_offers_generated_arrivals(admin: FlaskClient) -> None:
    page = admin.get("/admin/simulate?profile=pdf_summary&sizes=10&waits=600&strategies=deadline")
    assert page.status_code == 200
    assert "No such job arrived" in page.text
    offer = re.search(r'<a class="btn btn-primary" href="([^"]+)"', page.text)
    assert offer
    assert "generated arrivals" in admin.get(offer[1].replace("&amp;", "&")).text


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("rate=abc", "rate", "This should be a valid number."),
        ("rate=&hours=24", "rate", "Generated arrivals need a rate."),
        ("rate=1e9", "rate", "less than or equal to 100000"),
        ("rate=10000&hours=24&strategies=deadline", "hours", "240,000 jobs; 10,000 can be simulated here"),
        ("rate=30&sizes=10,x", "sizes", "x: this should be a valid integer"),
        ("rate=30&strategies=fifo", "strategies", "fifo: this should be"),
        ("rate=30&sizes=5", "strategies", "Choose at least one."),
        ("rate=30&turnaround=-1", "turnaround", "greater than 0"),
        ("profile=pdf_summary&since=yesterday", "since", "This should be a valid"),
        ("profile=pdf_summary&since=0001-01-01T00:00", "since", "too far away"),
    ],
)
def test_what_is_wrong_stands_at_its_field(admin: FlaskClient, query: str, field: str, words: str) -> None:
    page = admin.get(f"/admin/simulate?{query}")
    assert page.status_code == 422
    error = re.search(rf'id="{field}-error">.*?</div>', page.text, re.DOTALL)
    assert error
    assert words in error[0]
    assert admin.get(f"/admin/simulate/chart.json?{query}").status_code == 422


def test_a_strange_profile_has_no_jobs_or_no_name(admin: FlaskClient) -> None:
    assert "No such job arrived" in admin.get("/admin/simulate?profile=nobody&strategies=deadline").text
    assert admin.get("/admin/simulate?profile=%00").status_code == 422


def test_only_administrators_simulate(client: FlaskClient, session: Session) -> None:
    make_user(session)
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    assert client.get("/admin/simulate").status_code == 404


@pytest.fixture
def simulate(make_app: Any) -> Any:
    def run(*options: str) -> tuple[int, str]:
        app = make_app()
        with app.app_context():  # as the `flask` command has it
            result = app.test_cli_runner().invoke(args=["simulate", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        return result.exit_code, result.output

    return run


def test_the_command_prints_a_row_for_each_policy(simulate: Any) -> None:
    status, said = simulate("--rate", "30", "--hours", "48", "--sizes", "10,50", "--waits", "60,7200")
    head, *lines = said.splitlines()
    assert status == 0
    assert head.split()[:3] == ["policy", "cost", "saved"]
    assert [line[2:].split("  ")[0] for line in lines[: 1 + 10]][:3] == [
        "all now", "count_or_wait 10, 60 s", "count_or_wait 50, 60 s",
    ]  # fmt: skip
    tail = next(line for line in lines if "count_only 50" in line)
    assert ">= " in tail
    assert "generated arrivals, seed 1, constant rate." in said
    assert "A window brings its answers 60 min after it opens (an assumption: no window has ended yet)" in said


def test_the_command_speaks_json(simulate: Any, session: Session, parts: Parts) -> None:
    make_queued_jobs(session, parts, make_user(session), 4)
    status, said = simulate("--profile", "pdf_summary", "--sizes", "2", "--strategies", "count_only", "--json")
    rows = json.loads(said)["outcomes"]
    assert status == 0
    assert [(row["policy"] and row["policy"]["size"], row["jobs"], row["windows"]) for row in rows] == [
        (None, 4, 0), (2, 4, 2),
    ]  # fmt: skip
    assert float(rows[1]["cost"]) == float(rows[0]["cost"]) / 2


def test_the_command_says_when_there_was_nothing(simulate: Any, tables: Any) -> None:
    status, said = simulate("--profile", "pdf_summary")
    assert (status, said.splitlines()[:2]) == (0, ["No such job arrived.", "0 recorded arrivals."])


def test_the_command_refuses_what_makes_no_sense(simulate: Any, tables: Any) -> None:
    status, said = simulate("--rate", "30", "--sizes", "ten", "--need-by-hours", "0")
    assert status == 2
    assert "--sizes: ten: this should be a valid integer." in said
    assert "--need-by-hours: This should be greater than 0." in said
