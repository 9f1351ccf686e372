"""Batches that are cancelled, expire, or are cut off by kill -9."""

import pytest

from offline_provider import batch_lines


@pytest.fixture
def partial(slow_provider, make_line, wait):
    """A running batch of 300 lines that has some results."""
    batch = slow_provider.create_batch([make_line(f"r{n}") for n in range(300)])

    def has_results():
        return slow_provider.client.batches.retrieve(batch.id).request_counts.completed

    wait(has_results)
    return batch


def test_cancelled_batch_keeps_what_was_answered(slow_provider, partial):
    assert slow_provider.client.batches.cancel(partial.id).status == "cancelling"
    done = slow_provider.finished(partial)
    lines = slow_provider.lines_of(done.output_file_id)
    assert done.status == "cancelled"
    assert done.cancelled_at >= done.cancelling_at
    assert 0 < len(lines) == done.request_counts.completed < 300
    assert done.error_file_id is None
    assert {row["custom_id"] for row in slow_provider.usage_of(done.id)} == {line["custom_id"] for line in lines}


def test_batch_cancelled_in_validation_has_no_files(start_provider, make_line):
    provider = start_provider(OFFLINE_VALIDATING_SECONDS="30")
    batch = provider.create_batch([make_line("a")])
    provider.client.batches.cancel(batch.id)
    done = provider.finished(batch)
    assert (done.status, done.output_file_id, done.error_file_id) == ("cancelled", None, None)


def test_cancel_between_two_steps_keeps_the_lines_of_the_step(app, advance, make_line):
    batch = advance.create([make_line(f"r{n}") for n in range(3)])
    running = advance.run(batch, until="in_progress")
    app.extensions["batches"].move(batch["id"], ("in_progress",), "cancelling")
    app.extensions["batch_steps"].advance(running)  # the step had begun with the old status
    done = advance.run(batch, until="cancelled")
    assert len(advance.lines(done["output_file_id"])) == 3


def test_expired_batch_has_partial_results_and_a_line_for_each_unrun_request(start_provider, make_line):
    provider = start_provider(OFFLINE_IN_PROGRESS_SECONDS="20", OFFLINE_WINDOW_SECONDS="1")
    done = provider.finished(provider.create_batch([make_line(f"r{n}") for n in range(200)]))
    assert done.status == "expired"
    assert done.expired_at >= done.expires_at
    answered, unrun = provider.lines_of(done.output_file_id), provider.lines_of(done.error_file_id)
    assert len(answered) + len(unrun) == 200
    assert unrun[0]["response"] is None
    assert unrun[0]["error"] == {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }


def test_killed_server_goes_on_and_answers_each_line_once(start_provider, make_line, wait):
    provider = start_provider(OFFLINE_IN_PROGRESS_SECONDS="3")
    batch = provider.create_batch([make_line(f"r{n}") for n in range(600)])
    wait(lambda: provider.client.batches.retrieve(batch.id).request_counts.completed > 50)
    provider.kill()
    provider.start()
    again = provider.client.batches.retrieve(batch.id)
    assert again.status == "in_progress"
    assert 50 < again.request_counts.completed < 600
    done = provider.finished(batch)
    lines = provider.lines_of(done.output_file_id)
    everyone = sorted(f"r{n}" for n in range(600))
    assert done.status == "completed"
    assert sorted(line["custom_id"] for line in lines) == everyone
    logged = provider.usage_of(done.id)
    assert sorted(row["custom_id"] for row in logged) == everyone
    in_file = {line["custom_id"]: line["response"]["body"]["id"] for line in lines}
    assert {row["custom_id"]: row["response_id"] for row in logged} == in_file


def test_what_was_written_after_the_last_checkpoint_is_cut_off(app, advance, make_line):
    batch = advance.create([make_line(f"r{n}") for n in range(100)])
    advance.run(batch, until="in_progress")
    advance.step(batch)
    output = app.config["SETTINGS"].data_dir / "batches" / batch["id"] / "output.jsonl"
    with output.open("ab") as file:
        file.write(b'{"custom_id": "a line that was being written when')
    done = advance.run(batch, until="completed")
    assert len({line["custom_id"] for line in advance.lines(done["output_file_id"])}) == 100


def test_results_that_the_disk_lost_are_made_again(app, advance, make_line):
    batch = advance.create([make_line(f"r{n}") for n in range(100)])
    advance.run(batch, until="in_progress")
    advance.step(batch)
    (app.config["SETTINGS"].data_dir / "batches" / batch["id"] / "output.jsonl").write_bytes(b"")
    done = advance.run(batch, until="completed")
    assert len(advance.lines(done["output_file_id"])) == 100
    count = "SELECT count(*) FROM usage_log WHERE batch_id = ?"
    assert app.extensions["database"].one(count, (batch["id"],))[0] == 100


def test_crash_between_keeping_the_results_and_ending_the_batch_is_healed(app, advance, make_line, monkeypatch):
    batch = advance.create([make_line("a")])
    advance.run(batch, until="finalizing")
    files = app.extensions["files"]
    monkeypatch.setattr(files, "register", _fail)
    with pytest.raises(RuntimeError):
        advance.step(batch)
    monkeypatch.undo()
    done = advance.run(batch, until="completed")
    assert len(advance.lines(done["output_file_id"])) == 1


def test_results_come_in_another_order_than_requests(advance, make_line):
    done = advance([make_line(f"r{n:02}") for n in range(50)], until="completed")
    order = [line["custom_id"] for line in advance.lines(done["output_file_id"])]
    assert order != sorted(order)


def test_working_files_are_gone_when_a_batch_has_ended(app, advance, make_line):
    advance([make_line("a")], until="completed")
    assert list((app.config["SETTINGS"].data_dir / "batches").iterdir()) == []


def test_line_too_long_for_the_memory_is_skipped_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_lines, "MAX_LINE_BYTES", 10)
    (tmp_path / "x").write_bytes(b"short\n" + b"y" * 25 + b"\nlast\n")
    with (tmp_path / "x").open("rb") as file:
        assert list(batch_lines.read(file)) == [(b"short\n", 6), (None, 32), (b"last\n", 37)]


def test_terminated_server_stops_quickly(start_provider):
    provider = start_provider()
    assert provider.stop() == 0


def _fail(*args, **kwargs):
    raise RuntimeError("killed here")
