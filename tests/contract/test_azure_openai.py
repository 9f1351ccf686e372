"""How the app's own calls show Azure OpenAI who they are, and what they say when they cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from openai import OpenAI
from pydantic import SecretStr

from webapp.config import InvalidSettings, Settings
from webapp.domain.errors import UnavailableService
from webapp.gateways import azure_identity
from webapp.gateways.provider_batches import ProviderBatches
from webapp.gateways.provider_client import make_client
from webapp.gateways.provider_files import BATCH_INPUT_EXPIRES, ProviderFiles
from webapp.gateways.provider_models import ProviderModels
from webapp.parts import build_parts

AZURE, OPENAI = "https://acme.openai.azure.com/openai/v1", "https://api.openai.com/v1"
DAY = 86_400


class Provider:
    """Answers every call, and remembers what the caller showed and sent."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.shown.append(request.headers["Authorization"])
        self.bodies.append(request.read())
        return httpx2.Response(200, json={"object": "list", "data": [], "id": "file-1"})

    def client(self, base_url: str, access: str | Callable[[], str]) -> OpenAI:
        transport = httpx2.Client(transport=httpx2.MockTransport(self))
        return make_client(base_url, access).with_options(http_client=transport)


@pytest.fixture
def provider() -> Provider:
    return Provider()


def test_a_token_is_asked_for_before_each_call(provider: Provider) -> None:
    tokens = iter(("first", "second"))
    models = ProviderModels(provider.client(AZURE, lambda: next(tokens)))
    models.shutdowns()
    models.shutdowns()
    assert provider.shown == ["Bearer first", "Bearer second"]


class Entra:
    """Stands for Entra: gives a token for what it is asked, or none."""

    def __init__(self, *, knows_us: bool = True) -> None:
        self.knows_us = knows_us

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        if not self.knows_us:
            raise ClientAuthenticationError("AADSTS700016: application not found")
        return AccessToken(f"token for {scopes[0]}", 2**40)


def entra(settings: Settings) -> Settings:
    return settings.model_copy(update={"openai_auth": "entra", "openai_base_url": AZURE, "openai_api_key": None})


def test_the_settings_make_the_app_use_its_identity(
    provider: Provider, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_identity, "credential", Entra)
    client = build_parts(entra(settings)).models._client
    transport = httpx2.Client(transport=httpx2.MockTransport(provider))
    ProviderModels(client.with_options(http_client=transport)).shutdowns()
    assert provider.shown == ["Bearer token for https://cognitiveservices.azure.com/.default"]


def test_with_a_key_no_token_is_ever_sent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_identity, "credential", Entra)
    with pytest.raises(AssertionError):
        build_parts(settings.model_copy(update={"openai_api_key": SecretStr("")}))


def test_no_token_is_an_outage_in_words_for_every_gateway(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(azure_identity, "credential", lambda: Entra(knows_us=False))
    client = provider.client(AZURE, azure_identity.openai_token())
    document = tmp_path / "document"
    document.write_bytes(b"%PDF")
    files = ProviderFiles(client)
    calls: list[Callable[[], Any]] = [
        ProviderModels(client).shutdowns, lambda: ProviderBatches(client).cancel("batch_1"),
        lambda: files.upload_document(document), lambda: files.upload_batch_input(document, lambda: None),
        lambda: files.download("file-1", tmp_path / "copy", lambda: None), lambda: files.delete("file-1"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(UnavailableService, match="Entra gave the app no token"):
            call()
    assert provider.shown == []


def test_a_missing_package_stops_the_start_and_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    monkeypatch.delitem(sys.modules, "webapp.gateways.azure_identity")
    with pytest.raises(InvalidSettings, match=r"OPENAI_AUTH=entra needs .*azure\.identity.*requirements/azure\.txt"):
        build_parts(entra(settings))


@pytest.mark.parametrize(("base_url", "purpose"), [(OPENAI, b"user_data"), (AZURE, b"assistants")])
def test_a_document_is_uploaded_for_what_its_provider_takes(
    provider: Provider, tmp_path: Path, base_url: str, purpose: bytes
) -> None:
    document = tmp_path / "document"
    document.write_bytes(b"%PDF")
    assert ProviderFiles(provider.client(base_url, "sk")).upload_document(document) == "file-1"
    assert b'name="purpose"\r\n\r\n' + purpose + b"\r\n" in provider.bodies[0]


def test_an_input_file_may_live_as_long_as_both_providers_allow() -> None:
    assert 14 * DAY <= BATCH_INPUT_EXPIRES["seconds"] <= 30 * DAY  # Azure's range; OpenAI's begins at an hour
