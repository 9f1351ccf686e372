"""Many runs of one submission: how many statements, how much memory, how large at most."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.conftest import DATA
from tests.factories import make_document, make_user
from tests.statements import heard
from webapp.domain.errors import InvalidInput
from webapp.models import Job, User
from webapp.parts import Parts
from webapp.services import documents, estimates, submissions

LARGE = "Water runs through the open gate. " * 30_000  # a megabyte


def submit(session: Session, parts: Parts, user: User, ids: list[int]) -> int:
    made = submissions.submit(
        session, parts.settings, parts.profiles, parts.prices, user=user, profile_id="pdf_summary",
        runs=[{"document": id_} for id_ in ids], source="form", name="documents",
    )  # fmt: skip
    return made.job_count


@pytest.fixture
def alice(session: Session) -> User:
    return make_user(session)


def test_the_texts_of_many_documents_come_in_one_statement(session: Session, parts: Parts, alice: User) -> None:
    ids = [make_document(session, alice).id for _ in range(40)]
    with heard() as said:
        assert submit(session, parts, alice, ids) == 40
    assert sum("documents.text" in one.sql for one in said) == 40 / estimates.CHUNK_OF_DOCUMENTS


def test_stored_uploads_are_looked_up_together(session: Session, parts: Parts, alice: User) -> None:
    def store(count: int) -> int:
        content = (DATA / "two-pages.pdf").read_bytes()
        uploads = [documents.Upload("document", "two.pdf", io.BytesIO(content)) for _ in range(count)]
        with heard() as said:
            stored = documents.add_documents(
                session, parts.storage, parts.pdf, parts.files, user_id=alice.id, uploads=uploads, max_bytes=2**20
            )
            assert [one.filename for one in stored] == ["two.pdf"] * count
        return len([one for one in said if one.sql.startswith("SELECT")])

    assert store(4) == store(1)


def test_a_few_long_documents_are_in_memory_at_a_time(session: Session, parts: Parts, alice: User) -> None:
    ids = [make_document(session, alice, LARGE).id for _ in range(60)]
    session.expire_all()
    tracemalloc.start()
    submit(session, parts, alice, ids)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 110e6  # 20 texts, their requests twice, on the way into the database; not 60


def test_a_submission_that_is_too_large_says_so_and_stores_nothing(
    session: Session, parts: Parts, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "MOST_BYTES", 2_500_000)
    ids = [make_document(session, alice, LARGE).id for _ in range(3)]
    with pytest.raises(InvalidInput, match="larger than 1 GB together: submit them in several parts"):
        submit(session, parts, alice, ids)
    session.rollback()
    assert session.scalar(select(func.count()).select_from(Job)) == 0


def test_its_dry_run_says_so_too(
    session: Session, parts: Parts, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(estimates, "MOST_BYTES", 2_500_000)
    runs = [{"document": make_document(session, alice, LARGE).id} for _ in range(3)]
    profile = parts.profiles.get("pdf_summary")
    with pytest.raises(InvalidInput, match="larger than 1 GB together"):
        estimates.forecast(
            session, parts.settings, parts.prices, parts.profiles, user=alice, profile=profile, runs=runs
        )
