from __future__ import annotations

import json
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from devstack import secrets
from devstack.errors import StackError


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    assert secrets.load(file) == secrets.load(file)


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    secrets.load(tmp_path / "secrets.json")
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


def test_no_two_secrets_are_the_same() -> None:
    made = [*asdict(secrets.Secrets.new()).values(), *asdict(secrets.Secrets.new()).values()]
    assert len(set(made)) == len(made)
    assert min(map(len, made)) >= 40


def test_new_secret_joins_the_old_ones(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    known = asdict(secrets.load(file))
    del known["secret_key"]
    file.write_text(json.dumps(known))
    joined = asdict(secrets.load(file))
    assert joined.pop("secret_key")
    assert joined == known


def test_damaged_file_is_named_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    file.write_text("{")
    with pytest.raises(StackError, match=r"secrets\.json is damaged"):
        secrets.load(file)
    assert file.read_text() == "{"
