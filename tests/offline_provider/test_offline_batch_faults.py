"""Faults of batches: that stand still, end otherwise than they should, or whose files are not what they say."""

import json
import time

import openai
import pytest


@pytest.fixture
def lines(make_line):
    return [make_line(f"r{n}", input=f"The cat number {n} sat. It was warm.") for n in range(1, 11)]


def _status(provider, batch):
    return provider.client.batches.retrieve(batch.id).status


def _await(provider, batch, wait, status):
    wait(lambda: _status(provider, batch) == status)
    time.sleep(0.1)  # it must also stay there; the worker has been idle for long by then
    assert _status(provider, batch) == status


def _ids(lines):
    return [line["custom_id"] for line in lines]


# validation


@pytest.mark.parametrize(
    ("code", "message", "param"),
    [
        ("missing_required_parameter", "Missing required parameter: 'input'.", "body.input"),
        ("invalid_request", "Cannot find file file-", "file_id"),
        ("token_limit_exceeded", "Enqueued token limit reached for gpt-6-luna", None),
        ("mismatched_model", "does not match the rest of the batch", "body.model"),
        ("model_not_found", "'gpt-6-luna' is not supported by the Batch API", "body.model"),
        ("duplicate_custom_id", "duplicate of another request", "custom_id"),
        ("invalid_json_line", "not parseable as valid JSON", None),
        ("invalid_url", "does not match the batch endpoint '/v1/responses'", "url"),
        ("empty_file", "contains no requests", None),
        ("too_many_tasks", "more requests than", None),
    ],
)
def test_validation_fails_with_the_code_that_was_asked_for(wild, lines, code, message, param):
    fault = wild.fault("validation_error", code=code, line=None)
    failed = wild.finished(wild.create_batch(lines))
    (error,) = failed.errors.data
    assert failed.status == "failed"
    assert (error.code, error.param, error.line) == (code, param, None)
    assert message in error.message
    assert wild.struck(fault) == 1
    assert wild.usage_of(failed.id) == []


def test_validation_incident_ends_after_so_many_batches(wild, lines):
    fault = wild.fault("validation_error", code="invalid_request", times=2)
    file_id = wild.upload(b"\n".join(json.dumps(line).encode() for line in lines)).id
    wanted = {"input_file_id": file_id, "endpoint": "/v1/responses", "completion_window": "24h"}
    ends = [wild.finished(wild.client.batches.create(**wanted)).status for _ in range(3)]
    assert ends == ["failed", "failed", "completed"]
    assert wild.struck(fault) == 2


def test_several_validation_errors_come_together(wild, lines):
    wild.fault("validation_error", code="invalid_json_line", line=2)
    wild.fault("validation_error", code="mine", message="My words.", param="p", line=5)
    errors = wild.finished(wild.create_batch(lines)).errors.data
    assert [(error.code, error.line) for error in errors] == [("invalid_json_line", 2), ("mine", 5)]
    assert (errors[1].message, errors[1].param) == ("My words.", "p")


# standing still


@pytest.mark.parametrize(("where", "done"), [({"at_line": 4}, 4), ({"at_share": 0.6}, 6), ({}, 0)])
def test_stalled_batch_answers_no_more_lines_until_the_fault_is_gone(wild, lines, wait, where, done):
    fault = wild.fault("stall", **where)
    batch = wild.create_batch(lines)
    wait(lambda: wild.struck(fault) == 1)
    _await(wild, batch, wait, "in_progress")
    assert wild.client.batches.retrieve(batch.id).request_counts.completed == done == len(wild.usage_of(batch.id))
    wild.control("DELETE", f"/faults/{fault['id']}")
    assert wild.finished(batch).request_counts.completed == 10


def test_stalled_batch_expires_unless_told_otherwise(wild, lines, wait):
    wild.fault("stall", at_line=4, match={"metadata": {"kind": "usual"}})
    wild.fault("stall", at_line=4, past_expiry=True)
    usual, stubborn = wild.create_batch(lines, metadata={"kind": "usual"}), wild.create_batch(lines)
    wild.control("PUT", "/clock", {"offset_seconds": 90_000})
    done = wild.finished(usual)
    assert done.status == "expired"
    assert len(wild.lines_of(done.output_file_id)) == 4
    assert {line["error"]["code"] for line in wild.lines_of(done.error_file_id)} == {"batch_expired"}
    _await(wild, stubborn, wait, "in_progress")


def test_batch_can_stay_in_validation(wild, lines, wait):
    fault = wild.fault("stall_validating")
    batch = wild.create_batch(lines)
    wait(lambda: wild.struck(fault) == 1)
    assert _status(wild, batch) == "validating"
    wild.control("DELETE", "/faults")
    assert wild.finished(batch).status == "completed"


def test_finalizing_can_go_on_past_the_end_of_the_window(wild, lines, wait):
    wild.fault("long_finalizing")
    batch = wild.create_batch(lines)
    _await(wild, batch, wait, "finalizing")
    wild.control("PUT", "/clock", {"offset_seconds": 90_000})
    _await(wild, batch, wait, "finalizing")
    assert wild.client.batches.retrieve(batch.id).request_counts.completed == 10
    wild.control("DELETE", "/faults")
    assert wild.finished(batch).status == "completed"


def test_only_so_many_batches_are_held(wild, lines, wait):
    fault = wild.fault("stall", times=1)
    first = wild.create_batch(lines)
    wait(lambda: wild.struck(fault) == 1)
    assert wild.finished(wild.create_batch(lines)).status == "completed"
    _await(wild, first, wait, "in_progress")


# cancelling and expiring


def test_ignored_cancel_is_answered_and_comes_true_when_the_fault_is_gone(wild, lines, wait):
    wild.fault("stall", at_line=3)
    fault = wild.fault("ignore_cancel")
    batch = wild.create_batch(lines)
    wait(lambda: wild.client.batches.retrieve(batch.id).request_counts.completed == 3)
    assert wild.client.batches.cancel(batch.id).status == "cancelling"
    assert wild.client.batches.cancel(batch.id).status == "cancelling"
    _await(wild, batch, wait, "cancelling")
    wild.control("DELETE", f"/faults/{fault['id']}")
    done = wild.finished(batch)
    assert (done.status, len(wild.lines_of(done.output_file_id)), done.error_file_id) == ("cancelled", 3, None)


def test_ignored_cancel_can_end_completed(wild, lines, wait):
    stall = wild.fault("stall", at_line=3)
    wild.fault("ignore_cancel", mode="complete")
    batch = wild.create_batch(lines)
    wait(lambda: wild.client.batches.retrieve(batch.id).request_counts.completed == 3)
    assert wild.client.batches.cancel(batch.id).status == "cancelling"
    _await(wild, batch, wait, "cancelling")
    wild.control("DELETE", f"/faults/{stall['id']}")
    done = wild.finished(batch)
    assert (done.status, done.request_counts.completed) == ("completed", 10)
    assert done.cancelling_at


def test_cancelled_batch_can_have_lines_for_what_never_ran(wild, lines, wait):
    wild.fault("stall", at_line=3)
    wild.fault("cancel_lines")
    batch = wild.create_batch(lines)
    wait(lambda: wild.client.batches.retrieve(batch.id).request_counts.completed == 3)
    wild.client.batches.cancel(batch.id)
    done = wild.finished(batch)
    unrun = wild.lines_of(done.error_file_id)
    assert (done.status, len(unrun), unrun[0]["response"]) == ("cancelled", 7, None)
    assert {line["error"]["code"] for line in unrun} == {"batch_cancelled"}
    assert len(wild.usage_of(batch.id)) == 3


def test_batch_can_expire_at_once(wild, lines, wait):
    wild.fault("stall", at_line=3)
    batch = wild.create_batch(lines)
    wait(lambda: wild.client.batches.retrieve(batch.id).request_counts.completed == 3)
    wild.fault("expire_now", times=1)
    done = wild.finished(batch)
    assert (done.status, done.expires_at - done.created_at) == ("expired", 86_400)
    assert len(wild.lines_of(done.output_file_id)) == 3
    assert len(wild.lines_of(done.error_file_id)) == 7


# what the files hold


def test_batch_in_which_everything_failed_is_completed_without_an_output(wild, lines):
    wild.fault("all_failed", times=1)
    done = wild.finished(wild.create_batch(lines))
    assert (done.status, done.output_file_id, done.request_counts.failed) == ("completed", None, 10)
    assert {line["response"]["status_code"] for line in wild.lines_of(done.error_file_id)} == {400}
    assert {row["billed"] for row in wild.usage_of(done.id)} == {False}
    assert done.usage.total_tokens == 0


def test_lines_of_status_zero_are_counted_as_good(wild, lines):
    fault = wild.fault("status_zero", every=5)
    done = wild.finished(wild.create_batch(lines))
    lost = wild.lines_of(done.error_file_id)
    assert sorted(_ids(lost)) == ["r10", "r5"]
    assert lost[0]["response"] == {"status_code": 0, "request_id": "", "body": {}}
    assert (done.request_counts.completed, done.request_counts.failed) == (10, 0)
    assert len(wild.usage_of(done.id)) == 8
    assert wild.struck(fault) == 2


@pytest.mark.parametrize("billed", [True, False])
def test_missing_lines_are_in_neither_file(wild, lines, billed):
    wild.fault("missing_lines", every=3, billed=billed)
    done = wild.finished(wild.create_batch(lines))
    missing = {"r3", "r6", "r9"}
    assert {line["custom_id"] for line in lines} - set(_ids(wild.lines_of(done.output_file_id))) == missing
    assert done.error_file_id is None
    logged = wild.usage_of(done.id)
    assert missing <= {row["custom_id"] for row in logged} if billed else len(logged) == 7
    assert done.usage.input_tokens == sum(row["input_tokens"] for row in logged)


def test_doubled_line_is_there_twice_and_billed_once(wild, lines):
    wild.fault("doubled_lines", every=10)
    done = wild.finished(wild.create_batch(lines))
    got = [line for line in wild.lines_of(done.output_file_id) if line["custom_id"] == "r10"]
    assert (len(got), got[0]) == (2, got[1])
    assert len(wild.usage_of(done.id)) == 10


@pytest.mark.parametrize("billed", [True, False])
def test_second_answer_may_be_another_one(wild, lines, billed):
    wild.fault("doubled_lines", match={"custom_id": "r4"}, different=True, billed=billed)
    done = wild.finished(wild.create_batch(lines))
    first, second = [line for line in wild.lines_of(done.output_file_id) if line["custom_id"] == "r4"]
    assert first["response"]["body"]["id"] != second["response"]["body"]["id"]
    assert first["response"]["body"]["output"] != second["response"]["body"]["output"]
    rows = {row["response_id"]: row for row in wild.usage_of(done.id) if row["custom_id"] == "r4"}
    assert rows[first["response"]["body"]["id"]]["billed"] is True
    assert rows[second["response"]["body"]["id"]]["billed"] is billed
    assert done.usage.output_tokens == sum(row["output_tokens"] for row in wild.usage_of(done.id) if row["billed"])


def test_second_answer_to_a_schema_is_still_json(wild, make_line):
    wild.fault("doubled_lines", different=True)
    schema = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}
    line = make_line("a", text={"format": {"type": "json_schema", "name": "x", "schema": schema}})
    done = wild.finished(wild.create_batch([line]))
    bodies = [line["response"]["body"] for line in wild.lines_of(done.output_file_id)]
    first, second = [json.loads(body["output"][-1]["content"][0]["text"])["summary"] for body in bodies]
    assert first != second


def test_error_can_be_in_the_output_file(wild, lines):
    wild.fault("error_in_output", every=4, status=422)
    done = wild.finished(wild.create_batch(lines))
    statuses = {line["custom_id"]: line["response"]["status_code"] for line in wild.lines_of(done.output_file_id)}
    assert [name for name, status in statuses.items() if status == 422] and statuses["r4"] == statuses["r8"] == 422
    assert (done.error_file_id, done.request_counts.failed) == (None, 2)
    assert sum(row["billed"] for row in wild.usage_of(done.id)) == 8


def test_output_can_hold_lines_that_nobody_sent(wild, lines):
    wild.fault("unknown_lines", count=3)
    done = wild.finished(wild.create_batch(lines))
    got = _ids(wild.lines_of(done.output_file_id))
    assert len(got) == 13
    assert sorted(set(got) - {line["custom_id"] for line in lines}) == [f"nobody-sent-this-{n}" for n in range(3)]
    assert len(wild.usage_of(done.id)) == 10


def test_output_can_hold_lines_that_are_no_lines(wild, lines):
    wild.fault("malformed_lines", count=5, long_bytes=100_000)
    done = wild.finished(wild.create_batch(lines))
    raw = wild.client.files.content(done.output_file_id).content.splitlines()
    assert len(raw) == 15
    assert any(len(line) > 100_000 for line in raw)
    assert any(line.startswith(b"\0") for line in raw)
    assert any(b"\\ud800" in line for line in raw)
    assert sum(b'"custom_id":"r' in line for line in raw) == 10


def test_one_form_of_malformed_lines_can_be_chosen(wild, lines):
    wild.fault("malformed_lines", count=2, forms=["nul_bytes"])
    done = wild.finished(wild.create_batch(lines))
    raw = wild.client.files.content(done.output_file_id).content.splitlines()
    assert sum(set(line) == {0} for line in raw) == 2


def test_shuffled_output_is_in_another_order_than_the_input(wild, lines):
    wild.fault("shuffle")
    done = wild.finished(wild.create_batch(lines))
    assert _ids(wild.lines_of(done.output_file_id)) == [line["custom_id"] for line in lines][::-1]


def test_shaping_can_be_combined(wild, lines):
    wild.control(
        "PUT", "/faults", [{"kind": "shuffle"}, {"kind": "unknown_lines", "count": 20}, {"kind": "doubled_lines"}]
    )
    done = wild.finished(wild.create_batch(lines))
    got = [name for name in _ids(wild.lines_of(done.output_file_id)) if name.startswith("r")]
    assert got == [name for n in range(10, 0, -1) for name in (f"r{n}", f"r{n}")]


def test_crash_between_shaping_the_files_and_ending_the_batch_is_healed(app, advance, make_line, monkeypatch):
    from offline_provider.fault_kinds import read

    for kind in ("shuffle", "unknown_lines"):
        app.extensions["faults"].add(read({"kind": kind}))
    batch = advance.create([make_line(f"r{n}") for n in range(5)])
    advance.run(batch, until="finalizing")
    monkeypatch.setattr(app.extensions["files"], "register", _killed)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            advance.step(batch)
    monkeypatch.undo()
    done = advance.run(batch, until="completed")
    assert _ids(advance.lines(done["output_file_id"])) == ["nobody-sent-this-0", "r4", "r3", "r2", "r1", "r0"]
    assert [fault.struck for fault in app.extensions["faults"].all()] == [1, 1]


def test_strikes_of_a_step_that_failed_never_were(app, advance, make_line, monkeypatch):
    from offline_provider import usage
    from offline_provider.fault_kinds import read

    fault = app.extensions["faults"].add(read({"kind": "refusal", "times": 3}))
    batch = advance.create([make_line(f"r{n}") for n in range(5)])
    advance.run(batch, until="in_progress")
    monkeypatch.setattr(usage, "record", _killed)
    with pytest.raises(RuntimeError):
        advance.step(batch)
    assert fault.struck == 0
    monkeypatch.undo()
    done = advance.run(batch, until="completed")
    assert advance.now(done)["completed"] == 5
    assert fault.struck == 3 == app.extensions["database"].one("SELECT struck FROM faults")[0]


def _killed(*args, **kwargs):
    raise RuntimeError("killed here")


# what the API says of it


def test_absent_files_can_have_empty_ids(wild, lines):
    wild.fault("empty_file_ids")
    batch = wild.create_batch(lines)
    assert batch.output_file_id == batch.error_file_id == ""
    done = wild.finished(batch)
    assert (bool(done.output_file_id), done.error_file_id) == (True, "")


def test_counts_can_be_wrong(wild, lines):
    wild.fault("wrong_counts", match={"metadata": {"wrong": "much"}}, total=3, completed=0, failed=3)
    wild.fault("wrong_counts")
    wild.fault("all_failed")
    done = wild.finished(wild.create_batch(lines))
    assert (done.request_counts.completed, done.request_counts.failed) == (10, 0)
    done = wild.finished(wild.create_batch(lines, metadata={"wrong": "much"}))
    assert (done.request_counts.total, done.request_counts.failed) == (3, 3)


def test_batch_can_vanish_and_come_back(wild, lines):
    others = [wild.create_batch(lines).id for _ in range(3)]
    gone = wild.create_batch(lines)
    wild.fault("vanish", match={"batch_id": gone.id})
    for call in (wild.client.batches.retrieve, wild.client.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call(gone.id)
    assert [batch.id for batch in wild.client.batches.list(limit=2).data] == others[:0:-1]
    assert gone.id not in [batch.id for batch in wild.client.batches.list(limit=2)]
    wild.control("DELETE", "/faults")
    assert wild.client.batches.retrieve(gone.id).id == gone.id


def test_content_of_a_file_can_be_gone(wild, lines):
    done = wild.finished(wild.create_batch(lines))
    fault = wild.fault("file_gone", match={"filename": f"{done.id}_output.jsonl"})
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        wild.client.files.content(done.output_file_id)
    assert wild.client.files.content(done.input_file_id).content
    assert wild.struck(fault) == 1


def test_killed_server_counts_each_struck_line_once(start_provider, make_line, wait):
    provider = start_provider(OFFLINE_IN_PROGRESS_SECONDS="2")
    fault = provider.fault("missing_lines", every=3)
    batch = provider.create_batch([make_line(f"r{n}") for n in range(300)])
    wait(lambda: provider.client.batches.retrieve(batch.id).request_counts.completed > 50)
    provider.kill()
    provider.start()
    done = provider.finished(batch)
    assert provider.struck(fault) == 100
    assert len(provider.lines_of(done.output_file_id)) == 200 == len(provider.usage_of(done.id))


def test_readme_names_every_fault_with_its_parameters():
    from pathlib import Path

    from offline_provider.fault_kinds import KINDS

    readme = (Path(__file__).resolve().parents[2] / "offline_provider" / "README.md").read_text()
    for name, kind in KINDS.items():
        row = next((row for row in readme.splitlines() if row.startswith(f"| `{name}`")), None)
        assert row, f"{name} is not in the README"
        for parameter in kind.parameters:
            assert f"`{parameter}`" in row, f"{name} has no {parameter} in the README"
