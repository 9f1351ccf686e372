"""The run flow in a real n8n: one sync job, start to write-back."""

from __future__ import annotations

import pytest

from .conftest import LiveN8n
from .stub import Answer, Stub

pytestmark = pytest.mark.e2e

START, RESULT, PROVIDER = "/api/internal/jobs/1/start", "/api/internal/jobs/1/result", "/v1/responses"
BODY = {
    "model": "m",
    "input": "Zürich · “quoted” \n line",
    "max_output_tokens": 700,
    "nested": {"list": [1, 2.5, None, True]},
}


def payload(stub: Stub, **changes: object) -> dict[str, object]:
    callback = {"start": stub.url + START, "result": stub.url + RESULT}
    return {"jobId": 1, "attempt": 2, "executionMode": "sync", "callback": callback, **changes}


def run(live: LiveN8n, *provider: Answer) -> None:
    stub = live.stub
    stub.on("POST", START, Answer(200, {"request": {"url": stub.url + PROVIDER, "body": BODY}}))
    stub.on("POST", PROVIDER, *provider)
    stub.on("POST", RESULT, Answer(200, {"status": "completed"}))
    assert live.call("jobs/run", payload(stub)) == 200


def test_job_is_started_asked_and_written_back(live: LiveN8n) -> None:
    run(live, Answer(200, {"id": "resp_1", "zero": 0}, {"x-request-id": "req_9", "set-cookie": "a=b"}))
    result = live.stub.wait_for_call(RESULT).body
    assert live.stub.paths() == [f"POST {START}", f"POST {PROVIDER}", f"POST {RESULT}"]
    started = live.stub.to(START)[0].body
    assert started == {"attempt": 2, "executionId": result["executionId"]}
    assert live.stub.to(PROVIDER)[0].body == BODY
    assert 0 <= result.pop("elapsedMs") < 5000
    assert result == {
        "attempt": 2,
        "executionId": started["executionId"],
        "statusCode": 200,
        "headers": {"x-request-id": "req_9"},
        "body": {"id": "resp_1", "zero": 0},
    }


def test_each_side_gets_its_own_credential(live: LiveN8n) -> None:
    run(live, Answer(200, {}))
    live.stub.wait_for_call(RESULT)
    token = live.n8n.secrets.internal_token
    assert live.stub.to(START)[0].headers["x-internal-token"] == token
    assert live.stub.to(RESULT)[0].headers["x-internal-token"] == token
    asked = live.stub.to(PROVIDER)[0].headers
    assert asked["authorization"] == "Bearer sk-test"
    assert "x-internal-token" not in asked


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (Answer(429, {"error": {"code": "rate_limit_exceeded"}}), {"error": {"code": "rate_limit_exceeded"}}),
        (Answer(502, "<html>Bad gateway</html>"), "<html>Bad gateway</html>"),
        (Answer(200, '{"id": "cut of', {"Content-Type": "application/json"}), '{"id": "cut of'),
        (Answer(200, "not typed", {"Content-Type": "application/octet-stream"}), "not typed"),
        (Answer(500), ""),
        (Answer(302, "elsewhere", {"Location": "/elsewhere"}), "elsewhere"),
    ],
)
def test_any_answer_arrives_as_it_came(live: LiveN8n, answer: Answer, body: object) -> None:
    run(live, answer)
    result = live.stub.wait_for_call(RESULT).body
    assert (result["statusCode"], result["body"]) == (answer.status, body)
    assert len(live.stub.to(PROVIDER)) == 1, "the provider is never asked twice"


def test_waiting_time_of_the_provider_reaches_the_app(live: LiveN8n) -> None:
    run(live, Answer(429, {}, {"Retry-After": "7", "x-should-retry": "true", "openai-processing-ms": "12"}))
    headers = live.stub.wait_for_call(RESULT).body["headers"]
    assert headers == {"retry-after": "7", "x-should-retry": "true", "openai-processing-ms": "12"}


def test_connection_that_breaks_is_written_back_as_an_error(live: LiveN8n) -> None:
    run(live, Answer(hang_up=True))
    result = live.stub.wait_for_call(RESULT).body
    assert set(result) == {"attempt", "executionId", "error", "elapsedMs"}
    assert result["error"]["code"] == "ECONNRESET"
    assert result["error"]["message"]
    assert len(live.stub.to(PROVIDER)) == 1


def test_refused_connection_is_written_back_as_an_error(live: LiveN8n, unused_port: int) -> None:
    stub = live.stub
    url = f"http://127.0.0.1:{unused_port}/v1/responses"
    stub.on("POST", START, Answer(200, {"request": {"url": url, "body": BODY}}))
    assert live.call("jobs/run", payload(stub)) == 200
    assert stub.wait_for_call(RESULT).body["error"]["code"] == "ECONNREFUSED"


def test_job_that_moved_on_ends_the_flow_quietly(live: LiveN8n) -> None:
    live.stub.on("POST", START, Answer(409, {"error": "moved on"}))
    assert live.call("jobs/run", payload(live.stub)) == 200
    live.stub.wait_for_call(START)
    run(live, Answer(200, {}))  # a second job: when its result is here, the first one would have gone on
    live.stub.wait_for_call(RESULT)
    assert live.stub.paths() == [f"POST {START}", f"POST {START}", f"POST {PROVIDER}", f"POST {RESULT}"]


def test_write_back_is_repeated_with_the_same_bytes(live: LiveN8n) -> None:
    live.stub.on("POST", RESULT, Answer(503, {}), Answer(503, {}))
    run(live, Answer(200, {"id": "resp_1"}))
    third = live.stub.wait_for_call(RESULT, count=3)
    assert third.text == live.stub.to(RESULT)[0].text
    assert len(live.stub.to(PROVIDER)) == 1


def test_batch_job_is_refused_and_reported(live: LiveN8n) -> None:
    assert live.call("jobs/run", payload(live.stub, executionMode="batch")) == 200
    report = live.stub.wait_for_call("/api/internal/executions/failed").body
    assert report["workflow"] == "Sluice run"
    assert report["lastNode"] == "Refuse a batch job"
    assert "batch jobs ride in windows" in report["message"]
    assert report["executionId"]
    assert live.stub.to(START) == []


@pytest.mark.parametrize("path", ["jobs/run", "windows/nudge"])
def test_webhook_without_the_right_token_is_refused(live: LiveN8n, path: str) -> None:
    assert live.call(path, payload(live.stub), token="guess") == 403
    assert live.stub.calls == []
