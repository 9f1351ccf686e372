"""Files: upload, retrieve, list, content, delete, expiry."""

from io import BytesIO

import openai
import pytest


def test_uploaded_file_is_described_as_openai_does(provider):
    file = provider.upload(b'{"a": 1}\n')
    assert file.id.startswith("file-")
    assert len(file.id) == len("file-") + 22
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", 9, "lines.jsonl", "batch")
    assert file.status == "processed"


def test_content_comes_back_unchanged(provider):
    content = bytes(range(256)) * 5_000
    file = provider.upload(content, purpose="user_data")
    assert provider.client.files.content(file.id).read() == content


def test_batch_file_expires_after_thirty_days_and_other_files_never(provider):
    batch_file = provider.upload(b"x")
    assert batch_file.expires_at - batch_file.created_at == 2_592_000
    assert provider.upload(b"x", purpose="user_data").expires_at is None


def test_expiry_is_accepted_as_the_client_spells_it(provider):
    file = provider.upload(b"x", expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at - file.created_at == 3_600


def test_expiry_is_accepted_as_azure_spells_it(browser):
    form = {"purpose": "batch", "expires_after.anchor": "created_at", "expires_after.seconds": "1209600"}
    answer = browser.post("/v1/files", data={**form, "file": (BytesIO(b"x"), "x.jsonl")})
    assert answer.json["expires_at"] - answer.json["created_at"] == 1_209_600


@pytest.mark.parametrize("seconds", ["3599", "2592001", "soon"])
def test_expiry_out_of_bounds_is_refused(browser, seconds):
    form = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}
    answer = browser.post("/v1/files", data={**form, "file": (BytesIO(b"x"), "x.jsonl")})
    assert answer.status_code == 400
    assert answer.json["error"]["param"] == "expires_after.seconds"


def test_list_pages_through_every_file_once(provider):
    made = [provider.upload(b"x", purpose="evals").id for _ in range(5)]
    listed = provider.client.files.list
    assert [file.id for file in listed(limit=2, purpose="evals")] == made[::-1]
    assert [file.id for file in listed(limit=2, purpose="evals", order="asc")] == made


def test_list_can_be_deleted_while_paging(provider):
    for _ in range(5):
        provider.upload(b"x", purpose="assistants")
    for file in provider.client.files.list(limit=2, purpose="assistants"):
        provider.client.files.delete(file.id)
    assert provider.client.files.list(purpose="assistants").data == []


def test_list_filters_by_purpose(provider):
    wanted = provider.upload(b"x", purpose="vision").id
    assert wanted in [file.id for file in provider.client.files.list(purpose="vision")]
    assert wanted not in [file.id for file in provider.client.files.list(purpose="batch")]


def test_deleted_file_is_gone(provider):
    file = provider.upload(b"x")
    deleted = provider.client.files.delete(file.id)
    assert (deleted.id, deleted.deleted) == (file.id, True)
    with pytest.raises(openai.NotFoundError):
        provider.client.files.content(file.id)


@pytest.mark.parametrize("call", ["retrieve", "content", "delete"])
def test_unknown_file_is_404_with_the_known_message(client, call):
    with pytest.raises(openai.NotFoundError) as caught:
        getattr(client.files, call)("file-nope")
    assert caught.value.body == {
        "message": "No such File object: file-nope",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }


def test_expired_file_is_not_found_and_then_removed(app, browser, monkeypatch):
    form = {"purpose": "batch", "file": (BytesIO(b"x"), "x.jsonl")}
    file = browser.post("/v1/files", data=form).json
    monkeypatch.setattr("offline_provider.clock.now", lambda: file["expires_at"] + 1.0)
    assert browser.get(f"/v1/files/{file['id']}").status_code == 404
    app.extensions["files"].delete_expired()
    assert not app.extensions["files"].path(file["id"]).exists()


def test_upload_without_purpose_or_file_is_refused(browser):
    assert browser.post("/v1/files", data={"purpose": "batch"}).json["error"]["param"] == "file"
    answer = browser.post("/v1/files", data={"file": (BytesIO(b"x"), "x.jsonl")})
    assert answer.json["error"]["param"] == "purpose"


@pytest.mark.parametrize("size", [1_001, 2_000_000])
def test_file_over_the_limit_is_413(make_browser, multipart, size):
    browser = make_browser(OFFLINE_MAX_FILE_BYTES="1000")
    answer = browser.post("/v1/files", **multipart(purpose=b"batch", file=b"x" * size))
    assert answer.status_code == 413
    assert answer.json["error"]["param"] == "file"


def test_upload_leaves_nothing_in_the_upload_folder(app, browser):
    browser.post("/v1/files", data={"purpose": "batch", "file": (BytesIO(b"x"), "x.jsonl")})
    browser.post("/v1/files", data={"purpose": "nonsense", "file": (BytesIO(b"x"), "x.jsonl")})
    assert list((app.config["SETTINGS"].data_dir / "uploads").iterdir()) == []


def test_start_sweeps_what_a_killed_process_left(app):
    from offline_provider import create_app

    data_dir = app.config["SETTINGS"].data_dir
    left = [data_dir / "uploads" / "tmpx", data_dir / "files" / "file-without-a-row"]
    for path in left:
        path.write_bytes(b"x")
    create_app(app.config["SETTINGS"])
    assert not any(path.exists() for path in left)


def test_uploads_per_minute_are_limited(make_browser):
    browser = make_browser(OFFLINE_UPLOADS_PER_MINUTE="2")
    answers = [
        browser.post("/v1/files", data={"purpose": "batch", "file": (BytesIO(b"x"), "x.jsonl")}) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json["error"]["code"] == "rate_limit_exceeded"
