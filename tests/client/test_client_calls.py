"""Each call of the client, on the real app."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from sluice_client import Client, SluiceError, client
from tests.conftest import DATA
from tests.web.test_api_jobs import GOOD, fail, finish
from webapp.models import Document, Job
from webapp.parts import Parts

PDF = DATA / "two-pages.pdf"
TEXT = {"text": "All went well."}
TEXTS = "text_classification"


def test_a_job_is_made_read_and_withdrawn(sluice: Client) -> None:
    made = sluice.create_job(TEXTS, TEXT, key="mine")
    assert sluice.create_job(TEXTS, TEXT, key="mine")["id"] == made["id"]
    assert sluice.get_job(made["id"])["inputs"]["text"] == "All went well."
    with pytest.raises(SluiceError) as early:
        sluice.get_result(made["id"])
    assert (early.value.status, early.value.code) == (409, "no_result")
    assert sluice.cancel_job(made["id"])["status"] == "cancelled"
    assert sluice.retry_job(made["id"])["retryOf"] == made["id"]


def test_a_result_is_what_the_profile_says(sluice: Client, session: Session, parts: Parts) -> None:
    made = sluice.create_job(TEXTS, TEXT)
    finish(session, parts, made["id"])
    assert sluice.get_result(made["id"])["label"] == "good"
    [document] = sluice.upload([PDF])
    summary = sluice.create_job("pdf_summary", {"document": document["id"]})
    finish(session, parts, summary["id"], "- Ä summary.")
    assert sluice.get_result(summary["id"]) == "- Ä summary."


def test_lists_go_over_all_pages(sluice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_LISTED", 2)
    made = sluice.create_submission(TEXTS, ({"text": f"Text {n}."} for n in range(5)), name="five")
    assert [job["id"] for job in sluice.list_jobs(submission=made["id"])] == [5, 4, 3, 2, 1]
    assert list(sluice.list_jobs(status="failed")) == []
    assert [one["name"] for one in sluice.list_submissions()] == ["five"]


def test_results_come_one_by_one(sluice: Client, session: Session, parts: Parts) -> None:
    made = sluice.create_submission(TEXTS, [TEXT, TEXT, TEXT])
    finish(session, parts, 1, GOOD)
    fail(session, 2)
    first, second = sluice.get_results(made["id"])
    assert (first["result"]["label"], second["error"]["message"]) == ("good", "It broke.")
    assert [one["id"] for one in sluice.get_results(made["id"], after=1)] == [2]


def test_many_jobs_go_through_a_file(sluice: Client, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_IN_MEMORY", 10_000)
    made = sluice.create_submission(TEXTS, ({"text": f"Text {n}."} for n in range(700)))
    assert made["jobCount"] == session.scalar(select(func.count()).select_from(Job)) == 700


def test_what_is_wrong_is_said_by_field_and_line(sluice: Client) -> None:
    with pytest.raises(SluiceError, match="colour: This profile has no such field") as wrong:
        sluice.create_job(TEXTS, {**TEXT, "colour": "red"})
    assert (wrong.value.status, list(wrong.value.errors)) == (422, ["colour"])
    with pytest.raises(SluiceError, match=r"line 2: text: This field is required\."):
        sluice.create_submission(TEXTS, [TEXT, {}])


@pytest.mark.parametrize("name", ["plain.pdf", "Übung №1.pdf", "a;b=c d.pdf", "it's 100% <b>.pdf"])
def test_a_file_keeps_its_name(sluice: Client, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(PDF.read_bytes())
    [document] = sluice.upload([file])
    assert (document["filename"], sluice.get_document(document["id"])["pages"]) == (name, 2)


def test_a_name_cannot_break_out_of_its_header(sluice: Client, tmp_path: Path) -> None:
    file = tmp_path / 'a"; name="asFile"\r\nX-Evil: 1\r\n\r\ntrue.pdf'
    file.write_bytes(PDF.read_bytes())
    [document] = sluice.upload([file])
    assert document["isFile"] is False
    assert document["filename"].startswith('a"; name=')


def test_documents_are_sent_once_and_deleted(sluice: Client, session: Session) -> None:
    first = sluice.upload([PDF, DATA / "debian-history.pdf"], key="both")
    assert sluice.upload([PDF, DATA / "debian-history.pdf"], key="both") == first
    assert session.scalar(select(func.count()).select_from(Document)) == 2
    sluice.delete_document(first[0]["id"])
    with pytest.raises(SluiceError) as gone:
        sluice.get_document(first[0]["id"])
    assert gone.value.status == 404


def test_a_file_that_cannot_be_read_is_named(sluice: Client, tmp_path: Path) -> None:
    with pytest.raises(SluiceError, match=r"none\.pdf cannot be read: No such file"):
        sluice.upload([tmp_path / "none.pdf"])


def test_profiles_and_usage(sluice: Client) -> None:
    assert {one["id"]: one["documentFields"] for one in sluice.profiles()}["pdf_summary"] == ["document"]
    assert sluice.usage("2026-01-01", "2026-01-31")["total"]["answers"] == 0
