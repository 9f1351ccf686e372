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


def test_secrets_are_not_shown() -> None:
    assert "k" * 16 not in repr(Settings.from_env(GOOD))


def test_closed_is_the_default_for_registration() -> None:
    assert Settings.from_env(GOOD).registration == "closed"
