"""Documents in Azure Blob Storage, on Microsoft's emulator: what the folder promises, and what an outage does."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.blob import ContainerClient, LinearRetry
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bench import blob_memory
from tests import azurite
from tests.azurite import Azurite
from tests.conftest import DATA
from tests.factories import PASSWORD, make_user
from tests.fakes import FakeProviderFiles
from webapp.config import InvalidSettings, Settings
from webapp.domain.errors import UnavailableService
from webapp.gateways import blob_storage
from webapp.gateways.blob_storage import BLOCK_BYTES, BlobStorage
from webapp.gateways.storage import LocalStorage, Storage, not_done
from webapp.models import Document
from webapp.parts import Parts, build_parts
from webapp.services import retention

CONTAINER = "documents"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with azurite.running(tmp_path_factory.mktemp("azurite")) as emulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(emulator.certificate))
        ContainerClient.from_connection_string(emulator.connection_string, CONTAINER).create_container()
        yield emulator


@pytest.fixture
def blobs(emulator: Azurite) -> BlobStorage:
    return BlobStorage.by_connection_string(emulator.connection_string, CONTAINER)


@pytest.fixture(params=["blob", "folder"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return request.getfixturevalue("blobs") if request.param == "blob" else LocalStorage(tmp_path / "documents")


def file_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "document"
    path.write_bytes(content)
    return path


def unique_key() -> str:
    return os.urandom(16).hex()


# Both stores


@pytest.mark.parametrize("size", [0, 1, 2 * BLOCK_BYTES + 1], ids=["nothing", "a byte", "three blocks"])
def test_a_document_comes_back_as_it_was(storage: Storage, tmp_path: Path, size: int) -> None:
    content, key = os.urandom(size), unique_key()
    storage.put(key, file_of(tmp_path, content))
    with storage.open(key) as stream:
        assert stream.read(1) + stream.read() == content


def test_a_document_that_is_not_there_is_not_found_and_deleting_it_is_fine(storage: Storage, tmp_path: Path) -> None:
    key = unique_key()
    storage.put(key, file_of(tmp_path, b"x"))
    storage.delete(key)
    storage.delete(key)
    with pytest.raises(FileNotFoundError):
        storage.open(key)
    storage.check()


class BreakingPath:
    """A file whose disk fails after its first block."""

    def stat(self) -> Any:
        return os.stat_result((0, 0, 0, 0, 0, 0, 3 * BLOCK_BYTES, 0, 0, 0))

    def open(self, mode: str) -> Any:
        class Breaking(io.RawIOBase):
            read_before = False

            def readable(self) -> bool:
                return True

            def read(self, size: int = -1) -> bytes:
                if self.read_before:
                    raise OSError("the disk is gone")
                self.read_before = True
                return b"x" * BLOCK_BYTES

        return Breaking()


def test_a_put_that_breaks_off_leaves_nothing(blobs: BlobStorage) -> None:
    key = unique_key()
    with pytest.raises(OSError, match="the disk is gone"):
        blobs.put(key, BreakingPath())  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        blobs.open(key)


def test_what_is_no_key_of_ours_reaches_no_store(storage: Storage) -> None:
    for key in ("../../etc/passwd", "a/b", ""):
        with pytest.raises(ValueError, match="not a storage key"):
            storage.open(key)


# When the store cannot


def test_an_outage_is_said_in_words_by_every_method_and_in_the_middle_of_a_read(tmp_path: Path) -> None:
    with azurite.running(tmp_path) as emulator, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(emulator.certificate))
        once_more = LinearRetry(backoff=0, retry_total=1, random_jitter_range=0)
        patch.setitem(blob_storage.OPTIONS, "retry_policy", once_more)
        blobs = BlobStorage.by_connection_string(emulator.connection_string, CONTAINER)
        with pytest.raises(UnavailableService, match="ContainerNotFound"):
            blobs.check()
        ContainerClient.from_connection_string(emulator.connection_string, CONTAINER).create_container()
        document = file_of(tmp_path, b"x" * (2 * BLOCK_BYTES))
        blobs.put("k1", document)
        stream = blobs.open("k1")
        stream.read(1)
        emulator.process.stop()
        calls: list[Callable[[], Any]] = [
            stream.read, lambda: blobs.put("k2", document), lambda: blobs.open("k1"), lambda: blobs.delete("k1"),
            blobs.check,
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(UnavailableService, match=r"The document store could not .* try again in a moment"):
                call()


def test_a_folder_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "documents")
    (tmp_path / "documents/ab").write_text("a file where a folder has to be")
    with pytest.raises(UnavailableService, match=r"could not store this document \(File exists\)"):
        storage.put("ab1", file_of(tmp_path, b"x"))


# Who may


class Entra:
    """Gives tokens that say what Azurite looks at: when, from whom and for whom."""

    def __init__(self, audience: str = "https://storage.azure.com") -> None:
        self.audience = audience
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.scopes += scopes
        now = int(time.time())
        claims = {"aud": self.audience, "iss": "https://sts.windows.net/tests/", "iat": now, "nbf": now - 60,
                  "exp": now + 600, "oid": "an identity"}  # fmt: skip
        parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims))
        return AccessToken((b".".join(parts) + b".x").decode(), now + 600)


def test_an_identity_is_enough(emulator: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entra = Entra()
    monkeypatch.setattr(blob_storage, "credential", lambda: entra)
    blobs = BlobStorage.by_identity(f"{emulator.url}/{CONTAINER}")
    key = unique_key()
    blobs.put(key, file_of(tmp_path, b"by an identity"))
    assert blobs.open(key).read() == b"by an identity"
    assert set(entra.scopes) == {"https://storage.azure.com/.default"}


def test_a_refused_identity_is_no_missing_document(emulator: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_storage, "credential", lambda: Entra(audience="https://else.example"))
    blobs = BlobStorage.by_identity(f"{emulator.url}/{CONTAINER}")
    with pytest.raises(UnavailableService, match="Auth"):
        blobs.open(unique_key())
    with pytest.raises(UnavailableService, match="Auth"):
        blobs.check()


def test_an_identity_that_gets_no_token_is_said_in_words(emulator: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            raise ClientAuthenticationError("no identity here")

    monkeypatch.setattr(blob_storage, "credential", Nobody)
    with pytest.raises(UnavailableService, match="ClientAuthenticationError"):
        BlobStorage.by_identity(f"{emulator.url}/{CONTAINER}").check()


# Settings


def by_connection_string(settings: Settings, connection_string: str) -> Settings:
    changes = {"storage_dir": None, "storage_connection_string": SecretStr(connection_string)}
    return settings.model_copy(update=changes)


def test_the_settings_choose_the_store(settings: Settings, emulator: Azurite) -> None:
    chosen = by_connection_string(settings, emulator.connection_string)
    build_parts(chosen).storage.check()
    url = {"storage_dir": None, "storage_container_url": "https://acme.blob.core.windows.net/documents"}
    for changed in (chosen, settings.model_copy(update=url)):
        assert isinstance(build_parts(changed).storage, BlobStorage)
    assert isinstance(build_parts(settings).storage, LocalStorage)


def test_a_wrong_connection_string_stops_the_start_and_is_not_shown(settings: Settings) -> None:
    with pytest.raises(InvalidSettings, match="STORAGE_CONNECTION_STRING: Connection string") as refused:
        build_parts(by_connection_string(settings, "AccountKey=hush"))
    assert "hush" not in str(refused.value)


def test_a_folder_that_cannot_be_made_stops_the_start_in_words(settings: Settings, tmp_path: Path) -> None:
    file = file_of(tmp_path, b"no folder")
    with pytest.raises(InvalidSettings, match=f"STORAGE_DIR: Not a directory: {file}/documents"):
        build_parts(settings.model_copy(update={"storage_dir": file / "documents"}))


def test_a_missing_package_is_named_with_what_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    monkeypatch.delitem(sys.modules, "webapp.gateways.blob_storage")
    with pytest.raises(InvalidSettings, match=r"azure\.storage\.blob.*pip install -r requirements/azure\.txt"):
        build_parts(by_connection_string(settings, "x"))


# Through the app


@pytest.fixture
def alice(session: Session) -> int:
    return make_user(session).id


def submit(client: Any, **values: str) -> Any:
    client.post("/login", data={"email": "alice@example.org", "password": PASSWORD})
    content = (DATA / "two-pages.pdf").read_bytes()
    data = {"profile": "pdf_summary", "executionMode": "sync", "audience": "general", "bullets": "8", **values}
    return client.post("/jobs/new", data=data | {"document": (io.BytesIO(content), "two-pages.pdf")})


def with_storage(make_app: Any, parts: Parts, storage: Storage, listener: str = "web") -> Any:
    app = make_app(listener)
    app.extensions["sluice"] = replace(parts, storage=storage)
    return app.test_client()


def test_a_document_is_stored_handed_out_and_deleted(
    make_app: Any, parts: Parts, blobs: BlobStorage, session: Session, alice: int
) -> None:
    assert submit(with_storage(make_app, parts, blobs)).status_code == 303
    token = {"X-Internal-Token": parts.settings.internal_token.get_secret_value()}
    internal = with_storage(make_app, parts, blobs, "internal")
    address = "/api/internal/jobs/1/document"
    assert internal.get(address, headers=token).data == (DATA / "two-pages.pdf").read_bytes()
    session.execute(Document.__table__.update().values(deleted_at=func.now()))
    session.commit()
    assert retention.delete_due(session, parts.settings, blobs, parts.files) == 1
    key = session.scalars(select(Document.storage_key)).one()
    with pytest.raises(FileNotFoundError):
        blobs.open(key)
    assert internal.get(address, headers=token).status_code == 404


class FullStorage(LocalStorage):
    def put(self, key: str, path: Path) -> None:
        raise not_done("store this document", "ServerBusy")


def test_a_store_that_takes_nothing_is_told_to_the_person_and_nothing_stays(
    make_app: Any, parts: Parts, session: Session, alice: int, files: FakeProviderFiles, tmp_path: Path
) -> None:
    answer = submit(with_storage(make_app, parts, FullStorage(tmp_path)), **{"document-as-file": "y"})
    assert (answer.status_code, "ServerBusy" in answer.text) == (503, True)
    assert session.scalar(select(func.count()).select_from(Document)) == 0
    assert files.deleted == list(files.contents) == ["file-1"]


def test_readyz_names_a_store_that_does_not_answer(make_app: Any, parts: Parts, emulator: Azurite) -> None:
    elsewhere = BlobStorage.by_connection_string(emulator.connection_string, "nowhere")
    answer = with_storage(make_app, parts, elsewhere).get("/readyz")
    assert answer.status_code == 503
    assert "ContainerNotFound" in answer.json["checks"]["documents"]


# Figures


def test_200_mb_in_and_out_cost_less_than_50_mb_of_memory(emulator: Azurite, tmp_path: Path) -> None:
    said = blob_memory.run(emulator, tmp_path, 200)
    grown = [float(number) for number in re.findall(r"200 MB in .* grew by ([\d.]+) MB", said)]
    assert len(grown) == 2, said
    assert max(grown) < 50, said
