"""The Azure flavour, through the official client."""

import json

import openai
import pytest

DEPLOYMENTS = "chat=gpt-4.1:Standard,many=gpt-4.1:GlobalBatch,luna=gpt-6-luna:DataZoneBatch"
AZURE = {"OFFLINE_FLAVOUR": "azure", "OFFLINE_DEPLOYMENTS": DEPLOYMENTS}


@pytest.fixture(scope="module")
def azure(start_provider):
    return start_provider(base_path="/openai/v1", **AZURE)


@pytest.fixture
def calm_azure(azure):
    yield azure
    azure.calm()


@pytest.fixture
def lines(make_line):
    return [make_line(f"r{n}", model="many") for n in range(5)]


def _ended(provider, batch, wait):
    """Its statuses are in capitals."""

    def ended():
        now = provider.client.batches.retrieve(batch.id)
        return now if now.status in ("Completed", "Failed", "Expired", "Cancelled") else None

    return wait(ended)


def _error(provider, content, wait):
    failed = _ended(provider, provider.create_batch(content), wait)
    assert failed.status == "Failed"
    return failed.errors.data[0]


def test_api_is_at_azures_path_only(azure):
    assert azure.get("/openai/v1/models", **{"api-key": "test-key"})[0] == 200
    assert azure.get("/v1/models", **{"api-key": "test-key"})[0] == 404


def test_model_is_a_deployment_and_the_answer_names_it(azure):
    response = azure.client.responses.create(model="chat", input="The cat sat. It was warm.")
    assert (response.model, response.status) == ("chat", "completed")
    assert response.content_filter_results["hate"]["filtered"] is False
    completion = azure.client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi."}])
    assert completion.choices[0].content_filter_results
    assert completion.prompt_filter_results


def test_unknown_deployment_and_batch_deployment_answer_no_caller(azure):
    with pytest.raises(openai.NotFoundError) as caught:
        azure.client.responses.create(model="gpt-4.1", input="Hi.")
    assert caught.value.code == "DeploymentNotFound"
    with pytest.raises(openai.BadRequestError, match="GlobalBatch"):
        azure.client.responses.create(model="many", input="Hi.")


def test_batch_is_told_in_the_older_words(calm_azure, lines, wait):
    fault = calm_azure.fault("stall_validating")
    batch = calm_azure.create_batch(lines)
    assert (batch.status, batch.endpoint, batch.error_file_id) == ("Validating", None, "")
    assert batch.created_at.endswith("Z")
    assert (batch.request_counts.total, batch.request_counts.completed) == (None, None)
    assert len(batch.id) == len("batch_") + 36
    assert len(batch.input_file_id) == len("file-") + 32
    calm_azure.control("DELETE", f"/faults/{fault['id']}")
    done = _ended(calm_azure, batch, wait)
    assert (done.status, done.endpoint, done.request_counts.completed) == ("Completed", "/v1/responses", 5)


def test_good_batch_has_an_error_file_of_no_bytes_and_lines_without_ids(azure, lines, wait):
    done = _ended(azure, azure.create_batch(lines), wait)
    assert azure.client.files.content(done.error_file_id).content == b""
    for line in azure.lines_of(done.output_file_id):
        assert set(line) == {"custom_id", "response", "error"}
        assert line["response"]["body"]["model"] == "many"
        assert line["response"]["body"]["content_filter_results"]


def test_standard_deployment_takes_no_batch(azure, make_line, wait):
    error = _error(azure, [make_line("a", model="chat")], wait)
    assert (error.code, error.line) == ("invalid_request", 1)
    assert "GlobalBatch" in error.message


def test_validation_codes_are_azures(azure, make_line, lines, wait):
    other = make_line("x", model="luna")
    assert _error(azure, [*lines, other], wait).code == "model_mismatch"
    assert _error(azure, [*lines, {**other, "url": "/v1/nothing"}], wait).code == "url_mismatch"


def test_byte_order_mark_gets_the_misleading_error(azure, lines, wait):
    content = b"\xef\xbb\xbf" + json.dumps(lines[0]).encode()
    assert "model deployment name couldn't be extracted" in _error(azure, content, wait).message


def test_endpoint_is_read_from_the_file(azure, wait):
    body = {"model": "many", "messages": [{"role": "user", "content": "The cat sat."}]}
    line = {"custom_id": "a", "method": "POST", "url": "/chat/completions", "body": body}
    done = _ended(azure, azure.create_batch([line], endpoint="/v1/responses"), wait)
    assert (done.status, done.endpoint) == ("Completed", "/v1/chat/completions")


def test_batch_does_not_expire_after_its_window(calm_azure, lines, wait):
    fault = calm_azure.fault("stall", at_line=2)
    batch = calm_azure.create_batch(lines)
    wait(lambda: calm_azure.struck(fault) == 1)
    calm_azure.control("PUT", "/clock", {"offset_seconds": 200_000})
    calm_azure.control("DELETE", f"/faults/{fault['id']}")
    assert _ended(calm_azure, batch, wait).status == "Completed"


def test_file_must_be_kept_for_fourteen_days(azure):
    with pytest.raises(openai.BadRequestError):
        azure.upload(b"x", expires_after={"anchor": "created_at", "seconds": 1_209_599})
    assert azure.upload(b"x", expires_after={"anchor": "created_at", "seconds": 1_209_600}).id


def test_faults_are_matched_by_the_same_paths(calm_azure, lines):
    calm_azure.fault("drop_after", times=1, match={"request": "POST /v1/batches"})
    with pytest.raises(openai.APIConnectionError):
        calm_azure.create_batch(lines)


def test_quota_fails_the_batch_later_or_at_once(calm_azure, start_provider, lines, wait):
    before = calm_azure.admin("/limits")
    calm_azure.control("PUT", "/limits", {"enqueued_tokens": 10})
    error = _error(calm_azure, lines, wait)
    calm_azure.control("PUT", "/limits", before)
    assert (error.code, "deployment 'many'" in error.message) == ("token_limit_exceeded", True)
    fast = start_provider(base_path="/openai/v1", OFFLINE_AZURE_FAIL_FAST="1", OFFLINE_ENQUEUED_TOKENS="10", **AZURE)
    with pytest.raises(openai.BadRequestError) as caught:
        fast.create_batch(lines)
    assert caught.value.code == "token_limit_exceeded"
    assert fast.admin("/batches")["data"] == []


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"OFFLINE_FLAVOUR": "aws"}, "OFFLINE_FLAVOUR"),
        ({"OFFLINE_FLAVOUR": "azure"}, "OFFLINE_DEPLOYMENTS"),
        ({"OFFLINE_DEPLOYMENTS": DEPLOYMENTS}, "OFFLINE_DEPLOYMENTS"),
        ({"OFFLINE_FLAVOUR": "azure", "OFFLINE_DEPLOYMENTS": "a=gpt-4.1:Fast"}, "OFFLINE_DEPLOYMENTS"),
        ({"OFFLINE_FLAVOUR": "azure", "OFFLINE_DEPLOYMENTS": "a=gpt-0:Standard"}, "OFFLINE_DEPLOYMENTS"),
    ],
)
def test_wrong_flavour_is_refused_at_the_start(env, name):
    from offline_provider.settings import BadSettings, Settings

    with pytest.raises(BadSettings, match=name):
        Settings.from_env({"OFFLINE_PROVIDER_KEY": "k", **env})
