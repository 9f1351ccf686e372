"""Every route of the web listener against everybody: a new route without a row here fails."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from tests.factories import PASSWORD, make_benchmark, make_submission, make_user, make_window
from webapp.parts import Parts
from webapp.services import submissions, webhooks

SIGN_IN = 302
# route: what anonymous, a stranger, the owner and an admin get
TABLE = {
    ("GET", "/"): (200, 303, 303, 303),
    ("GET", "/healthz"): (200, 200, 200, 200),
    ("GET", "/readyz"): (503, 503, 503, 503),
    ("GET", "/login"): (200, 200, 200, 200),
    ("GET", "/register"): (200, 200, 200, 200),
    ("GET", "/jobs"): (SIGN_IN, 200, 200, 200),
    ("GET", "/jobs/export.<any(csv,jsonl):kind>"): (SIGN_IN, 200, 200, 200),
    ("GET", "/jobs/selection"): (SIGN_IN, 404, 404, 404),  # it does not say what to do with them
    ("POST", "/jobs/selection"): (SIGN_IN, 404, 404, 404),
    ("GET", "/jobs/new"): (SIGN_IN, 200, 200, 200),
    ("POST", "/jobs/new"): (SIGN_IN, 404, 404, 404),
    ("POST", "/jobs/estimate"): (SIGN_IN, 404, 404, 404),
    ("POST", "/jobs/documents"): (SIGN_IN, 404, 404, 404),
    ("GET", "/jobs/new/rows.csv"): (SIGN_IN, 404, 404, 404),  # the first profile has a document field
    ("GET", "/documents"): (SIGN_IN, 200, 200, 200),
    ("POST", "/documents/<int:document_id>/delete"): (SIGN_IN, 404, 303, 404),  # each has his own only
    ("GET", "/submissions"): (SIGN_IN, 200, 200, 200),
    ("GET", "/submissions/<int:submission_id>"): (SIGN_IN, 404, 200, 200),
    ("GET", "/submissions/<int:submission_id>/results.<any(csv,jsonl):kind>"): (SIGN_IN, 404, 200, 200),
    ("POST", "/submissions/<int:submission_id>/retry"): (SIGN_IN, 404, 409, 409),
    ("POST", "/submissions/<int:submission_id>/cancel"): (SIGN_IN, 404, 409, 409),
    ("GET", "/jobs/<int:job_id>"): (SIGN_IN, 404, 200, 200),
    ("GET", "/jobs/<int:job_id>/status"): (SIGN_IN, 404, 200, 200),
    ("GET", "/jobs/<int:job_id>/result"): (SIGN_IN, 404, 303, 303),
    ("GET", "/jobs/<int:job_id>/raw"): (SIGN_IN, 404, 303, 303),
    ("POST", "/jobs/<int:job_id>/cancel"): (SIGN_IN, 404, 409, 409),
    ("GET", "/keys"): (SIGN_IN, 200, 200, 200),
    ("GET", "/account"): (SIGN_IN, 200, 200, 200),
    ("POST", "/account/tokens"): (SIGN_IN, 422, 422, 422),
    ("POST", "/account/tokens/<int:token_id>/revoke"): (SIGN_IN, 404, 404, 404),
    ("POST", "/account/password"): (SIGN_IN, 422, 422, 422),
    ("POST", "/account/sessions/end"): (SIGN_IN, 303, 303, 303),
    ("GET", "/webhooks"): (SIGN_IN, 200, 200, 200),
    ("POST", "/webhooks"): (SIGN_IN, 422, 422, 422),
    ("GET", "/webhooks/<int:webhook_id>"): (SIGN_IN, 404, 200, 404),  # an admin's webhooks are the admin's own
    ("POST", "/webhooks/<int:webhook_id>/change"): (SIGN_IN, 404, 422, 404),
    ("POST", "/webhooks/<int:webhook_id>/<any(enable,disable):deed>"): (SIGN_IN, 404, 303, 404),
    ("POST", "/webhooks/<int:webhook_id>/secret"): (SIGN_IN, 404, 200, 404),
    ("POST", "/webhooks/<int:webhook_id>/test"): (SIGN_IN, 404, 303, 404),
    ("POST", "/webhooks/<int:webhook_id>/deliveries/<int:delivery_id>/redeliver"): (SIGN_IN, 404, 303, 404),
    ("POST", "/webhooks/<int:webhook_id>/delete"): (SIGN_IN, 404, 303, 404),
    ("GET", "/admin"): (404, 404, 404, 200),
    ("GET", "/admin/queues"): (404, 404, 404, 200),
    ("GET", "/admin/windows"): (404, 404, 404, 200),
    ("GET", "/admin/failures"): (404, 404, 404, 200),
    ("GET", "/admin/health"): (404, 404, 404, 200),
    ("GET", "/admin/latency"): (404, 404, 404, 200),
    ("GET", "/admin/latency/chart.json"): (404, 404, 404, 200),
    ("GET", "/admin/windows/<int:window_id>"): (404, 404, 404, 200),
    ("POST", "/admin/windows/<int:window_id>/cancel"): (404, 404, 404, 303),
    ("POST", "/admin/windows/<int:window_id>/retry"): (404, 404, 404, 303),
    ("GET", "/admin/queues/<int:queue_id>"): (404, 404, 404, 200),
    ("POST", "/admin/queues/<int:queue_id>/hold"): (404, 404, 404, 303),
    ("POST", "/admin/queues/<int:queue_id>/resume"): (404, 404, 404, 303),
    ("POST", "/admin/queues/<int:queue_id>/flush"): (404, 404, 404, 303),
    ("POST", "/admin/jobs/<int:job_id>/retry"): (404, 404, 404, 303),
    ("GET", "/admin/audit"): (404, 404, 404, 200),
    ("GET", "/admin/audit.csv"): (404, 404, 404, 200),
    ("GET", "/admin/users"): (404, 404, 404, 200),
    ("POST", "/admin/users"): (404, 404, 404, 422),
    ("GET", "/admin/users/<int:user_id>"): (404, 404, 404, 200),
    ("POST", "/admin/users/<int:user_id>/role"): (404, 404, 404, 303),
    ("POST", "/admin/users/<int:user_id>/disable"): (404, 404, 404, 303),
    ("POST", "/admin/users/<int:user_id>/enable"): (404, 404, 404, 303),
    ("POST", "/admin/users/<int:user_id>/password"): (404, 404, 404, 303),
    ("POST", "/admin/users/<int:user_id>/sign-out"): (404, 404, 404, 303),
    ("POST", "/admin/users/<int:user_id>/tokens/<int:token_id>/revoke"): (404, 404, 404, 404),
    ("GET", "/admin/costs"): (404, 404, 404, 200),
    ("GET", "/admin/budgets"): (404, 404, 404, 200),
    ("POST", "/admin/budgets"): (404, 404, 404, 422),
    ("POST", "/admin/budgets/<int:budget_id>/remove"): (404, 404, 404, 303),
    ("GET", "/admin/simulate"): (404, 404, 404, 200),
    ("GET", "/admin/simulate/chart.json"): (404, 404, 404, 422),
    ("GET", "/admin/costs/entries.csv"): (404, 404, 404, 200),
    ("GET", "/admin/costs/<dimension>.csv"): (404, 404, 404, 200),
    ("GET", "/admin/costs/chart/<dimension>.json"): (404, 404, 404, 200),
    ("GET", "/admin/benchmarks"): (404, 404, 404, 200),
    ("POST", "/admin/benchmarks"): (404, 404, 404, 422),
    ("POST", "/admin/benchmarks/estimate"): (404, 404, 404, 200),
    ("GET", "/admin/benchmarks/compare"): (404, 404, 404, 303),
    ("GET", "/admin/benchmarks/<int:run_id>"): (404, 404, 404, 200),
    ("GET", "/admin/benchmarks/<int:run_id>.json"): (404, 404, 404, 200),
    ("GET", "/admin/benchmarks/<int:run_id>/status"): (404, 404, 404, 200),
    ("GET", "/admin/benchmarks/<int:run_id>/chart/<name>.json"): (404, 404, 404, 200),
    ("GET", "/admin/benchmarks/<int:run_id>/summary.csv"): (404, 404, 404, 200),
    ("GET", "/admin/benchmarks/<int:run_id>/samples.csv"): (404, 404, 404, 200),
    ("POST", "/admin/benchmarks/<int:run_id>/cancel"): (404, 404, 404, 303),
    ("GET", "/api/v1/openapi.json"): (401, 401, 401, 401),  # a session counts for nothing there
    ("POST", "/api/v1/jobs"): (401, 401, 401, 401),
    ("GET", "/api/v1/jobs"): (401, 401, 401, 401),
    ("GET", "/api/v1/jobs/<int:job_id>"): (401, 401, 401, 401),
    ("GET", "/api/v1/jobs/<int:job_id>/result"): (401, 401, 401, 401),
    ("POST", "/api/v1/jobs/<int:job_id>/cancel"): (401, 401, 401, 401),
    ("POST", "/api/v1/jobs/<int:job_id>/retry"): (401, 401, 401, 401),
    ("POST", "/api/v1/submissions"): (401, 401, 401, 401),
    ("GET", "/api/v1/submissions"): (401, 401, 401, 401),
    ("GET", "/api/v1/submissions/<int:submission_id>"): (401, 401, 401, 401),
    ("GET", "/api/v1/submissions/<int:submission_id>/results"): (401, 401, 401, 401),
    ("POST", "/api/v1/documents"): (401, 401, 401, 401),
    ("GET", "/api/v1/documents/<int:document_id>"): (401, 401, 401, 401),
    ("DELETE", "/api/v1/documents/<int:document_id>"): (401, 401, 401, 401),
    ("GET", "/api/v1/webhooks"): (401, 401, 401, 401),
    ("POST", "/api/v1/webhooks"): (401, 401, 401, 401),
    ("GET", "/api/v1/webhooks/<int:webhook_id>"): (401, 401, 401, 401),
    ("PATCH", "/api/v1/webhooks/<int:webhook_id>"): (401, 401, 401, 401),
    ("DELETE", "/api/v1/webhooks/<int:webhook_id>"): (401, 401, 401, 401),
    ("POST", "/api/v1/webhooks/<int:webhook_id>/secret"): (401, 401, 401, 401),
    ("POST", "/api/v1/webhooks/<int:webhook_id>/test"): (401, 401, 401, 401),
    ("GET", "/api/v1/webhooks/<int:webhook_id>/deliveries"): (401, 401, 401, 401),
    ("POST", "/api/v1/webhooks/<int:webhook_id>/deliveries/<int:delivery_id>/redeliver"): (401, 401, 401, 401),
    ("GET", "/api/v1/profiles"): (401, 401, 401, 401),
    ("GET", "/api/v1/usage"): (401, 401, 401, 401),
    ("POST", "/login"): (422, 422, 422, 422),
    ("POST", "/register"): (422, 422, 422, 422),
    ("POST", "/logout"): (303, 303, 303, 303),
}  # fmt: skip
PEOPLE = ("anonymous", "stranger", "owner", "admin")


@pytest.fixture
def job_of_owner(session: Session, parts: Parts) -> int:
    """A claimed job in window 1; its owner's id is not the stranger's."""
    for name in ("stranger", "owner", "admin"):
        user = make_user(session, f"{name}@example.org", role="admin" if name == "admin" else "user")
        if name == "owner":
            make_window(session, parts, user)
            make_benchmark(session, parts, user)
            webhooks.create_webhook(session, parts.settings, user, "https://example.org/hook")
            submissions.cancel_waiting(session, make_submission(session, parts, user).id, user=user)
    return 1


def path_of(rule: str) -> str:
    """The address of what the fixture made."""
    path = rule.replace("<int:token_id>", "999").replace("<int:budget_id>", "9").replace("<dimension>", "day")
    path = path.replace("<name>", "cost").replace("<any(csv,jsonl):kind>", "csv")
    path = path.replace("<any(enable,disable):deed>", "enable")
    for name in ("job", "window", "queue", "run", "submission", "document", "user", "webhook", "delivery"):
        path = path.replace(f"<int:{name}_id>", "1")
    return path


@pytest.mark.parametrize("person", PEOPLE)
def test_everybody_gets_what_is_theirs(client: FlaskClient, job_of_owner: int, person: str) -> None:
    for (method, rule), expected in TABLE.items():
        if person != "anonymous":
            client.post("/login", data={"email": f"{person}@example.org", "password": PASSWORD})
        path = path_of(rule)
        found = client.open(path, method=method, buffered=True).status_code
        assert found == expected[PEOPLE.index(person)], f"{person}: {method} {path}"


def test_the_table_names_every_route(make_app: Any) -> None:
    routes = {
        (method, str(rule))
        for rule in make_app().url_map.iter_rules()
        for method in (rule.methods or set()) & {"GET", "POST", "PUT", "PATCH", "DELETE"}
        if rule.endpoint != "static"
    }
    assert routes == set(TABLE)
