"""What a process knows by heart of where new jobs go."""

from __future__ import annotations

from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from tests.factories import make_jobs, make_user
from webapp.models import Job, ProfileVersion
from webapp.parts import Parts
from webapp.services.registry import stored_version


def test_a_version_that_a_rollback_took_away_is_not_remembered(session: Session, parts: Parts) -> None:
    profile = parts.profiles.get("pdf_summary")
    stored_version(session, parts.profiles, profile)
    stored_version(session, parts.profiles, profile)
    session.rollback()

    make_jobs(session, parts, make_user(session), 1)

    assert session.scalars(select(Job.profile_version_id)).one() in session.scalars(select(ProfileVersion.id)).all()


def test_a_committed_version_is_looked_up_once(session: Session, parts: Parts) -> None:
    profile = parts.profiles.get("pdf_summary")
    stored = stored_version(session, parts.profiles, profile)
    session.commit()
    assert stored_version(session, parts.profiles, profile) == stored
    said: list[str] = []
    event.listen(session.connection(), "before_cursor_execute", lambda *given: said.append(given[2]))

    assert stored_version(session, parts.profiles, profile) == stored
    assert said == []
    assert session.scalar(select(func.count()).select_from(ProfileVersion)) == 1
