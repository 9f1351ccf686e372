"""The docs name every setting and route, and every local link in them leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from webapp.config import ROOT, Settings
from webapp.domain.profiles import profile_schema

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_setting_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `([A-Z0-9_]+)`", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(field.upper() for field in Settings.model_fields)


def test_every_internal_route_is_documented(make_app: Any) -> None:
    page = (ROOT / "docs/internal-api.md").read_text()
    for rule in make_app("internal").url_map.iter_rules():
        if rule.endpoint.startswith("internal."):
            path = (
                str(rule)
                .removeprefix("/api/internal")
                .replace("<int:job_id>", "<id>")
                .replace("<int:window_id>", "<id>")
            )
            assert path in page, path


def test_the_published_profile_schema_is_current() -> None:
    """If this fails: python3 -m devstack tool flask profiles schema > profiles/profile.schema.json"""
    assert (ROOT / "profiles/profile.schema.json").read_text() == profile_schema()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_targets_named_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z0-9-]+)", page.read_text()))
        assert named <= targets, f"{page.name}: {named - targets}"
