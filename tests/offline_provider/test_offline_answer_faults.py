"""Faults of an answer, for a caller who waits and for a line of a batch."""

import json

import openai
import pytest

SCHEMA = {
    "type": "json_schema",
    "name": "x",
    "schema": {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]},
}


def _ask(provider, **more):
    return provider.client.responses.create(model="gpt-6-luna", input="The cat sat on the mat.", **more)


def _chat(provider, **more):
    messages = [{"role": "user", "content": "The cat sat on the mat."}]
    return provider.client.chat.completions.create(model="gpt-6-luna", messages=messages, **more)


def test_refusal_takes_the_place_of_the_text(wild):
    wild.fault("refusal", text="No.")
    part = _ask(wild).output[-1].content[0]
    assert (part.type, part.refusal) == ("refusal", "No.")
    message = _chat(wild).choices[0].message
    assert (message.content, message.refusal) == (None, "No.")


def test_other_text_takes_the_place_of_the_text(wild):
    wild.fault("other_text", text="<b>Hello</b>")
    assert _ask(wild).output_text == "<b>Hello</b>"
    assert _chat(wild).choices[0].message.content == "<b>Hello</b>"


def test_incomplete_answer_says_why(wild):
    wild.fault("incomplete", reason="content_filter", times=1)
    wild.fault("incomplete")
    response = _ask(wild)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "content_filter")
    assert _ask(wild).incomplete_details.reason == "max_output_tokens"
    assert _chat(wild).choices[0].finish_reason == "length"


def test_failed_response_is_a_200_without_result_and_costs_nothing(wild):
    wild.fault("failed_body", code="server_error")
    last = wild.last_usage()
    response = _ask(wild)
    assert (response.status, response.error.code, response.output, response.usage) == (
        "failed",
        "server_error",
        [],
        None,
    )
    assert _chat(wild).choices == []
    assert {(row["status_code"], row["billed"], row["output_tokens"]) for row in wild.usage_since(last)} == {
        (200, False, 0)
    }


def test_structured_output_is_broken_only_if_it_was_asked_for(wild):
    fault = wild.fault("invalid_structured_output", times=1)
    _ask(wild)
    assert wild.struck(fault) == 0
    text = _ask(wild, text={"format": SCHEMA}).output_text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert wild.struck(fault) == 1


def test_answer_without_usage_is_billed(wild):
    wild.fault("no_usage")
    last = wild.last_usage()
    assert _ask(wild).usage is None
    (row,) = wild.usage_since(last)
    assert row["billed"] is True
    assert row["output_tokens"] > 0


def test_error_of_one_request_is_logged_and_not_billed(wild):
    fault = wild.fault("line_error", status=429, match={"mode": "sync", "contains": "the mat"}, times=1)
    last = wild.last_usage()
    with pytest.raises(openai.RateLimitError):
        _ask(wild)
    (row,) = wild.usage_since(last)
    assert (row["status_code"], row["billed"], row["input_tokens"]) == (429, False, 0)
    assert wild.struck(fault) == 1


def test_lines_of_a_batch_are_struck_by_id_number_and_content(wild, make_line):
    wild.fault("line_error", status=500, match={"custom_id": "b*"})
    wild.fault("refusal", match={"lines": [3]})
    wild.fault("no_usage", match={"contains": "dog"})
    lines = [make_line("a"), make_line("b1"), make_line("c"), make_line("d", input="A dog.")]
    done = wild.finished(wild.create_batch(lines))
    (failed,) = wild.lines_of(done.error_file_id)
    bodies = {line["custom_id"]: line["response"]["body"] for line in wild.lines_of(done.output_file_id)}
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("b1", 500)
    assert bodies["c"]["output"][-1]["content"][0]["type"] == "refusal"
    assert [name for name, body in bodies.items() if "usage" not in body] == ["d"]
    assert {row["custom_id"]: row["billed"] for row in wild.usage_of(done.id)} == {
        "a": True,
        "b1": False,
        "c": True,
        "d": True,
    }


@pytest.mark.parametrize(
    ("match", "is_struck"),
    [
        ({"endpoint": "/v1/responses", "model": "gpt-6*"}, True),
        ({"endpoint": "/v1/chat/completions"}, False),
        ({"model": "gpt-5"}, False),
        ({"mode": "batch"}, False),
        ({"batch_id": "*"}, False),
        ({"contains": "the dog"}, False),
    ],
)
def test_match_chooses_the_request(wild, match, is_struck):
    fault = wild.fault("refusal", match=match)
    _ask(wild)
    assert wild.struck(fault) == is_struck
