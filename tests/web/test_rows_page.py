"""A file of rows on the form: template, dry run, what is wrong in which line, submit."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_user
from webapp.models import Budget, Job, Submission

GOOD = 'text,labels\nA fine day.,\nIt rains.,"wet, dry"\n'


@pytest.fixture
def alice(client: FlaskClient, session: Session) -> FlaskClient:
    make_user(session)
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    return client


def send(client: FlaskClient, content: str, path: str = "/jobs/new", *, name: str = "rows.csv", htmx: bool = False,
         **values: Any) -> Any:  # fmt: skip
    data = {
        "profile": "text_classification",
        "for-rows": "1",
        "executionMode": "batch",
        "labels": "good, bad",
        **values,
    }
    file = {"rows-file": (io.BytesIO(content.encode()), name)} if name else {}
    return client.post(path, data=data | file, headers={"HX-Request": "true"} if htmx else {})


def count(session: Session, table: Any) -> int:
    session.rollback()
    return session.scalar(select(func.count()).select_from(table)) or 0


def test_the_form_offers_rows_to_profiles_without_documents_only(alice: FlaskClient) -> None:
    assert "Many rows from a file" in alice.get("/jobs/new?profile=text_classification").text
    page = alice.get("/jobs/new?profile=text_classification&rows=1").text
    assert 'name="rows-file"' in page
    assert 'accept=".csv,.jsonl,.ndjson"' in page
    assert "required" not in page.split('name="text"')[0].rsplit("<textarea", 1)[1]  # a row may have it
    assert "rows-file" not in alice.get("/jobs/new?profile=pdf_summary&rows=1").text
    assert "Many rows" not in alice.get("/jobs/new?profile=pdf_summary").text


def test_the_template_is_a_file_that_runs(alice: FlaskClient, session: Session) -> None:
    template = alice.get("/jobs/new/rows.csv?profile=text_classification")
    assert template.text.startswith("text,labels\r\n")
    assert "attachment" in template.headers["Content-Disposition"]
    assert send(alice, template.text).status_code == 303
    assert count(session, Job) == 1


def test_the_dry_run_says_what_would_be_made_and_makes_nothing(alice: FlaskClient, session: Session) -> None:
    html = send(alice, GOOD, "/jobs/estimate", htmx=True).text
    assert "<html" not in html
    assert "2 jobs, a few at a time" in html
    assert "50 % less" in html
    assert count(session, Job) == 0


def test_without_javascript_the_dry_run_is_a_page_with_the_form_in_it(alice: FlaskClient) -> None:
    html = send(alice, GOOD, "/jobs/estimate").text
    assert "<html" in html
    assert "2 jobs, a few at a time" in html
    assert 'name="for-rows"' in html


def test_what_is_wrong_is_a_table_of_lines(alice: FlaskClient, session: Session) -> None:
    bad = "text,labels\nfine,\nfine,one\nfine,a,b\n"
    for path, status in (("/jobs/estimate", 200), ("/jobs/new", 422)):
        answer = send(alice, bad, path, htmx=True)
        assert answer.status_code == status
        cells = answer.text.replace("\n", "")
        assert '<td class="num">3</td><td>Labels</td><td>At least two labels, separated by commas.</td>' in cells
        assert '<td class="num">4</td><td>–</td><td>This line has 3 cells, the first line has 2.</td>' in cells
        assert "fine" not in cells.split("What is wrong")[1].split("</table>")[0]  # no text of a row
    assert (count(session, Job), count(session, Submission)) == (0, 0)


def test_only_the_first_hundred_faults_are_shown(alice: FlaskClient) -> None:
    html = send(alice, "text,labels\n" + "fine,one\n" * 400, "/jobs/estimate", htmx=True).text
    assert html.count("At least two labels, separated by commas.</td>") == 100
    assert "there may be more" in html


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.xlsx", GOOD, "Choose a file that ends in .csv or .jsonl."),
        ("rows.csv", "colour\nred\n", "The first line names colour"),
        ("rows.csv", "text,labels\n", "There is nothing to run"),
        ("", "", "Choose a CSV or JSONL file."),
    ],
)
def test_a_file_that_cannot_be_rows_is_refused_on_its_field(
    alice: FlaskClient, session: Session, name: str, content: str, said: str
) -> None:
    answer = send(alice, content, name=name)
    assert answer.status_code == 422
    assert said in answer.text
    if name:
        assert said in send(alice, content, "/jobs/estimate", name=name, htmx=True).text
    assert count(session, Submission) == 0


def test_rows_become_one_submission_and_the_form_fills_in_what_they_leave_out(
    alice: FlaskClient, session: Session
) -> None:
    lines = [{"text": "One."}, {"text": "Two.", "labels": "a, b", "executionMode": "sync"}]
    answer = send(alice, "\n".join(map(json.dumps, lines)), name="mine.jsonl")
    assert (answer.status_code, answer.location) == (303, "/submissions/1")
    made = session.scalars(select(Submission)).one()
    assert (made.source, made.name, made.job_count) == ("rows", "mine.jsonl", 2)
    jobs = session.scalars(select(Job).order_by(Job.id)).all()
    assert [(job.inputs["labels"], job.status) for job in jobs] == [("good, bad", "queued"), ("a, b", "created")]
    assert "mine.jsonl" in alice.get("/submissions/1").text


def test_a_budget_refuses_all_rows_together(alice: FlaskClient, session: Session) -> None:
    session.add(Budget(user_id=1, monthly_amount=0))
    session.commit()
    assert "These runs may cost up to" in send(alice, GOOD, "/jobs/estimate", htmx=True).text
    answer = send(alice, GOOD)
    assert (answer.status_code, "is left of the budget" in answer.text) == (409, True)
    assert count(session, Submission) == 0


def test_an_upload_that_is_too_large_is_refused(make_app: Any, session: Session) -> None:
    make_user(session)
    client = make_app(max_upload_mb=1).test_client()
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    head = b'--b\r\nContent-Disposition: form-data; name="rows-file"; filename="rows.csv"\r\n\r\ntext\r\n'
    body = head + b"x" * 3 * 2**20 + b"\r\n--b--\r\n"
    answer = client.post("/jobs/new", data=body, content_type="multipart/form-data; boundary=b")
    assert answer.status_code == 413
