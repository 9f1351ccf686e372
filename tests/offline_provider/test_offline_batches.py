"""The life of a batch through the official client: upload, create, poll, download."""

import openai
import pytest


def test_batch_completes_with_one_good_line_per_request(provider, make_line):
    batch = provider.create_batch([make_line(f"r{n}") for n in range(5)], metadata={"sluice_batch": "7"})
    assert batch.status == "validating"
    done = provider.finished(batch)
    assert done.status == "completed"
    lines = provider.lines_of(done.output_file_id)
    assert sorted(line["custom_id"] for line in lines) == [f"r{n}" for n in range(5)]
    for line in lines:
        assert line["id"].startswith("batch_req_")
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        assert line["response"]["body"]["object"] == "response"


def test_batch_object_carries_every_field(provider, make_line):
    done = provider.finished(provider.create_batch([make_line("a")], metadata={"k": "v"}))
    assert done.id == f"batch_{done.created_at:08x}" + done.id[14:]
    assert len(done.id) == len("batch_") + 32
    assert (done.object, done.endpoint, done.completion_window) == ("batch", "/v1/responses", "24h")
    assert (done.model, done.metadata, done.errors, done.error_file_id) == ("gpt-6-luna", {"k": "v"}, None, None)
    assert done.expires_at - done.created_at == 86_400
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (1, 1, 0)


def test_batch_usage_is_the_sum_of_its_lines_and_of_the_usage_log(provider, make_line):
    done = provider.finished(provider.create_batch([make_line("a"), make_line("b", input="Longer. Text.")]))
    usages = [line["response"]["body"]["usage"] for line in provider.lines_of(done.output_file_id)]
    logged = provider.usage_of(done.id)
    for name in ("input_tokens", "output_tokens"):
        total = sum(usage[name] for usage in usages)
        assert total == getattr(done.usage, name) == sum(row[name] for row in logged)
    assert {row["custom_id"] for row in logged} == {"a", "b"}
    assert {row["mode"] for row in logged} == {"batch"}


def test_chat_batch_answers_with_chat_completions(provider, make_line):
    line = make_line("a")
    line["url"] = "/v1/chat/completions"
    line["body"] = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "One sentence."}]}
    done = provider.finished(provider.create_batch([line], endpoint="/v1/chat/completions"))
    (result,) = provider.lines_of(done.output_file_id)
    assert result["response"]["body"]["object"] == "chat.completion"


def test_bad_line_goes_to_the_error_file_in_its_own_shape(provider, make_line):
    done = provider.finished(provider.create_batch([make_line("good"), make_line("bad", temperature=0.2)]))
    (error,) = provider.lines_of(done.error_file_id)
    assert error["custom_id"] == "bad"
    assert error["error"] is None
    assert error["response"]["status_code"] == 400
    assert error["response"]["body"]["error"]["param"] == "temperature"
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 1)


def test_batch_of_bad_lines_completes_without_an_output_file(provider, make_line):
    done = provider.finished(provider.create_batch([make_line(f"r{n}", temperature=0.2) for n in range(3)]))
    assert (done.status, done.output_file_id) == ("completed", None)
    assert len(provider.lines_of(done.error_file_id)) == 3


def test_line_cut_at_the_token_limit_is_a_good_line(provider, make_line, article):
    done = provider.finished(provider.create_batch([make_line("a", input=article, max_output_tokens=16)]))
    (line,) = provider.lines_of(done.output_file_id)
    assert line["response"]["body"]["status"] == "incomplete"


def test_pdf_line_is_read_by_file_id(provider, make_line, make_pdf):
    file = provider.upload(make_pdf("The lock was built in 1811."), purpose="user_data")
    content = [{"type": "input_file", "file_id": file.id}]
    good, lost = (
        make_line("good", input=[{"role": "user", "content": content}]),
        make_line("lost", input=[{"role": "user", "content": [{"type": "input_file", "file_id": "file-x"}]}]),
    )
    done = provider.finished(provider.create_batch([good, lost]))
    assert "1811" in str(provider.lines_of(done.output_file_id))
    assert provider.lines_of(done.error_file_id)[0]["response"]["status_code"] == 404


def test_output_file_expires_as_asked_for(provider, make_line):
    batch = provider.create_batch([make_line("a")], output_expires_after={"anchor": "created_at", "seconds": 7_200})
    file = provider.client.files.retrieve(provider.finished(batch).output_file_id)
    assert (file.purpose, file.expires_at - file.created_at) == ("batch_output", 7_200)


def test_line_that_we_fail_to_answer_has_status_zero_and_the_rest_goes_on(app, make_line, advance, monkeypatch):
    from offline_provider import answers

    real = answers.answer

    def broken(endpoint, body, *more):
        if body["input"] == "boom":
            raise RuntimeError("boom")
        return real(endpoint, body, *more)

    monkeypatch.setattr(answers, "answer", broken)
    batch = advance([make_line("good"), make_line("bad", input="boom")], until="completed")
    (error,) = advance.lines(batch["error_file_id"])
    assert error["response"] == {"status_code": 0, "request_id": "", "body": {}}
    assert [line["custom_id"] for line in advance.lines(batch["output_file_id"])] == ["good"]


def test_list_is_newest_first_and_pages_through_all(provider, make_line):
    made = [provider.create_batch([make_line("a")]).id for _ in range(5)]
    page = provider.client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == made[:-3:-1]
    assert page.has_more
    every = [batch.id for batch in provider.client.batches.list(limit=2)]
    assert every[:5] == made[::-1]
    assert len(every) == len(set(every))


def test_unknown_batch_is_404(client):
    with pytest.raises(openai.NotFoundError, match="No batch found with id 'batch_x'"):
        client.batches.retrieve("batch_x")
    with pytest.raises(openai.NotFoundError):
        client.batches.cancel("batch_x")


def test_cancelling_a_finished_batch_is_409_with_the_known_message(provider, make_line):
    done = provider.finished(provider.create_batch([make_line("a")]))
    with pytest.raises(openai.ConflictError) as caught:
        provider.client.batches.cancel(done.id)
    assert caught.value.body == {
        "message": "Cannot cancel a batch with status 'completed'.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"endpoint": "/v1/nothing"}, "invalid_value", "endpoint"),
        ({"endpoint": "/v1/embeddings"}, "unsupported_parameter", "endpoint"),
        ({"completion_window": "1h"}, "invalid_value", "completion_window"),
        ({"input_file_id": None}, "missing_required_parameter", "input_file_id"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "object_above_max_properties", "metadata"),
        ({"output_expires_after": {"seconds": 3_600}}, "missing_required_parameter", "output_expires_after.anchor"),
        ({"priority": "high"}, "unknown_parameter", "priority"),
    ],
)
def test_bad_create_is_refused_with_its_code(browser, change, code, param):
    body = {"input_file_id": "file-x", "endpoint": "/v1/responses", "completion_window": "24h", **change}
    answer = browser.post("/v1/batches", json=body)
    assert answer.status_code == 400
    assert (answer.json["error"]["code"], answer.json["error"]["param"]) == (code, param)


def test_batches_per_hour_are_limited(make_browser):
    browser = make_browser(OFFLINE_BATCHES_PER_HOUR="1")
    body = {"input_file_id": "file-x", "endpoint": "/v1/responses", "completion_window": "24h"}
    assert [browser.post("/v1/batches", json=body).status_code for _ in range(2)] == [200, 429]
