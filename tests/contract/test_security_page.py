"""docs/security.md promises nothing that no test watches."""

from __future__ import annotations

import re

from webapp.config import ROOT, Settings

PAGE = (ROOT / "docs/security.md").read_text()


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    files = [path for path in (ROOT / "tests").rglob("test_*.py")]
    known = {name for path in files for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.M)}
    assert named - known == set()
    assert len(named) > 30


def test_every_file_that_the_page_names_exists() -> None:
    for name in re.findall(r"`(tests/[\w/.]+)`", PAGE):
        assert (ROOT / name).exists(), name


def test_every_threat_names_a_test() -> None:
    table = PAGE[PAGE.index("| who | wants") : PAGE.index("\n\n", PAGE.index("| who | wants"))]
    for row in table.splitlines()[2:]:
        assert "`test_" in row.split("|")[4], row


def test_every_setting_that_the_page_names_is_one() -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", PAGE))
    assert named <= {field.upper() for field in Settings.model_fields}


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) < 130
