from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.answers import LOST_KEY, Usage, read_answer, transport_error
from webapp.domain.batch_lines import read_line
from webapp.domain.batch_objects import BatchObject, find_batch, validation_errors
from webapp.domain.outputs import output_fault
from webapp.domain.profiles import Output
from webapp.domain.states import ItemOutcome


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "content": list(parts)}


def text(value: str) -> dict[str, Any]:
    return {"type": "output_text", "text": value}


def test_all_text_parts_are_joined_and_reasoning_is_skipped() -> None:
    output = [{"type": "reasoning", "summary": []}, message(text("a"), text("b")), message(text("c"))]
    answer = read_answer(200, {"id": "resp_1", "status": "completed", "output": output})
    assert (answer.text, answer.key, answer.is_good) == ("abc", "resp_1", True)


def test_responses_and_chat_usage_mean_the_same() -> None:
    responses = {"usage": {"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}}
    chat = {"usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}}
    expected = Usage(input_tokens=9, output_tokens=3, cached_input_tokens=4)
    assert read_answer(200, responses).usage == read_answer(200, chat).usage == expected


@pytest.mark.parametrize("response_id", [LOST_KEY, "x" * 201, "", 7])
def test_an_id_that_cannot_be_a_key_is_replaced_by_a_digest(response_id: Any) -> None:
    answer = read_answer(200, {"id": response_id, "object": "response"})
    assert (answer.response_id, len(answer.key)) == (None, 64)


def test_a_chat_answer_is_read() -> None:
    choice = {"finish_reason": "length", "message": {"role": "assistant", "content": "Hello"}}
    answer = read_answer(200, {"object": "chat.completion", "choices": [choice]})
    assert (answer.text, answer.is_cut) == ("Hello", True)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "x"}}, "server_error"),
        ({"output": [message({"type": "refusal", "refusal": "no"})]}, "refused"),
        ({"output": []}, "empty_answer"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "empty_answer"),
        ({"choices": []}, "empty_answer"),
    ],
)
def test_a_2xx_without_text_is_an_error_that_was_paid(body: Any, code: str) -> None:
    answer = read_answer(200, body)
    assert (answer.is_good, answer.error_code, answer.is_billable, answer.is_retryable) == (False, code, True, False)


def test_a_2xx_that_is_no_json_object_may_be_somebody_elses_and_is_asked_for_again() -> None:
    answer = read_answer(200, "<html>")
    assert (answer.error_code, answer.is_billable, answer.is_retryable) == ("unreadable_answer", True, True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "3"}, 3), ({"retry-after-ms": "250"}, 0.25), ({"retry-after": "Wed, 21 Oct"}, None),
     ({"retry-after": "-1"}, None), ({"retry-after": "inf"}, None), ({"retry-after": "999999"}, 3600), ({}, None)],
)  # fmt: skip
def test_retry_after_is_read_and_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert read_answer(429, {}, headers).retry_after_seconds == seconds


@pytest.mark.parametrize(("status", "refused"), [(400, True), (429, True), (408, False), (500, False), (200, False)])
def test_which_answers_are_definite_refusals(status: int, refused: bool) -> None:
    assert read_answer(status, {}).is_definite_refusal is refused


def test_a_refused_connection_is_definite_and_a_time_out_is_not() -> None:
    assert transport_error("x", "ECONNREFUSED").is_definite_refusal
    assert not transport_error("x", "ECONNABORTED").is_definite_refusal


# What PostgreSQL refuses is rare among all characters: draw from few, so that it comes often.
hostile_text = st.text("a\x00\ud800é", max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["id", "output", "type", "content", "text", "usage", "input_tokens", "output_tokens", "choices",
                         "message", "error", "status", "data", "custom_id", "response", "status_code", "body"]),
        inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@given(st.integers(0, 599), json_values)
def test_no_answer_can_crash_the_reader(status: int, body: Any) -> None:
    answer = read_answer(status, body)
    assert answer.is_good == (answer.error_code is None)
    assert "\x00" not in (answer.text or "")


def can_be_stored(value: Any) -> bool:
    """PostgreSQL takes it: as text it has no NUL and is UTF-8."""
    text = json.dumps(value, ensure_ascii=False)
    return "\\u0000" not in text and text.encode("utf-8", "replace").decode() == text


answer_bodies = st.fixed_dictionaries(
    {},
    optional={
        "id": hostile_text,
        "model": hostile_text,
        "output": hostile_text.map(
            lambda said: [{"type": "message", "content": [{"type": "output_text", "text": said}]}]
        ),
        "error": st.fixed_dictionaries({"code": hostile_text, "message": hostile_text}),
    },
)
responses = st.fixed_dictionaries(
    {"status_code": st.sampled_from([200, 400, 0, -1, 2**40]), "request_id": hostile_text, "body": answer_bodies}
)
line_errors = st.fixed_dictionaries({"code": hostile_text, "message": hostile_text})


@given(hostile_text, responses | json_values, line_errors | json_values)
def test_whatever_a_line_says_can_be_stored(custom_id: str, response: Any, error: Any) -> None:
    line = read_line({"custom_id": custom_id, "response": response, "error": error})
    if line is None:
        assert not can_be_stored(custom_id)
        return
    answer = line.answer
    said = [line.custom_id, answer.text, answer.key, answer.error_code, answer.error_message, answer.request_id]
    assert can_be_stored([*said, answer.model])
    assert 0 <= answer.status_code < 1000


@given(
    st.fixed_dictionaries(
        {"id": hostile_text, "status": hostile_text}, optional={"metadata": json_values, "errors": json_values}
    )
)
def test_whatever_a_batch_says_can_be_stored(body: dict[str, Any]) -> None:
    batch = BatchObject.read(body)
    assert batch is None or can_be_stored([batch.id, batch.status, batch.raw])
    assert all(isinstance(entry, dict) for entry in validation_errors(body))


@given(json_values)
def test_a_list_that_is_none_finds_nothing(body: Any) -> None:
    found = find_batch(body, "file-1")
    assert found is None or found.batch is None or found.batch.input_file_id == "file-1"


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ({"response": {"status_code": 400, "body": {"error": {"message": "bad"}}}, "error": None}, ItemOutcome.FAILED),
        ({"response": None, "error": {"code": "batch_expired", "message": "late"}}, ItemOutcome.EXPIRED),
        ({"response": None, "error": {"code": "batch_cancelled", "message": "off"}}, ItemOutcome.RELEASED),
        ({"response": {"status_code": 0, "request_id": "", "body": {}}, "error": None}, ItemOutcome.FAILED),
        ({}, ItemOutcome.FAILED),
    ],
)
def test_each_shape_of_an_error_line_has_its_outcome(line: dict[str, Any], outcome: ItemOutcome) -> None:
    found = read_line({"custom_id": "a", **line})
    assert found is not None
    assert found.outcome is outcome


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b'{"custom_id": 1}', b"\xff\xfe"])
def test_what_is_no_line_is_none(data: bytes) -> None:
    assert read_line(data) is None


def test_azure_spellings_of_a_batch_are_understood() -> None:
    batch = BatchObject.read(
        {"id": "batch_1", "status": "In_Progress", "error_file_id": "", "created_at": "2026-11-24T10:00:00Z"}
    )
    assert batch is not None
    assert (batch.status, batch.error_file_id) == ("in_progress", None)
    assert batch.created_at is not None


def test_of_two_batches_with_our_file_the_oldest_is_ours() -> None:
    twins = [{"id": name, "status": "validating", "input_file_id": "file-1"} for name in ("new", "old")]
    found = find_batch({"data": twins}, "file-1")
    assert found is not None
    assert found.batch is not None
    assert found.batch.id == "old"


def test_a_json_answer_must_fit_its_schema() -> None:
    output = Output(type="json", schema={"type": "object", "required": ["label"]})
    answer = output_fault(output, read_answer(200, {"output": [message(text('{"other": 1}'))]}))
    assert answer.error_message == 'The model\'s answer does not fit its schema ("label" is a required property).'
    assert answer.is_billable


def test_a_schema_that_cannot_be_followed_is_a_fault_and_no_crash() -> None:
    output = Output(type="json", schema={"$ref": "#/$defs/nowhere"})
    answer = output_fault(output, read_answer(200, {"output": [message(text("{}"))]}))
    assert answer.error_code == "invalid_output"


@pytest.mark.parametrize(
    ("said", "good"), [('{"a": 1}', True), ('{"a": ', False), ("plain words", False), ("NaN", False)]
)
def test_a_json_profile_takes_json_only(said: str, good: bool) -> None:
    answer = read_answer(200, {"output": [message(text(said))]})
    assert output_fault(Output(type="json"), answer).is_good is good


@pytest.mark.parametrize(
    ("said", "kept"),
    [(r'{"a": "\ud800!"}', '{"a": "?!"}'), (r'{"\udc00": 1}', '{"?": 1}'), (r'{"a": "\ud83d\ude00"}', None),
     (r'{"a": "\\ud800"}', None)],
)  # fmt: skip
def test_a_json_answer_escapes_nothing_that_cannot_be_written(said: str, kept: str | None) -> None:
    answer = output_fault(Output(type="json"), read_answer(200, {"output": [message(text(said))]}))
    assert answer.text == (said if kept is None else kept)
    json.dumps(json.loads(answer.text), ensure_ascii=False).encode()


def test_the_words_of_a_fault_can_be_written_too() -> None:
    output = Output(type="json", schema={"enum": ["a"]})
    for said in (r'"\ud800"', r'{"\ud800": 1}'):
        answer = output_fault(output, read_answer(200, {"output": [message(text(said))]}))
        assert "does not fit its schema" in (answer.error_message or "").encode().decode()


@pytest.mark.parametrize(("depth", "good"), [(100, True), (101, False), (900, False), (100_000, False)])
def test_a_json_answer_nests_no_deeper_than_a_reader_can_follow(depth: int, good: bool) -> None:
    answer = read_answer(200, {"output": [message(text("[" * depth + "]" * depth))]})
    assert output_fault(Output(type="json"), answer).is_good is good
