"""Bad input: it is refused with 4xx and four keys, and never with 5xx."""

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=12,
)
NAMES = {
    "/v1/responses": ["model", "input", "instructions", "text", "reasoning", "metadata", "max_output_tokens", "store"],
    "/v1/chat/completions": ["model", "messages", "response_format", "n", "metadata", "max_completion_tokens"],
    "/v1/batches": ["input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"],
}
USUAL = {
    "/v1/responses": {"model": "gpt-6-luna", "input": "Hi."},
    "/v1/chat/completions": {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Hi."}]},
    "/v1/batches": {"input_file_id": "file-x", "endpoint": "/v1/responses", "completion_window": "24h"},
}
in_one_app = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _check(answer):
    assert answer.status_code in (200, 400, 404, 413, 429), answer.data
    if answer.status_code != 200:
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", NAMES)
@given(data=st.data())
@in_one_app
def test_any_json_is_answered_without_a_server_error(browser, path, data):
    changes = data.draw(st.dictionaries(st.sampled_from(NAMES[path]), JSON, max_size=3))
    body = data.draw(st.one_of(st.just({**USUAL[path], **changes}), JSON))
    _check(browser.post(path, data=json.dumps(body), content_type="application/json"))


@given(content=st.one_of(JSON, st.lists(st.dictionaries(st.sampled_from(["type", "text", "role", "content"]), JSON))))
@in_one_app
def test_any_input_items_are_answered_without_a_server_error(browser, content):
    body = {"model": "gpt-6-luna", "input": [{"role": "user", "content": content}]}
    _check(browser.post("/v1/responses", data=json.dumps(body)))


@given(schema=st.dictionaries(st.sampled_from(["type", "properties", "items", "anyOf", "enum", "$ref", "$defs"]), JSON))
@in_one_app
def test_any_schema_is_answered_without_a_server_error(browser, schema):
    wanted = {"type": "json_schema", "name": "x", "schema": {"type": "object", "properties": {"a": schema}, **schema}}
    body = {"model": "gpt-6-luna", "input": "Hi.", "text": {"format": wanted}}
    _check(browser.post("/v1/responses", data=json.dumps(body)))


@given(data=st.data())
@in_one_app
def test_any_fault_is_accepted_or_refused_by_name(app, data):
    from offline_provider.errors import ApiError
    from offline_provider.fault_kinds import KINDS, read
    from offline_provider.fault_matching import MATCHERS

    kind = data.draw(st.sampled_from(sorted(KINDS)))
    values = st.one_of(JSON, st.just(10**400), st.just(-1), st.booleans(), st.just(["too_long"]))
    parameters = data.draw(st.dictionaries(st.sampled_from([*KINDS[kind].parameters, "times"]), values, max_size=4))
    match = data.draw(st.one_of(JSON, st.dictionaries(st.sampled_from(sorted(MATCHERS)), JSON, max_size=2)))
    named = []
    try:
        app.extensions["faults"].add(read({"kind": kind, "match": match, **parameters}))
    except ApiError as refused:
        named.append(refused.param)
    assert all(named)


@pytest.mark.parametrize("path", ["/admin/faults/99999999999999999999999", "/admin/faults/x"])
def test_fault_that_never_was_is_404(make_app, path):
    browser = make_app(OFFLINE_ADMIN_TOKEN="t").test_client()
    assert browser.delete(path, headers={"X-Admin-Token": "t"}).status_code == 404


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b'{"model": "\\ud800"}', b'{"a": 1e999}', b"[" * 100_000])
def test_body_that_is_not_a_json_object_is_400(browser, raw):
    assert browser.post("/v1/responses", data=raw).status_code == 400


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=999999", "order=up", "purpose=fun", "after=%00"])
def test_bad_paging_is_refused(browser, query):
    assert browser.get(f"/v1/files?{query}").status_code in (400, 404)


@pytest.mark.parametrize("path", ["/v1/files/..%2f..%2foffline.db/content", "/v1/files/../../x", "/v1/nothing", "/x"])
def test_no_path_leads_out_of_the_api(browser, path):
    answer = browser.get(path)
    assert answer.status_code == 404
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}


def test_wrong_method_is_405_with_an_error_body(browser):
    answer = browser.put("/v1/files")
    assert (answer.status_code, answer.json["error"]["type"]) == (405, "invalid_request_error")
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("field", ["purpose", "expires_after[seconds]"])
def test_huge_form_field_is_refused(browser, multipart, field):
    form = multipart(**{field: b"x" * 2_000_000, "file": b"x"})
    assert browser.post("/v1/files", **form).status_code == 413


@pytest.mark.parametrize(
    "damage",
    [
        lambda pdf: pdf[:200],
        lambda pdf: b"%PDF-1.7\n" + bytes(range(256)) * 40,
        lambda pdf: b"%PDF-",
        lambda pdf: pdf.replace(b"/Kids [3 0 R]", b"/Kids [2 0 R]"),  # a page tree that holds itself
        lambda pdf: pdf.replace(b"/Size 6 ", b"/Size 6 /Encrypt 4 0 R "),
    ],
)
def test_damaged_pdf_is_400(browser, make_pdf, damage):
    data = "data:application/pdf;base64," + base64.b64encode(damage(make_pdf("Hello there."))).decode()
    part = {"type": "input_file", "filename": "x.pdf", "file_data": data}
    body = {"model": "gpt-6-luna", "input": [{"role": "user", "content": [part]}]}
    answer = browser.post("/v1/responses", json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_file")


def test_pdf_that_never_ends_is_given_up(browser, make_pdf, monkeypatch):
    from offline_provider import documents

    monkeypatch.setattr(documents, "PDF_SECONDS", 0.01)
    data = base64.b64encode(make_pdf("Slow.")).decode()
    part = {"type": "input_file", "filename": "x.pdf", "file_data": data}
    answer = browser.post("/v1/responses", json={"model": "gpt-6-luna", "input": [{"role": "user", "content": [part]}]})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"file_id": "file-nope"},
        {"file_id": "../../offline.db"},
        {"file_data": "data:application/pdf;base64,AAAA"},
        {"file_data": "***", "filename": "x"},
        {"file_data": "/w==", "filename": "x.bin"},
        {"file_url": "http://127.0.0.1:1/x.pdf"},
        {"file_id": "file-x", "file_data": "AAAA", "filename": "x"},
    ],
)
def test_bad_file_part_is_refused(browser, part):
    content = [{"type": "input_file", **part}]
    answer = browser.post(
        "/v1/responses", json={"model": "gpt-6-luna", "input": [{"role": "user", "content": content}]}
    )
    assert answer.status_code in (400, 404)
