"""Secrets of one stack: made at the first start, kept in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, fields
from pathlib import Path

from devstack.errors import StackError

TOKEN_BYTES = 32


@dataclass(frozen=True)
class Secrets:
    """Every secret that the stack makes up. A new field is filled in at the next start."""

    postgres_password: str
    sluice_password: str
    n8ndb_password: str
    secret_key: str
    internal_token: str
    n8n_webhook_token: str
    n8n_encryption_key: str
    n8n_owner_password: str
    n8n_runners_token: str
    redis_password: str
    admin_password: str
    provider_key: str
    provider_admin_token: str

    @classmethod
    def new(cls) -> Secrets:
        return cls(**_made_up({}))


def load(path: Path) -> Secrets:
    """Read the secrets, making those that are missing. The file has mode 0600 from its first byte.

    Raises StackError when the file is not one of ours.
    """
    known = _read(path)
    wanted = _made_up(known)
    if wanted != known:
        _write(path, wanted)
    return Secrets(**wanted)


def _made_up(known: dict[str, str]) -> dict[str, str]:
    return {field.name: known.get(field.name) or secrets.token_urlsafe(TOKEN_BYTES) for field in fields(Secrets)}


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        return dict(json.loads(text))
    except ValueError as error:
        raise StackError(f"{path} is damaged ({error}); it holds the database's passwords, so restore it.") from error


def _write(path: Path, values: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
