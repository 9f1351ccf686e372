"""The audit log: who did what, when and why, found again."""

from __future__ import annotations

import csv
import io
import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_user
from webapp.models import AuditEvent, User
from webapp.services import audit


@pytest.fixture
def boss(session: Session) -> User:
    return make_user(session, "boss@example.org", role="admin")


@pytest.fixture
def admin(client: FlaskClient, boss: User) -> FlaskClient:
    assert client.post("/login", data={"email": boss.email, "password": PASSWORD}).status_code == 303
    return client


@pytest.fixture
def deeds(session: Session, boss: User) -> User:
    """Four, by two people, a day apart; returns the other one."""
    other = make_user(session, "other_1@example.org", role="admin")
    for day, (who, action, target) in enumerate([
        (boss, "hold_queue", "queue:1"), (other, "resume_queue", "queue:11"), (other, "disable_user", "user:7"),
        (boss, "acknowledge", "stray:batch_x"),
    ], 1):  # fmt: skip
        audit.audit(session, who, action, target, f"reason {day}", {"day": day})
        session.execute(update(AuditEvent).where(AuditEvent.id == day).values(at=f"2026-03-{day:02}T12:00:00Z"))
    session.commit()
    return other


def reasons(page: str) -> list[str]:
    return re.findall(r"reason \d", page)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "4321"),
        ("who=OTHER_1", "32"),
        ("who=boss%25", ""),
        ("action=resume_queue", "2"),
        ("target=queue:1", "1"),
        ("target=queue", "21"),
        ("target=%25", ""),
        ("from=2026-03-02&to=2026-03-03", "32"),
        ("who=other&action=disable_user&from=2026-03-04", ""),
    ],
)
def test_the_address_says_which_deeds_are_shown(admin: FlaskClient, deeds: User, query: str, found: str) -> None:
    page = admin.get(f"/admin/audit?{query}").text
    assert reasons(page) == [f"reason {number}" for number in found]
    assert found or "Nothing like that was done" in page


@pytest.mark.parametrize("day", ["yesterday", "0001-01-01", "9999-12-31"])
def test_a_day_that_is_none_is_named_and_ignored(admin: FlaskClient, deeds: User, day: str) -> None:
    page = admin.get(f"/admin/audit?from={day}&to={day}&who=boss").text
    assert f"“{day}” is no day" in page
    assert reasons(page) == ["reason 4", "reason 1"]


def test_older_deeds_are_on_the_next_page_with_the_same_filter(
    admin: FlaskClient, deeds: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audit.list_audit
    monkeypatch.setattr(audit, "AUDIT_PAGE", 1)
    monkeypatch.setattr(audit, "list_audit", lambda session, **filters: whole(session, **filters, size=1))
    page = admin.get("/admin/audit?who=other").text
    [older] = re.findall(r'href="([^"]+)"[^>]*>Older', page.replace("&amp;", "&"))
    assert (reasons(page), reasons(admin.get(older).text)) == (["reason 3"], ["reason 2"])


def test_each_target_leads_to_its_page_and_an_unknown_kind_is_text(admin: FlaskClient, deeds: User) -> None:
    page = admin.get("/admin/audit").text
    assert '<a href="/admin/queues/11">queue 11</a>' in page
    assert '<a href="/admin/users/7">user 7</a>' in page
    assert "stray:batch_x" in page


def test_the_export_has_what_the_filter_matches_in_every_portion(
    admin: FlaskClient, deeds: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "DEEDS_AT_ONCE", 1)
    answer = admin.get("/admin/audit.csv?who=other", buffered=True)
    assert answer.headers["Content-Disposition"] == "attachment; filename=audit.csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["who"], row["target"], row["detail"]) for row in rows] == [
        ("other_1@example.org", "user:7", '{"day": 3}'), ("other_1@example.org", "queue:11", '{"day": 2}'),
    ]  # fmt: skip
    assert rows[0]["at"] == "2026-03-03T12:00:00+00:00"


def test_hostile_text_is_text_in_the_page_and_in_a_spreadsheet(
    admin: FlaskClient, session: Session, boss: User
) -> None:
    audit.audit(session, boss, "hold_queue", "queue:1", "=cmd() <img src=x>", {"<b>": "<script>"})
    session.commit()
    page = admin.get("/admin/audit?who=<script>").text + admin.get("/admin/audit").text
    assert "<img src=x>" not in page and "<b>" not in page and "<script>" not in page
    assert "'=cmd() <img src=x>" in admin.get("/admin/audit.csv", buffered=True).text
