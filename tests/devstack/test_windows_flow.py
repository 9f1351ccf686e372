"""The windows flow in a real n8n: open what is ready, lease until there is none, do each step."""

from __future__ import annotations

import pytest

from .conftest import LiveN8n
from .stub import Answer, Call, Stub

pytestmark = pytest.mark.e2e

QUEUES, OPEN, LEASE = "/api/internal/queues", "/api/internal/batches/open", "/api/internal/batches/lease"
BATCHES = "/v1/batches"
CREATE = {"input_file_id": "file-1", "endpoint": "/v1/responses", "completion_window": "24h"}


def queue(number: int, *, ready: bool) -> dict[str, object]:
    return {"queue": number, "profile": "p", "queued": 3, "ready": ready, "reason": None, "held": False}


def leased(stub: Stub, window: int, step: str, path: str = BATCHES, body: object = None) -> Answer:
    request = {"url": stub.url + path, "body": body} if body is not None else {"url": stub.url + path}
    return Answer(
        200, {"batch": {"id": window}, "leaseToken": f"t{window}-{step}", "nextStep": step, "request": request}
    )


def answer_path(window: int) -> str:
    return f"/api/internal/batches/{window}/answer"


def nudge(live: LiveN8n, *leases: Answer, queues: list[Answer] | None = None) -> None:
    """Nudge the flow; it ends when its lease call gets the 204 after `leases`."""
    live.stub.on("GET", QUEUES, *(queues if queues is not None else [Answer(200, {"queues": []})]))
    live.stub.on("POST", LEASE, *leases)
    assert live.call("windows/nudge", {}) == 200
    live.stub.wait_for_call(LEASE, count=len(leases) + 1, seconds=40)


def written(live: LiveN8n, window: int) -> dict[str, object]:
    (call,) = live.stub.to(answer_path(window))
    return call.body


def test_without_work_it_looks_once_and_ends(live: LiveN8n) -> None:
    nudge(live, queues=[Answer(200, {"queues": [queue(1, ready=False)]})])
    assert live.stub.paths() == [f"GET {QUEUES}", f"POST {LEASE}"]


def test_every_ready_queue_is_opened_until_none_is(live: LiveN8n) -> None:
    live.stub.on("POST", OPEN, Answer(201, {}), Answer(201, {}), Answer(409, {"error": "insufficient_jobs"}))
    two_ready = Answer(200, {"queues": [queue(1, ready=True), queue(2, ready=False), queue(3, ready=True)]})
    one_ready = Answer(200, {"queues": [queue(3, ready=True)]})
    nudge(live, queues=[two_ready, one_ready])
    assert sorted(call.body["queue"] for call in live.stub.to(OPEN)[:2]) == [1, 3]
    assert live.stub.to(OPEN)[2].body == {"queue": 3}
    assert live.stub.paths().count(f"GET {QUEUES}") == 2
    assert live.stub.paths().count(f"POST {LEASE}") == 1


def test_broken_queue_list_does_not_hold_up_the_windows(live: LiveN8n) -> None:
    nudge(live, queues=[Answer(500, {"error": "boom"})])
    assert live.stub.paths() == [f"GET {QUEUES}", f"POST {LEASE}"]


def test_window_goes_through_all_its_steps(live: LiveN8n) -> None:
    stub = live.stub
    created = {"id": "batch_1", "status": "validating"}
    stub.on("POST", BATCHES, Answer(200, created, {"x-request-id": "req_1"}))
    stub.on("GET", f"{BATCHES}?limit=100", Answer(200, {"data": [created]}))
    stub.on("GET", f"{BATCHES}/batch_1", Answer(200, {"id": "batch_1", "status": "completed"}))
    stub.on("POST", f"{BATCHES}/batch_1/cancel", Answer(200, {"id": "batch_1", "status": "cancelling"}))
    nudge(
        live,
        leased(stub, 7, "upload_input"),
        leased(stub, 7, "create", body=CREATE),
        leased(stub, 8, "find", f"{BATCHES}?limit=100"),
        leased(stub, 9, "poll", f"{BATCHES}/batch_1"),
        leased(stub, 10, "cancel", f"{BATCHES}/batch_1/cancel"),
        leased(stub, 7, "ingest"),
    )
    assert stub.to("/api/internal/batches/7/input-file")[0].body == {"leaseToken": "t7-upload_input"}
    assert stub.to(BATCHES)[0].body == CREATE
    assert written(live, 7) == {
        "leaseToken": "t7-create",
        "step": "create",
        "statusCode": 200,
        "headers": {"x-request-id": "req_1"},
        "body": created,
    }
    assert written(live, 8) == {
        "leaseToken": "t8-find", "step": "find", "statusCode": 200, "headers": {}, "body": {"data": [created]},
    }  # fmt: skip
    assert (written(live, 9)["step"], written(live, 10)["step"]) == ("poll", "cancel")
    assert stub.to("/api/internal/batches/7/ingest")[0].body == {"leaseToken": "t7-ingest"}


def test_credentials_go_where_they_belong(live: LiveN8n) -> None:
    stub = live.stub
    nudge(live, leased(stub, 1, "create", body=CREATE))

    def keys(call: Call) -> tuple[str | None, str | None]:
        return call.headers.get("authorization"), call.headers.get("x-internal-token")

    token = live.n8n.secrets.internal_token
    assert keys(stub.to(BATCHES)[0]) == ("Bearer sk-test", None)
    assert {keys(call) for call in stub.calls if call.path.startswith("/api/")} == {(None, token)}


@pytest.mark.parametrize("refusal", [Answer(400, {"error": {"message": "no"}}), Answer(503, "<p>busy</p>")])
def test_refused_create_is_told_once_and_never_repeated(live: LiveN8n, refusal: Answer) -> None:
    live.stub.on("POST", BATCHES, refusal)
    nudge(live, leased(live.stub, 1, "create", body=CREATE))
    assert len(live.stub.to(BATCHES)) == 1
    assert (written(live, 1)["statusCode"], written(live, 1)["body"]) == (refusal.status, refusal.body)


def test_lost_create_is_told_as_an_error_and_never_repeated(live: LiveN8n) -> None:
    live.stub.on("POST", BATCHES, Answer(hang_up=True))
    nudge(live, leased(live.stub, 1, "create", body=CREATE))
    assert len(live.stub.to(BATCHES)) == 1
    told = written(live, 1)
    assert set(told) == {"leaseToken", "step", "error"}
    assert told["error"]["code"] == "ECONNRESET"


@pytest.mark.parametrize("step", ["upload_input", "ingest"])
@pytest.mark.parametrize("failure", [Answer(409, {"error": "stale_lease"}), Answer(500, "boom"), Answer(hang_up=True)])
def test_failed_step_does_not_hold_up_other_windows(live: LiveN8n, step: str, failure: Answer) -> None:
    stub = live.stub
    path = {"upload_input": "/api/internal/batches/1/input-file", "ingest": "/api/internal/batches/1/ingest"}[step]
    stub.on("POST", path, failure)
    nudge(live, leased(stub, 1, step), leased(stub, 2, "poll", f"{BATCHES}/batch_2"))
    assert len(stub.to(path)) == 1
    assert written(live, 2)["leaseToken"] == "t2-poll"


def test_answer_that_the_app_refuses_does_not_hold_up_other_windows(live: LiveN8n) -> None:
    stub = live.stub
    stub.on("POST", answer_path(1), *[Answer(409, {"error": "stale_lease"})] * 5)
    nudge(live, leased(stub, 1, "poll", f"{BATCHES}/batch_1"), leased(stub, 2, "poll", f"{BATCHES}/batch_2"))
    assert len(stub.to(answer_path(1))) == 5
    assert written(live, 2)["leaseToken"] == "t2-poll"


def test_failed_lease_ends_the_execution_and_is_reported(live: LiveN8n) -> None:
    live.stub.on("GET", QUEUES, Answer(200, {"queues": []}))
    live.stub.on("POST", LEASE, Answer(500, "boom"))
    assert live.call("windows/nudge", {}) == 200
    report = live.stub.wait_for_call("/api/internal/executions/failed").body
    assert (report["workflow"], report["lastNode"]) == ("Sluice windows", "Lease a due window")
    assert len(live.stub.to(LEASE)) == 1
