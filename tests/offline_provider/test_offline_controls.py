"""/admin: the clock, the list of faults, the limits, and the view of all batches."""

import sqlite3
import time

import pytest


def test_clock_can_be_moved_and_read(wild):
    status, moved = wild.control("PUT", "/clock", {"offset_seconds": 3_600})
    assert (status, moved["offset_seconds"]) == (200, 3_600)
    assert 3_590 < wild.admin("/clock")["now"] - time.time() < 3_610
    assert wild.upload(b"x").created_at > time.time() + 3_000


@pytest.mark.parametrize("offset", [-1, float("nan"), float("inf"), 1e300, 10**400, "1", True, None])
def test_clock_refuses_what_is_no_time(wild, offset):
    status, body = wild.control("PUT", "/clock", {"offset_seconds": offset})
    assert status == 400
    assert wild.admin("/clock")["offset_seconds"] == 0
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_day_passes_in_a_second_and_the_batch_expires(start_provider, make_line):
    provider = start_provider(OFFLINE_IN_PROGRESS_SECONDS="100000")
    batch = provider.create_batch([make_line(f"r{n}") for n in range(50)])
    provider.control("PUT", "/clock", {"offset_seconds": 43_200})
    started = time.monotonic()
    provider.control("PUT", "/clock", {"offset_seconds": 86_401})
    done = provider.finished(batch)
    assert time.monotonic() - started < 2
    assert done.status == "expired"
    assert len(provider.lines_of(done.error_file_id)) + done.request_counts.completed == 50


def test_waiting_batch_sees_each_move_of_the_clock(start_provider, make_line, wait):
    provider = start_provider(OFFLINE_VALIDATING_SECONDS="600", OFFLINE_FINALIZING_SECONDS="600")
    batch = provider.create_batch([make_line("a")])
    provider.control("PUT", "/clock", {"offset_seconds": 601})
    wait(lambda: provider.client.batches.retrieve(batch.id).status == "finalizing", seconds=5)
    provider.control("PUT", "/clock", {"offset_seconds": 0})  # and back
    provider.control("PUT", "/clock", {"offset_seconds": 1_300})
    assert provider.finished(batch, seconds=5).status == "completed"


def test_limits_per_time_follow_the_clock(make_browser):
    from offline_provider import clock

    browser = make_browser(OFFLINE_BATCHES_PER_HOUR="1")
    body = {"input_file_id": "file-x", "endpoint": "/v1/responses", "completion_window": "24h"}

    def create_at(offset):
        clock.set_offset(offset)
        return browser.post("/v1/batches", json=body).status_code

    try:
        assert [create_at(offset) for offset in (0, 10, 3_700, 3_700, 0)] == [200, 429, 200, 429, 429]
    finally:
        clock.set_offset(0.0)


def test_upload_limit_forgets_uploads_of_a_future_that_was_taken_back(monkeypatch):
    from offline_provider import clock, errors
    from offline_provider.rate_limits import SlidingLimit

    limit = SlidingLimit(60, "uploads")
    monkeypatch.setattr(clock, "now", lambda: 1_000.0)
    limit.count(1)
    with pytest.raises(errors.ApiError):
        limit.count(1)
    monkeypatch.setattr(clock, "now", lambda: 10.0)
    limit.count(1)  # raises if the one of the future still counts


def test_kill_keeps_the_clock_the_faults_and_the_limits(start_provider, make_line):
    provider = start_provider()
    provider.control("PUT", "/clock", {"offset_seconds": 86_400})
    provider.control("PUT", "/limits", {"batches_per_hour": 7})
    stall = provider.fault("stall", at_share=0.6, times=1)
    batch = provider.create_batch([make_line(f"r{n}") for n in range(10)])
    _stalled(provider, batch, 6)
    provider.kill()
    provider.start()
    assert provider.admin("/clock")["offset_seconds"] == 86_400
    assert provider.admin("/limits")["batches_per_hour"] == 7
    assert [(fault["kind"], fault["struck"]) for fault in provider.admin("/faults")["data"]] == [("stall", 1)]
    _stalled(provider, batch, 6)
    provider.control("DELETE", f"/faults/{stall['id']}")
    assert provider.finished(batch).request_counts.completed == 10


def _stalled(provider, batch, at):
    deadline = time.monotonic() + 5
    while provider.client.batches.retrieve(batch.id).request_counts.completed != at:
        assert time.monotonic() < deadline
    assert provider.client.batches.retrieve(batch.id).status == "in_progress"


def test_faults_are_added_listed_replaced_and_removed(wild):
    slow = wild.fault("slow", seconds=0.01, times=2, match={"request": "GET /v1/models"})
    assert slow == {
        "id": slow["id"],
        "kind": "slow",
        "times": 2,
        "struck": 0,
        "active": True,
        "match": {"request": "GET /v1/models"},
        "seconds": 0.01,
    }
    status, listed = wild.control("PUT", "/faults", [{"kind": "vanish"}, {"kind": "shuffle"}])
    assert (status, [fault["kind"] for fault in listed["data"]]) == (200, ["vanish", "shuffle"])
    wild.control("DELETE", f"/faults/{listed['data'][0]['id']}")
    assert [fault["kind"] for fault in wild.admin("/faults")["data"]] == ["shuffle"]
    assert wild.control("DELETE", "/faults/999999")[0] == 404
    assert wild.control("DELETE", "/faults") == (200, {"object": "list", "data": []})


@pytest.mark.parametrize(
    ("fault", "param"),
    [
        ({"kind": "earthquake"}, "kind"),
        ({}, "kind"),
        ({"kind": "slow"}, "seconds"),
        ({"kind": "slow", "seconds": -1}, "seconds"),
        ({"kind": "slow", "seconds": 1, "hours": 1}, "hours"),
        ({"kind": "vanish", "times": 0}, "times"),
        ({"kind": "vanish", "match": {"request": "GET /v1/batches"}}, "match.request"),
        ({"kind": "vanish", "match": {"metadata": {"a": 1}}}, "match.metadata"),
        ({"kind": "stall", "at_share": 1.5}, "at_share"),
        ({"kind": "http_error", "status": 200}, "status"),
        ({"kind": "ignore_cancel", "mode": "maybe"}, "mode"),
    ],
)
def test_unknown_kinds_and_parameters_are_named(wild, fault, param):
    status, body = wild.control("POST", "/faults", fault)
    assert (status, body["error"]["param"]) == (400, param)
    status, body = wild.control("PUT", "/faults", [{"kind": "shuffle"}, fault])
    assert (status, body["error"]["param"]) == (400, f"[1].{param}")
    assert wild.admin("/faults")["data"] == []


def test_limits_change_at_once_and_wrong_ones_change_nothing(start_provider):
    provider = start_provider()
    assert provider.control("PUT", "/limits", {"uploads_per_minute": 1, "response_seconds": 0})[0] == 200
    for wrong in (
        {"threads": 3},
        {"uploads_per_minute": 0},
        {"window_seconds": "1"},
        {"enqueued_tokens": 1.5},
        {"response_seconds": 10**400},
    ):
        assert provider.control("PUT", "/limits", {"uploads_per_minute": 9, **wrong})[0] == 400
    provider.upload(b"x")
    with pytest.raises(Exception, match="uploads per minute"):
        provider.upload(b"x")


def test_admin_lists_every_batch_with_what_was_billed(wild, make_line):
    seen = len(wild.admin("/batches?limit=10000")["data"])
    done = wild.finished(wild.create_batch([make_line("a"), make_line("b", input=5)], metadata={"k": "v"}))
    wild.fault("vanish", match={"batch_id": done.id})
    listed = wild.admin("/batches?limit=10000")
    described = listed["data"][-1]
    assert (len(listed["data"]), listed["has_more"]) == (seen + 1, False)
    assert (described["id"], described["status"], described["vanished"]) == (done.id, "completed", True)
    assert (described["input_file_id"], described["metadata"]) == (done.input_file_id, {"k": "v"})
    assert described["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert described["billed"]["requests"] == 1
    assert described["billed"]["input_tokens"] == done.usage.input_tokens > 0


def test_usage_names_the_request_and_whether_it_is_billed(wild):
    from hashlib import sha256

    last = wild.last_usage()
    raw = wild.client.responses.with_raw_response.create(model="gpt-6-luna", input="Hi there.")
    with pytest.raises(Exception, match="gpt-3"):
        wild.client.responses.create(model="gpt-3", input="Hi there.")
    good, bad = wild.usage_since(last)
    assert good["request_sha256"] == sha256(raw.http_request.content).hexdigest()
    assert (good["billed"], bad["billed"], bad["status_code"]) == (True, False, 404)


def test_database_of_an_earlier_version_gets_what_it_lacks(make_app, tmp_path):
    make_app()
    path = tmp_path / "data" / "offline.db"
    with sqlite3.connect(path) as old:
        for table, column in (("usage_log", "billed"), ("usage_log", "request_sha256"), ("batches", "is_expiring")):
            old.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        old.execute("ALTER TABLE batches DROP COLUMN is_cancel_ignored")
        for name in ("faults", "fault_targets", "controls"):
            old.execute(f"DROP TABLE {name}")
        for status in (200, 400):
            old.execute(
                "INSERT INTO usage_log (created_at, endpoint, mode, input_tokens, cached_tokens, output_tokens,"
                " status_code, provider_ms) VALUES (1, '/v1/responses', 'sync', 1, 0, 1, ?, 1)",
                (status,),
            )
    old.close()
    db = make_app().extensions["database"]
    assert [tuple(row) for row in db.all("SELECT status_code, billed FROM usage_log")] == [(200, 1), (400, 0)]
