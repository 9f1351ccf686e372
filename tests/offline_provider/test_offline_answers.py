"""Responses, Chat Completions and Models through the official client."""

import base64

import openai
import pytest


def test_response_carries_every_field_of_the_reference(client):
    response = client.responses.create(model="gpt-6-luna", input="The cat sat. The dog ran.", metadata={"a": "b"})
    assert response.id.startswith("resp_")
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    assert response.metadata == {"a": "b"}
    assert response.completed_at >= response.created_at
    assert response.reasoning.effort == "medium"
    assert response.service_tier == "default"
    assert response.output_text == "The cat sat. The dog ran."
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.output_tokens_details.reasoning_tokens > 0


def test_reasoning_model_puts_a_reasoning_item_first(client):
    response = client.responses.create(model="gpt-5.4-mini", input="One sentence.")
    assert [item.type for item in response.output] == ["reasoning", "message"]


def test_other_model_answers_with_the_message_alone(client):
    response = client.responses.create(model="gpt-4.1", input="One sentence.")
    assert [item.type for item in response.output] == ["message"]
    assert response.usage.output_tokens_details.reasoning_tokens == 0


def test_summary_consists_of_sentences_of_the_text(client, article):
    response = client.responses.create(model="gpt-6-luna", instructions="Summarise.", input=article)
    flat = " ".join(article.split())
    sentences = response.output_text.removesuffix(".").split(". ")
    assert len(sentences) >= 3
    assert all(sentence in flat for sentence in sentences)
    assert len(response.output_text) < len(article) / 2


def test_bullets_are_given_in_the_number_asked_for(client, article):
    response = client.responses.create(
        model="gpt-6-luna", instructions="Summarise in 4 bullets, in Markdown.", input=article
    )
    lead, _, *bullets = response.output_text.splitlines()
    assert lead == "**The canal at Teddington**"
    assert len(bullets) == 4
    assert all(bullet.removeprefix("- ") in " ".join(article.split()) for bullet in bullets)


def test_same_request_gets_the_same_text(client, article):
    texts = {client.responses.create(model="gpt-6-luna", input=article).output_text for _ in range(3)}
    assert len(texts) == 1


def test_answer_over_the_token_limit_is_incomplete(client, article):
    response = client.responses.create(model="gpt-4.1", input=article, max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage.output_tokens == 16


def test_stored_response_can_be_retrieved(client):
    response = client.responses.create(model="gpt-6-luna", input="One sentence.")
    assert client.responses.retrieve(response.id).output_text == response.output_text


def test_response_is_not_kept_if_not_to_be_stored(client):
    response = client.responses.create(model="gpt-6-luna", input="One sentence.", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_chat_completion_answers_in_its_own_form(client, article):
    messages = [{"role": "system", "content": "Summarise."}, {"role": "user", "content": article}]
    completion = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
    assert completion.id.startswith("chatcmpl-")
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].message.content.split(". ")[0] in " ".join(article.split())
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_chat_completion_over_the_token_limit_ends_with_length(client, article):
    completion = client.chat.completions.create(
        model="gpt-6-luna", messages=[{"role": "user", "content": article}], max_completion_tokens=20
    )
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens <= 20


def test_pdf_is_read_by_file_id(provider, make_pdf):
    file = provider.upload(make_pdf("The lock was built in 1811. It is large."), purpose="user_data")
    part = {"type": "input_file", "file_id": file.id}
    response = provider.client.responses.create(model="gpt-6-luna", input=[{"role": "user", "content": [part]}])
    assert "The lock was built in 1811." in response.output_text


def test_pdf_is_read_from_base64_in_both_endpoints(client, make_pdf):
    data = "data:application/pdf;base64," + base64.b64encode(make_pdf("The lock was built in 1811.")).decode()
    file = {"filename": "lock.pdf", "file_data": data}
    response = client.responses.create(
        model="gpt-6-luna", input=[{"role": "user", "content": [{"type": "input_file", **file}]}]
    )
    completion = client.chat.completions.create(
        model="gpt-6-luna", messages=[{"role": "user", "content": [{"type": "file", "file": file}]}]
    )
    assert response.output_text == completion.choices[0].message.content == "The lock was built in 1811."


def test_question_beside_a_document_is_not_a_part_of_the_answer(client, article):
    content = [
        {"type": "input_text", "text": "Please summarise the document in 2 bullets."},
        {"type": "input_text", "text": article},
    ]
    response = client.responses.create(model="gpt-6-luna", input=[{"role": "user", "content": content}])
    assert response.output_text.count("\n- ") == 2
    assert "Please" not in response.output_text


def test_headers_are_those_of_the_real_service(client):
    raw = client.responses.with_raw_response.create(model="gpt-6-luna", input="One sentence.")
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["openai-processing-ms"].isdigit()
    for kind in ("requests", "tokens"):
        limit, left = (int(raw.headers[f"x-ratelimit-{word}-{kind}"]) for word in ("limit", "remaining"))
        assert 0 < left < limit
        assert raw.headers[f"x-ratelimit-reset-{kind}"].endswith("s")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "test-key"}])
def test_wrong_key_is_refused(provider, header):
    status, body = provider.get("/v1/models", **header)
    assert status == 401
    assert body["error"]["code"] == "invalid_api_key"
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_key_may_come_in_azures_header(provider):
    assert provider.get("/v1/models", **{"api-key": "test-key"})[0] == 200


def test_models_say_when_they_are_shut_down(client):
    dates = {model.id: model.shutdown_date for model in client.models.list()}
    assert dates["gpt-6-luna"] is None
    assert client.models.retrieve("gpt-5.4-nano").shutdown_date == "2027-04-01"


def test_model_is_gone_on_its_last_day(monkeypatch):
    from offline_provider import models

    monkeypatch.setattr("offline_provider.clock.now", lambda: 1_796_947_200.0)  # 2026-12-11
    assert models.find("gpt-5") is None
    assert models.find("gpt-4.1") is not None


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"model": "gpt-3"}, 404, "model_not_found", "model"),
        ({"stream": True}, 400, "unsupported_parameter", "stream"),
        ({"temperature": 0.5}, 400, "unsupported_parameter", "temperature"),
        ({"temperature": 3}, 400, "decimal_above_max_value", "temperature"),
        ({"max_output_tokens": 3}, 400, "integer_below_min_value", "max_output_tokens"),
        ({"input": 3}, 400, "invalid_type", "input"),
        ({"input": None}, 400, "missing_required_parameter", "input"),
        ({"input": []}, 400, "empty_array", "input"),
        ({"invented": 1}, 400, "unknown_parameter", "invented"),
        ({"metadata": {"a": 1}}, 400, "invalid_type", "metadata.a"),
        ({"metadata": {"a": "b" * 513}}, 400, "string_above_max_length", "metadata.a"),
        ({"reasoning": {"effort": "huge"}}, 400, "invalid_value", "reasoning.effort"),
        ({"background": True}, 400, "unsupported_parameter", "background"),
        ({"text": {"format": {"type": "json_object"}}}, 400, None, "messages"),
    ],
)
def test_bad_request_is_refused_with_its_code(browser, change, status, code, param):
    body = {"model": "gpt-6-luna", "input": "Hello.", **change}
    answer = browser.post("/v1/responses", json={k: v for k, v in body.items() if v is not None})
    error = answer.json["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert set(error) == {"message", "type", "param", "code"}


def test_temperature_is_accepted_without_reasoning(client):
    response = client.responses.create(model="gpt-6-luna", input="Hi.", temperature=0.5, reasoning={"effort": "none"})
    assert (response.status, response.temperature) == ("completed", 0.5)


def test_input_over_the_context_window_is_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="gpt-4o-mini", input="word " * 110_000)
    assert caught.value.code == "context_length_exceeded"


def test_every_answer_is_in_the_usage_log(provider):
    before = provider.admin("/usage?limit=10000")["last_id"] or 0
    response = provider.client.responses.create(model="gpt-6-luna", input="One sentence.")
    with pytest.raises(openai.NotFoundError):
        provider.client.responses.create(model="gpt-3", input="One sentence.")
    good, bad = provider.admin(f"/usage?after={before}")["data"]
    assert (good["response_id"], good["mode"], good["status_code"]) == (response.id, "sync", 200)
    assert (good["input_tokens"], good["output_tokens"]) == (response.usage.input_tokens, response.usage.output_tokens)
    assert (bad["model"], bad["status_code"], bad["output_tokens"]) == ("gpt-3", 404, 0)


def test_prompt_cache_key_makes_the_first_tokens_cached(client, article):
    long = article * 10
    usage = client.responses.create(model="gpt-6-luna", input=long, prompt_cache_key="job").usage
    assert usage.input_tokens_details.cached_tokens == 1_024
    assert client.responses.create(model="gpt-6-luna", input=long).usage.input_tokens_details.cached_tokens == 0


@pytest.mark.parametrize("path", ["/admin/usage", "/admin/health"])
def test_admin_does_not_exist_without_its_token(provider, path):
    assert provider.get(path)[0] == 404
    assert provider.get(path, **{"X-Admin-Token": "wrong"})[0] == 404
    assert provider.get(path, **{"X-Admin-Token": "test-admin-token"})[0] == 200


def test_slow_model_can_be_asked_for(make_browser):
    browser = make_browser(OFFLINE_RESPONSE_SECONDS="0.2")
    answer = browser.post("/v1/responses", json={"model": "gpt-6-luna", "input": "Hi."})
    assert int(answer.headers["openai-processing-ms"]) >= 200
