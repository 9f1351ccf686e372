"""What fails a batch before anything runs, and which line it names."""

import json

import pytest


def _errors(provider, content, **more):
    failed = provider.finished(provider.create_batch(content, **more))
    assert failed.status == "failed"
    assert (failed.output_file_id, failed.error_file_id) == (None, None)
    assert failed.failed_at
    assert provider.usage_of(failed.id) == []
    return failed.errors.data


def _without(line, *path):
    line = json.loads(json.dumps(line))
    *owners, name = path
    owner = line
    for key in owners:
        owner = owner[key]
    del owner[name]
    return line


def test_missing_input_is_named_by_line_and_param(provider, make_line):
    (error,) = _errors(provider, [make_line("a"), _without(make_line("b"), "body", "input")])
    assert (error.code, error.param, error.line) == ("missing_required_parameter", "body.input", 2)
    assert error.message == "Missing required parameter: 'input'."


@pytest.mark.parametrize("name", ["custom_id", "method", "url", "body"])
def test_missing_part_of_a_line_is_named(provider, make_line, name):
    (error,) = _errors(provider, [_without(make_line("a"), name)])
    assert (error.code, error.param, error.line) == ("missing_required_parameter", name, 1)


def test_duplicate_custom_id_names_the_second_line(provider, make_line):
    (error,) = _errors(provider, [make_line("a"), make_line("b"), make_line("a")])
    assert (error.code, error.line) == ("duplicate_custom_id", 3)


def test_second_model_is_mismatched(provider, make_line):
    (error,) = _errors(provider, [make_line("a"), make_line("b", model="gpt-4.1")])
    assert (error.code, error.line) == ("mismatched_model", 2)


def test_unknown_model_is_not_found(provider, make_line):
    (error,) = _errors(provider, [make_line("a", model="gpt-3")])
    assert (error.code, error.param, error.line) == ("model_not_found", "body.model", 1)
    assert error.message == "The provided model 'gpt-3' is not supported by the Batch API."


def test_other_url_than_the_batch_is_invalid(provider, make_line):
    (error,) = _errors(provider, [make_line("a")], endpoint="/v1/chat/completions")
    assert (error.code, error.param, error.line) == ("invalid_url", "url", 1)


@pytest.mark.parametrize(
    "line",
    [b"{not json}", b'"text"', b"\xef\xbb\xbf{}", b"\xff\xfe", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 5_000],
)
def test_line_that_is_not_json_is_named(provider, line):
    (error,) = _errors(provider, line + b"\n")
    assert (error.code, error.line) == ("invalid_json_line", 1)
    assert error.message == "This line is not parseable as valid JSON."


def test_streaming_is_refused(provider, make_line):
    (error,) = _errors(provider, [make_line("a", stream=True)])
    assert error.param == "body.stream"


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_file_without_requests_is_empty(provider, content):
    (error,) = _errors(provider, content)
    assert (error.code, error.line) == ("empty_file", None)


def test_every_bad_line_is_named_at_once_counting_blank_lines(provider, make_line):
    good = json.dumps(make_line("a")).encode()
    errors = _errors(provider, b"\n".join([b"nonsense", b"", good, good, b"more nonsense"]))
    assert [(error.code, error.line) for error in errors] == [
        ("invalid_json_line", 1),
        ("duplicate_custom_id", 4),
        ("invalid_json_line", 5),
    ]


def test_missing_file_is_accepted_at_first_and_fails_in_validation(provider):
    batch = provider.client.batches.create(
        input_file_id="file-nowhere", endpoint="/v1/responses", completion_window="24h"
    )
    assert batch.status == "validating"
    (error,) = provider.finished(batch).errors.data
    assert (error.code, error.param, error.line) == ("invalid_request", "file_id", None)
    assert error.message.startswith("Cannot find file file-nowhere, or organization org-")


def test_file_deleted_before_validation_cannot_be_found(app, advance, make_line):
    batch = advance.create([make_line("a")])
    app.extensions["files"].delete(batch["input_file_id"])
    failed = advance.run(batch, until="failed")
    assert "Cannot find file" in failed["errors"]


def test_file_deleted_after_validation_is_no_longer_needed(app, advance, make_line):
    batch = advance.create([make_line("a")])
    advance.run(batch, until="in_progress")
    app.extensions["files"].delete(batch["input_file_id"])
    assert advance.run(batch, until="completed")["completed"] == 1


def test_file_of_another_purpose_is_refused(provider):
    file = provider.upload(b"{}", purpose="user_data")
    batch = provider.client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    (error,) = provider.finished(batch).errors.data
    assert error.code == "invalid_request"


@pytest.fixture(scope="module")
def strict_provider(start_provider):
    return start_provider(
        OFFLINE_MAX_REQUESTS_PER_BATCH="3",
        OFFLINE_MAX_BATCH_FILE_BYTES="2000",
        OFFLINE_ENQUEUED_TOKENS="150",
    )


def test_too_many_requests_are_refused(strict_provider, make_line):
    (error,) = _errors(strict_provider, [make_line(str(n)) for n in range(4)])
    assert error.code == "too_many_tasks"


def test_too_large_file_is_refused(strict_provider, make_line):
    (error,) = _errors(strict_provider, [make_line("a", input="x" * 2_000)])
    assert error.code == "file_too_large"


def test_tokens_over_the_models_allowance_are_refused(strict_provider, make_line):
    (error,) = _errors(strict_provider, [make_line("a", input="x" * 600)])
    assert (error.code, error.param, error.line) == ("token_limit_exceeded", None, None)
    assert error.message == (
        "Enqueued token limit reached for gpt-6-luna in organization org-offline. Limit: 150 enqueued tokens. "
        "Please try again once some in_progress batches have been completed."
    )
