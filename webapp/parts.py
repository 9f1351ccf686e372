"""What views and commands hand to services: everything that is not Flask, built once from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app

from webapp.config import Settings
from webapp.domain.pricing import PriceList
from webapp.domain.profiles import load_profiles
from webapp.gateways.n8n import N8n
from webapp.gateways.pdf import PdfReader
from webapp.gateways.provider_batches import ProviderBatches
from webapp.gateways.provider_files import ProviderFiles
from webapp.gateways.provider_models import ProviderModels
from webapp.gateways.storage import LocalStorage, Storage
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


def build_parts(settings: Settings) -> Parts:
    """Raises InvalidProfile, and pydantic's ValidationError for a wrong price file."""
    return Parts(
        settings=settings,
        profiles=Profiles(load_profiles(settings.profiles_dir)),
        prices=PriceList.load(settings.prices_file, settings.price_overrides_file),
        storage=LocalStorage(settings.storage_dir),
        pdf=PdfReader(settings.max_pages, settings.pdf_memory_mb, settings.pdf_seconds),
        n8n=N8n(settings.n8n_url, settings.n8n_webhook_token.get_secret_value()),
        files=ProviderFiles(settings.openai_base_url, settings.openai_api_key.get_secret_value()),
        batches=ProviderBatches(settings.openai_base_url, settings.openai_api_key.get_secret_value()),
        models=ProviderModels(settings.openai_base_url, settings.openai_api_key.get_secret_value()),
    )


def parts() -> Parts:
    """The parts of the running app."""
    found: Parts = current_app.extensions["sluice"]
    return found
