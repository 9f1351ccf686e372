"""Faults between the caller and the API: errors, delays, lost and damaged answers."""

import json
import time
from threading import Thread

import openai
import pytest


def test_error_answers_instead_of_the_api_and_only_as_often_as_told(wild):
    fault = wild.fault("http_error", status=429, retry_after=300, times=1, match={"request": "POST /v1/responses"})
    last = wild.last_usage()
    with pytest.raises(openai.RateLimitError) as caught:
        _ask(wild)
    assert caught.value.response.headers["retry-after"] == "300"
    assert caught.value.code == "rate_limit_exceeded"
    assert wild.usage_since(last) == []
    assert _ask(wild).status == "completed"
    assert wild.struck(fault) == 1
    assert wild.admin("/faults")["data"][0]["active"] is False


@pytest.mark.parametrize(
    ("status", "more", "code", "type"),
    [
        (429, {"code": "insufficient_quota"}, "insufficient_quota", "insufficient_quota"),
        (500, {}, "server_error", "server_error"),
        (503, {"message": "Too much."}, "server_error", "server_error"),
        (401, {}, "invalid_api_key", "invalid_request_error"),
        (408, {}, None, "invalid_request_error"),
        (409, {}, None, "invalid_request_error"),
    ],
)
def test_errors_are_worded_by_their_status_and_code(wild, status, more, code, type):
    wild.fault("http_error", status=status, **more)
    with pytest.raises(openai.APIStatusError) as caught:
        wild.client.batches.list()
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (status, code, type)
    assert "retry-after" not in caught.value.response.headers
    assert more.get("message", "") in caught.value.message


@pytest.mark.parametrize(
    ("pattern", "is_struck"),
    [
        ("GET /v1/batches", True),
        ("/v1/batch*", True),
        ("GET *", True),
        ("GET /v1/batches/*", False),
        ("POST /v1/batches", False),
    ],
)
def test_request_is_matched_by_method_and_path(wild, pattern, is_struck):
    wild.fault("http_error", status=500, match={"request": pattern})
    assert (wild.get("/v1/batches", **{"api-key": "test-key"})[0] == 500) is is_struck
    assert wild.get("/healthz")[0] == 200


@pytest.mark.parametrize("kind", ["slow", "slow_after"])
def test_slow_answer_comes_in_the_end(wild, kind):
    wild.fault(kind, seconds=0.3, times=1)
    started = time.monotonic()
    wild.client.models.list()
    assert time.monotonic() - started >= 0.3


def test_late_answer_was_committed_before_the_wait(wild, wait):
    fault = wild.fault("slow_after", seconds=30, times=1, match={"request": "POST /v1/responses"})
    last = wild.last_usage()
    Thread(target=_ask_in_vain, args=(wild,), daemon=True).start()
    (row,) = wait(lambda: wild.usage_since(last))
    assert row["billed"] is True
    wait(lambda: wild.struck(fault) == 1)


def test_connection_dropped_before_leaves_nothing(wild):
    fault = wild.fault("drop_before", times=1, match={"request": "POST /v1/responses"})
    last = wild.last_usage()
    with pytest.raises(openai.APIConnectionError):
        _ask(wild)
    assert wild.usage_since(last) == []
    assert wild.struck(fault) == 1
    assert _ask(wild).status == "completed"


def test_answer_dropped_after_is_billed_all_the_same(wild):
    wild.fault("drop_after", times=1, match={"request": "POST /v1/responses"})
    last = wild.last_usage()
    with pytest.raises(openai.APIConnectionError):
        _ask(wild)
    (row,) = wild.usage_since(last)
    assert (row["status_code"], row["billed"]) == (200, True)


def test_batch_whose_create_was_dropped_after_is_there_once(wild, make_line):
    seen = {batch["id"] for batch in wild.admin("/batches?limit=10000")["data"]}
    fault = wild.fault("drop_after", times=1, match={"request": "POST /v1/batches"})
    with pytest.raises(openai.APIConnectionError):
        wild.create_batch([make_line("a")])
    (twin,) = [batch for batch in wild.admin("/batches?limit=10000")["data"] if batch["id"] not in seen]
    assert wild.client.batches.list(limit=1).data[0].id == twin["id"]
    assert wild.finished(wild.client.batches.retrieve(twin["id"])).status == "completed"
    assert wild.struck(fault) == 1


def test_file_whose_upload_was_dropped_after_is_there(wild):
    wild.fault("drop_after", times=1, match={"request": "POST /v1/files"})
    with pytest.raises(openai.APIConnectionError):
        wild.upload(b"lost", purpose="evals")
    assert wild.client.files.list(purpose="evals", limit=1).data[0].bytes == 4


def test_refused_request_takes_no_strike_of_a_lost_answer(wild):
    fault = wild.fault("drop_after", times=1)
    assert wild.get("/v1/batches/batch_x", **{"api-key": "test-key"})[0] == 404
    assert wild.struck(fault) == 0


def test_cut_download_breaks_off(wild):
    file = wild.upload(b"x" * 200_000, purpose="user_data")
    wild.fault("cut_body", bytes=70_000, times=1, match={"request": "GET /v1/files/*/content"})
    with pytest.raises(openai.APIConnectionError):
        wild.client.files.content(file.id)
    assert len(wild.client.files.content(file.id).content) == 200_000


def test_cut_download_may_hide_it(wild):
    file = wild.upload(b"x" * 200_000, purpose="user_data")
    wild.fault("cut_body", bytes=70_000, says="short", match={"request": "/v1/files/*/content"})
    assert len(wild.client.files.content(file.id).content) == 70_000 < file.bytes


def test_cut_answer_breaks_off_too(wild):
    wild.fault("cut_body", bytes=20, times=1, match={"request": "POST /v1/responses"})
    with pytest.raises(openai.APIConnectionError):
        _ask(wild)


@pytest.mark.parametrize("form", ["truncated", "not_json"])
def test_garbage_is_a_good_answer_that_is_not_json(wild, form):
    wild.fault("garbage_body", form=form, times=1)
    raw = wild.client.batches.with_raw_response.list()
    assert raw.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw.text)


def _ask(provider):
    return provider.client.responses.create(model="gpt-6-luna", input="The cat sat.")


def _ask_in_vain(provider):
    try:
        provider.client.with_options(timeout=1).responses.create(model="gpt-6-luna", input="The cat sat.")
    except openai.APIError:
        return
