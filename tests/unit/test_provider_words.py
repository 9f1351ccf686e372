"""What differs between providers: how a key is shown, and how a batch tells its times."""

from __future__ import annotations

import pytest

from devstack.n8n import key_header
from webapp.domain.batch_objects import worked_ms

BEARER, API_KEY = ("Authorization", "Bearer sk"), ("api-key", "sk")


@pytest.mark.parametrize(
    ("base_url", "header"),
    [
        ("https://api.openai.com/v1", BEARER),
        ("https://acme.openai.azure.com/openai/v1", API_KEY),
        ("https://acme.services.ai.azure.com/openai/v1", API_KEY),
        ("https://acme.openai.azure.us/openai/v1", BEARER),
        ("https://ACME.OpenAI.Azure.com/openai/v1", API_KEY),
        ("https://api.groq.com/openai/v1", BEARER),
        ("https://openai.azure.com.example.org/openai/v1", BEARER),
        ("https://notazure.com/openai/v1", BEARER),
        ("http://127.0.0.1:8088/openai/v1", BEARER),
        ("", BEARER),
    ],
)
def test_n8n_shows_azure_its_key_in_a_header_of_its_own(base_url: str, header: tuple[str, str]) -> None:
    assert key_header(base_url, "sk") == header


@pytest.mark.parametrize(
    ("batch", "worked"),
    [
        ({"in_progress_at": 1_790_705_882, "completed_at": 1_790_706_018}, 136_000),
        ({"in_progress_at": "2026-10-01T10:00:00Z", "completed_at": "2026-10-01T10:00:01.5000000Z"}, 1_500),
        ({"in_progress_at": 1_790_705_882, "completed_at": None, "finalizing_at": 1_790_705_883}, 1_000),
        ({"in_progress_at": None, "completed_at": 1_790_706_018}, None),
        ({"in_progress_at": 2, "completed_at": 1}, None),
        ({"in_progress_at": 0, "completed_at": 2**60}, None),
        ({"in_progress_at": 0, "completed_at": 2**35}, None),
        ("no batch", None),
        (None, None),
    ],
)
def test_how_long_the_provider_worked_is_read_from_either_kind_of_time(batch: object, worked: int | None) -> None:
    assert worked_ms(batch) == worked
