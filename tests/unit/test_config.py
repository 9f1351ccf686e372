from __future__ import annotations

from pathlib import Path

import pytest

from webapp.config import InvalidSettings, Settings

GOOD = {
    "DATABASE_URL": "postgresql+psycopg://x", "STORAGE_DIR": "/tmp/x", "SECRET_KEY": "k" * 16,
    "INTERNAL_TOKEN": "i" * 16, "N8N_WEBHOOK_TOKEN": "w" * 16, "OPENAI_API_KEY": "sk",
}  # fmt: skip


def test_settings_are_read_from_the_environment() -> None:
    settings = Settings.from_env(GOOD | {"MAX_BATCH_SIZE": "7", "PUBLIC_URL": "https://x.example/"})
    assert (settings.max_batch_size, settings.public_url) == (7, "https://x.example")
    assert settings.is_production


def test_all_faults_are_named_at_once() -> None:
    wrong = GOOD | {"SECRET_KEY": "short", "MAX_BATCH_SIZE": "many", "TIME_ZONE": "Moon/Sea", "N8N_URL": "ftp://x"}
    del wrong["DATABASE_URL"]
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_env(wrong)
    for name in ("SECRET_KEY", "MAX_BATCH_SIZE", "TIME_ZONE", "N8N_URL", "DATABASE_URL: is not set"):
        assert name in str(refused.value)
    assert "short" not in str(refused.value).replace("shorter", "")


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("f" * 20 + "\n")
    environ = {name: value for name, value in GOOD.items() if name != "SECRET_KEY"}
    settings = Settings.from_env(environ | {"SECRET_KEY_FILE": str(tmp_path / "key")})
    assert settings.secret_key.get_secret_value() == "f" * 20


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidSettings, match="SECRET_KEY_FILE"):
        Settings.from_env(GOOD | {"SECRET_KEY_FILE": "/does/not/exist"})


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("OPENAI_API_KEY", "OPENAI_API_KEY is not set"), ("SECRET_KEY", "SECRET_KEY: is not set"),
        ("STORAGE_CONNECTION_STRING", "documents: set one of"), ("STORAGE_CONTAINER_URL", "documents: set one of"),
    ],
)  # fmt: skip
def test_an_empty_file_sets_nothing(tmp_path: Path, name: str, fault: str) -> None:
    (tmp_path / "empty").write_text("\n")
    taken = {name, "STORAGE_DIR"} if name.startswith("STORAGE") else {name}
    environ = {known: value for known, value in GOOD.items() if known not in taken}
    with pytest.raises(InvalidSettings, match=fault):
        Settings.from_env(environ | {f"{name}_FILE": str(tmp_path / "empty")})


CONTAINER = "https://acme.blob.core.windows.net/documents"


@pytest.mark.parametrize(
    "places",
    [
        {}, {"STORAGE_DIR": "/tmp/x", "STORAGE_CONTAINER_URL": CONTAINER},
        {"STORAGE_CONNECTION_STRING": "AccountName=x", "STORAGE_CONTAINER_URL": CONTAINER},
    ],
)  # fmt: skip
def test_documents_have_exactly_one_place(places: dict[str, str]) -> None:
    environ = {name: value for name, value in GOOD.items() if name != "STORAGE_DIR"}
    with pytest.raises(InvalidSettings, match="documents: set one of STORAGE_DIR, STORAGE_CON"):
        Settings.from_env(environ | places)


@pytest.mark.parametrize("url", ["http://acme.blob.core.windows.net/documents", "https://acme.blob.core.windows.net",
                                 f"{CONTAINER}?sig=secret"])  # fmt: skip
def test_a_container_is_an_address_over_tls_without_a_signature(url: str) -> None:
    environ = {name: value for name, value in GOOD.items() if name != "STORAGE_DIR"}
    assert Settings.from_env(environ | {"STORAGE_CONTAINER_URL": CONTAINER + "/"}).storage_container_url == CONTAINER
    with pytest.raises(InvalidSettings, match="STORAGE_CONTAINER_URL: must be the address of a container") as refused:
        Settings.from_env(environ | {"STORAGE_CONTAINER_URL": url})
    assert "secret" not in str(refused.value)


def test_the_app_needs_the_provider_s_key_unless_it_has_an_identity() -> None:
    environ = {name: value for name, value in GOOD.items() if name != "OPENAI_API_KEY"}
    with pytest.raises(InvalidSettings, match="OPENAI_API_KEY is not set"):
        Settings.from_env(environ)
    azure = {"OPENAI_AUTH": "entra", "OPENAI_BASE_URL": "https://acme.openai.azure.com/openai/v1"}
    assert Settings.from_env(environ | azure).openai_api_key is None
    with pytest.raises(InvalidSettings, match="must start with https://"):
        Settings.from_env(environ | {"OPENAI_AUTH": "entra", "OPENAI_BASE_URL": "http://x/v1"})


def test_secrets_are_not_shown() -> None:
    assert "k" * 16 not in repr(Settings.from_env(GOOD))


def test_closed_is_the_default_for_registration() -> None:
    assert Settings.from_env(GOOD).registration == "closed"


@pytest.mark.parametrize("name", ["SECRET_KEY", "INTERNAL_TOKEN"])
def test_a_previous_secret_is_another_one(name: str) -> None:
    assert Settings.from_env(GOOD | {f"{name}_PREVIOUS": "p" * 16})
    with pytest.raises(InvalidSettings, match="must differ from the present one"):
        Settings.from_env(GOOD | {f"{name}_PREVIOUS": GOOD[name]})
