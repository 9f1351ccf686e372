"""What views and commands hand to services: everything that is not Flask, built once from the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from flask import current_app

from webapp.config import InvalidSettings, Settings
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import load_profiles
from webapp.gateways.n8n import N8n
from webapp.gateways.pdf import PdfReader
from webapp.gateways.provider_batches import ProviderBatches
from webapp.gateways.provider_client import make_client
from webapp.gateways.provider_files import ProviderFiles
from webapp.gateways.provider_models import ProviderModels
from webapp.gateways.storage import LocalStorage, Storage
from webapp.gateways.webhook_sender import WebhookSender
from webapp.services.registry import Profiles


@dataclass(frozen=True)
class Parts:
    settings: Settings
    profiles: Profiles
    prices: PriceList
    storage: Storage
    pdf: PdfReader
    n8n: N8n
    files: ProviderFiles
    batches: ProviderBatches
    models: ProviderModels
    webhooks: WebhookSender


def build_parts(settings: Settings) -> Parts:
    """Raises InvalidProfile, InvalidSettings, and pydantic's ValidationError for a wrong price file."""
    provider = make_client(settings.openai_base_url, _access(settings))
    return Parts(
        settings=settings,
        profiles=Profiles(load_profiles(settings.profiles_dir)),
        prices=PriceList.load(settings.prices_file, settings.price_overrides_file),
        storage=_storage(settings),
        pdf=PdfReader(settings.max_pages, settings.pdf_memory_mb, settings.pdf_seconds),
        n8n=N8n(settings.n8n_url, settings.n8n_webhook_token.get_secret_value()),
        files=ProviderFiles(provider),
        batches=ProviderBatches(provider),
        models=ProviderModels(provider),
        webhooks=WebhookSender(settings.webhook_private_targets),
    )


def _access(settings: Settings) -> str | Callable[[], str]:
    """The provider's key, or what gives a token for Azure OpenAI."""
    if settings.openai_auth == "key":
        assert settings.openai_api_key  # Settings wants it then
        return settings.openai_api_key.get_secret_value()
    token: Callable[[], str] = _azure("azure_identity", "OPENAI_AUTH=entra").openai_token()
    return token


def _storage(settings: Settings) -> Storage:
    if settings.storage_dir:
        try:
            return LocalStorage(settings.storage_dir)
        except OSError as error:
            raise InvalidSettings(f"STORAGE_DIR: {error.strerror}: {error.filename}") from error
    url, secret = settings.storage_container_url, settings.storage_connection_string
    setting = "STORAGE_CONTAINER_URL" if url else "STORAGE_CONNECTION_STRING"
    blobs = _azure("blob_storage", setting).BlobStorage
    try:
        if url:
            return blobs.by_identity(url)
        assert secret  # Settings wants one of the three
        return blobs.by_connection_string(secret.get_secret_value(), settings.storage_container)
    except ValueError as error:
        raise InvalidSettings(f"{setting}: {error}") from error


def _azure(gateway: str, setting: str) -> Any:
    """A gateway to Azure, whose packages are there only where they are used. Raises InvalidSettings."""
    try:
        return import_module(f"webapp.gateways.{gateway}")
    except ModuleNotFoundError as error:
        raise InvalidSettings(
            f"{setting} needs packages that are not installed ({error.name}): pip install -r requirements/azure.txt"
        ) from error


def parts() -> Parts:
    """The parts of the running app."""
    found: Parts = current_app.extensions["sluice"]
    return found
