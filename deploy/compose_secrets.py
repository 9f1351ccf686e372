"""Makes what compose.yml's `secrets` name, one file for each; what is there already stays.

    python3 deploy/compose_secrets.py [FOLDER]          default: secrets, beside compose.yml

The provider's key is taken from OPENAI_API_KEY, or from the file that OPENAI_API_KEY_FILE names; then a first .env is
written, too, with which Compose talks to that provider (OPENAI_BASE_URL) and leaves the offline provider out. Without a
key the two make up one between them.

The folder keeps others out (mode 0700). The files in it can be read by anybody who gets that far: Compose hands them to
the containers as they are, and each container's user is another. Standard library only.
"""

from __future__ import annotations

import os
import secrets
import string
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPENAI_URL = "https://api.openai.com/v1"
TOKENS = (
    *("admin_password", "internal_token", "n8n_database_password", "n8n_encryption_key", "n8n_runners_token"),
    *("n8n_webhook_token", "openai_api_key", "postgres_password", "redis_password", "secret_key"),
)
BCRYPT_LETTERS = string.ascii_letters + string.digits + "./"


def make(folder: Path, provider_key: str = "") -> None:
    """Make the missing files. A given key replaces the one that is there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    if provider_key:
        _write(folder / "openai_api_key", provider_key)
    for name in TOKENS:
        _make(folder / name, secrets.token_urlsafe(32))
    _make(folder / "database_url", f"postgresql+psycopg://sluice:{secrets.token_urlsafe(32)}@db:5432/sluice")
    # n8n's editor is not published, and its owner cannot log in: a hash of the right form whose password nobody knows.
    _make(folder / "n8n_owner_hash", "$2b$10$" + "".join(secrets.choice(BCRYPT_LETTERS) for _ in range(53)))
    _write(folder / "redis.conf", f"requirepass {(folder / 'redis_password').read_text()}\n")


def read_key(environ: Mapping[str, str]) -> str:
    """The provider's key that the caller has, or nothing."""
    if path := environ.get("OPENAI_API_KEY_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    return environ.get("OPENAI_API_KEY", "").strip()


def choose_provider(file: Path, base_url: str) -> None:
    """Let Compose use this provider instead of the offline one."""
    lines = f"OPENAI_BASE_URL={base_url}\nOFFLINE_REPLICAS=0\n"
    if file.exists():
        print(f"{file} is there and stays as it is. For the provider of your key it must have:\n{lines}")
    else:
        file.write_text(lines, encoding="utf-8")


def _make(file: Path, value: str) -> None:
    if not file.exists():
        _write(file, value)


def _write(file: Path, value: str) -> None:
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        handle.write(value)
    file.chmod(0o444)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "secrets"
    key = read_key(os.environ)
    make(folder, key)
    if key:
        choose_provider(ROOT / ".env", os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
    print(f"{folder} has every secret.")


if __name__ == "__main__":
    main()
