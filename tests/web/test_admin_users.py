"""The users of the admin pages: find, make, disable, and never be without an administrator."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.crowd import crowd
from tests.factories import PASSWORD, make_job, make_jobs, make_queued_jobs, make_user, response
from webapp.domain.answers import read_answer
from webapp.domain.errors import InvalidMove
from webapp.models import ApiToken, Job, User
from webapp.parts import Parts
from webapp.services import accounts, users
from webapp.services.audit import list_audit
from webapp.services.dispatch import start_attempt
from webapp.services.ingest import record_answer

WHY = {"reason": "because"}


list_users = users.list_users


def sign_in(client: FlaskClient, email: str, password: str = PASSWORD) -> int:
    return client.post("/login", data={"email": email, "password": password}).status_code


@pytest.fixture
def boss(session: Session) -> User:
    return make_user(session, "boss@example.org", role="admin")


@pytest.fixture
def alice(session: Session, boss: User) -> User:
    return make_user(session)


@pytest.fixture
def admin(client: FlaskClient, boss: User) -> FlaskClient:
    assert sign_in(client, boss.email) == 303
    return client


@pytest.fixture
def browser(admin: FlaskClient) -> FlaskClient:
    """Alice's, apart from the administrator's."""
    return admin.application.test_client()


def fresh(session: Session, user: User) -> User:
    return session.get_one(User, user.id, populate_existing=True)


def do(admin: FlaskClient, user: User, deed: str, **form: str) -> str:
    """Press the button; returns the page after it."""
    return admin.post(f"/admin/users/{user.id}/{deed}", data={**WHY, **form}, follow_redirects=True).text


def test_users_are_found_by_a_part_of_their_address_which_is_no_pattern(
    admin: FlaskClient, session: Session, alice: User
) -> None:
    make_user(session, "al_ice@example.org", role="admin")
    assert alice.email in admin.get("/admin/users?q=ALICE@").text
    page = admin.get("/admin/users?q=l_i").text
    assert "al_ice@example.org" in page and alice.email not in page
    page = admin.get("/admin/users?role=user&state=enabled").text
    assert alice.email in page and "al_ice@example.org" not in page
    assert "Nobody is like that" in admin.get("/admin/users?q=%25&state=what").text


def test_the_list_is_paged_and_a_page_keeps_the_filter(
    admin: FlaskClient, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "list_users", lambda *args, **more: list_users(*args, **more, size=2))
    for number in range(3):
        make_user(session, f"u{number}@example.org")
    page = admin.get("/admin/users?q=example&role=user").text
    assert re.findall(r"u\d@example", page) == ["u2@example", "u1@example"]
    [older] = re.findall(r'href="([^"]+)"[^>]*>Older', page.replace("&amp;", "&"))
    assert re.findall(r"u\d@example", admin.get(older).text) == ["u0@example"]


def test_what_a_user_spent_this_month_is_in_the_list(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    job = make_job(session, parts, alice)
    start_attempt(session, parts.settings, job_id=job.id, attempt=1, execution_id="e1")
    record_answer(
        session, parts.settings, parts.prices, job_id=job.id, attempt=1, execution_id="e1",
        answer=read_answer(200, response()), raw={}, elapsed_ms=5,
    )  # fmt: skip
    [account], _ = list_users(session, search=alice.email)
    assert account.answers == 1
    assert account.spent > Decimal(0)


def test_a_new_user_signs_in_with_the_password_that_is_shown_once(
    admin: FlaskClient, browser: FlaskClient, session: Session
) -> None:
    answer = admin.post("/admin/users", data={"email": "new@example.org", "role": "user", **WHY})
    [password] = re.findall(r'id="new-password">([^<]+)<', answer.text)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert sign_in(browser, "new@example.org", password) == 303
    user = session.scalars(select(User).where(User.email == "new@example.org")).one()
    assert password not in admin.get(f"/admin/users/{user.id}").text
    assert user.last_sign_in_at is not None
    [deed] = list_audit(session, target=f"user:{user.id}")
    assert (deed.action, deed.reason, deed.user.email) == ("create_user", "because", "boss@example.org")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"email": "ALICE@example.org"}, "This address is registered already."),
        ({"email": "nobody"}, "This is not an e-mail address."),
        ({"password": "short"}, "Use 10 to 200 characters."),
        ({"role": "owner"}, "Choose user or admin."),
        ({"reason": " "}, "Say why: it is kept in the audit log."),
    ],
)
def test_a_user_that_cannot_be_is_explained_on_the_field(
    admin: FlaskClient, session: Session, alice: User, form: dict[str, str], said: str
) -> None:
    answer = admin.post("/admin/users", data={"email": "new@example.org", "role": "user", **WHY, **form})
    assert answer.status_code == 422
    assert f"<span>{said}</span>" in answer.text
    assert session.scalar(select(func.count()).select_from(User)) == 2
    assert list_audit(session) == []


def test_who_is_disabled_is_signed_out_and_calls_nothing_ever_again(
    admin: FlaskClient, browser: FlaskClient, session: Session, alice: User
) -> None:
    token = accounts.create_token(session, alice, "old program")
    sign_in(browser, alice.email)
    assert "the API tokens are revoked" in do(admin, alice, "disable", jobs="keep")
    assert browser.get("/jobs").status_code == 302
    assert sign_in(browser, alice.email) == 422
    do(admin, alice, "enable")
    assert browser.get("/jobs").status_code == 302  # the old session stays dead, and so does the token
    bearer = {"Authorization": f"Bearer {token}"}
    assert browser.get("/api/v1/jobs", headers=bearer).status_code == 401
    assert sign_in(browser, alice.email) == 303


def test_the_administrator_says_what_becomes_of_the_jobs_that_wait(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_queued_jobs(session, parts, alice, 2)
    [running] = make_jobs(session, parts, alice, 1)
    start_attempt(session, parts.settings, job_id=running, attempt=1, execution_id="e1")
    assert "Say what becomes of the jobs" in do(admin, alice, "disable")
    assert "2 waiting jobs were cancelled" in do(admin, alice, "disable", jobs="cancel")
    found = session.scalars(select(Job.status).order_by(Job.id).execution_options(populate_existing=True)).all()
    assert found == ["cancelled", "cancelled", "processing"]
    assert list_audit(session)[0].detail == {"tokensRevoked": 0, "webhooksDisabled": 0, "jobsCancelled": 2}


def test_jobs_of_a_disabled_user_run_on_if_that_was_said(
    admin: FlaskClient, session: Session, parts: Parts, alice: User
) -> None:
    make_queued_jobs(session, parts, alice, 2)
    assert "0 waiting jobs were cancelled" in do(admin, alice, "disable", jobs="keep")
    assert set(session.scalars(select(Job.status))) == {"queued"}


def test_a_reset_password_is_shown_once_and_ends_the_sessions(
    admin: FlaskClient, browser: FlaskClient, session: Session, alice: User
) -> None:
    token = accounts.create_token(session, alice, "a program")
    sign_in(browser, alice.email)
    answer = admin.post(f"/admin/users/{alice.id}/password", data=WHY)
    [password] = re.findall(r'id="new-password">([^<]+)<', answer.text)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert browser.get("/jobs").status_code == 302
    assert (sign_in(browser, alice.email), sign_in(browser, alice.email, password)) == (422, 303)
    assert accounts.find_bearer(session, token) is not None
    assert password not in str(list_audit(session)[0].detail)


def test_signed_out_everywhere_is_everywhere(admin: FlaskClient, browser: FlaskClient, alice: User) -> None:
    sign_in(browser, alice.email)
    assert "Every session of this user has ended." in do(admin, alice, "sign-out")
    assert browser.get("/jobs").status_code == 302


def test_a_role_holds_at_once_in_a_living_session(admin: FlaskClient, browser: FlaskClient, alice: User) -> None:
    sign_in(browser, alice.email)
    assert browser.get("/admin").status_code == 404
    do(admin, alice, "role", role="admin")
    assert browser.get("/admin").status_code == 200
    assert "has this role already" in do(admin, alice, "role", role="admin")
    do(admin, alice, "role", role="user")
    assert browser.get("/admin").status_code == 404


def test_a_token_is_revoked_for_a_user_and_only_by_the_right_address(
    admin: FlaskClient, session: Session, alice: User, boss: User
) -> None:
    accounts.create_token(session, alice, "<b>lost laptop</b>")
    token_id = session.scalars(select(ApiToken.id)).one()
    assert "&lt;b&gt;lost laptop" in admin.get(f"/admin/users/{alice.id}").text
    assert admin.post(f"/admin/users/{boss.id}/tokens/{token_id}/revoke", data=WHY).status_code == 404
    assert "The token was revoked" in do(admin, alice, f"tokens/{token_id}/revoke")
    assert "revoked already" in do(admin, alice, f"tokens/{token_id}/revoke")
    assert len(list_audit(session, target=f"user:{alice.id}")) == 1


@pytest.mark.parametrize(
    ("deed", "form"), [("role", {"role": "user"}), ("disable", {"jobs": "keep"}), ("password", {})]
)
def test_nobody_takes_a_right_from_themselves(
    admin: FlaskClient, session: Session, boss: User, deed: str, form: dict[str, str]
) -> None:
    assert "another administrator has to do that" in do(admin, boss, deed, **form)
    assert (fresh(session, boss).role, boss.is_enabled, boss.session_epoch) == ("admin", True, 0)
    assert list_audit(session) == []


@pytest.mark.parametrize("deed", ["role", "disable", "enable", "password", "sign-out"])
def test_without_a_reason_nothing_is_done(
    admin: FlaskClient, browser: FlaskClient, session: Session, alice: User, deed: str
) -> None:
    alice.is_enabled = deed != "enable"
    session.commit()
    before = (alice.role, alice.is_enabled, alice.password_hash, alice.session_epoch)
    assert "Say why" in do(admin, alice, deed, role="admin", jobs="cancel", reason=" ")
    fresh(session, alice)
    assert (alice.role, alice.is_enabled, alice.password_hash, alice.session_epoch) == before


def demote(session: Session, by: str, whom: str) -> None:
    found = {user.email: user for user in session.scalars(select(User))}
    users.change_role(session, found[whom].id, "user", by=found[by], reason="a race")


def test_of_two_administrators_who_demote_each_other_one_remains(session: Session, boss: User) -> None:
    other = make_user(session, "other@example.org", role="admin")
    session.execute(select(User).where(User.id == boss.id).with_for_update())
    with crowd(session) as others:
        deeds = [
            others.start(lambda own, by=by, whom=whom: demote(own, by, whom))
            for by, whom in ((boss.email, other.email), (other.email, boss.email))
        ]
        others.wait_until_blocked(2)  # both have seen two administrators
        session.commit()
    refused = [error for deed in deeds if (error := deed.exception())]
    assert [str(error) for error in refused] == ["You are no administrator any more; nothing was changed."]
    assert isinstance(refused[0], InvalidMove)
    assert session.scalar(select(func.count()).select_from(User).where(User.role == "admin")) == 1
    assert len(list_audit(session)) == 1


def test_hostile_addresses_are_text(admin: FlaskClient, session: Session) -> None:
    user = make_user(session, "<script>alert(1)</script>@example.org")
    for path in ("/admin/users", f"/admin/users/{user.id}", "/admin/audit"):
        page = admin.get(path).text
        assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in admin.get("/admin/users").text


def test_the_page_of_a_user_leads_to_the_jobs(
    admin: FlaskClient, session: Session, parts: Parts, alice: User, boss: User
) -> None:
    make_job(session, parts, alice)
    make_job(session, parts, boss)
    [address] = re.findall(r'class="btn" href="(/jobs[^"]*)"', admin.get(f"/admin/users/{alice.id}").text)
    found = admin.get(address).text
    assert 'href="/jobs/1"' in found and 'href="/jobs/2"' not in found
