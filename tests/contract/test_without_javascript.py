"""Every action works without JavaScript: read from the templates, whoever writes the next one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from webapp.config import ROOT

TEMPLATES = sorted((ROOT / "webapp" / "templates").rglob("*.html"))
ONLY_FOR_SCRIPTS = {"_files.html"}  # upload.js asks for it
ESTIMATE = 'id="estimate"'  # what only a script asks for: it says more, and does nothing


def tags(page: Path, name: str) -> Iterator[tuple[str, str]]:
    """(each opening tag of this name, what follows it)"""
    text = page.read_text()
    for found in re.finditer(rf"<{name}\b(?:\{{[{{%#].*?[}}%#]\}}|[^>{{])*>", text, re.DOTALL):
        yield found[0], text[found.end() :]


@pytest.mark.parametrize("page", TEMPLATES, ids=lambda page: str(page.relative_to(ROOT / "webapp" / "templates")))
def test_what_can_be_done_there_needs_no_script(page: Path) -> None:
    for form, rest in tags(page, "form"):
        if 'method="dialog"' in form:
            continue
        assert "action=" in form and "method=" in form, form
        inside = rest.partition("</form>")[0]
        assert "<button" in inside or "submit" in inside or "caller()" in inside, f"nothing sends {form}"
    is_shown = not re.search("needs-js|<template", page.read_text()) and page.name not in ONLY_FOR_SCRIPTS
    for button, _ in tags(page, "button"):
        assert not ('type="button"' in button and is_shown) or "popovertarget" in button, button
    for link, _ in tags(page, "a"):
        assert "href=" in link, link
    for tag in re.findall(r"<\w+[^>]*\bhx-(?:post|put|patch|delete)=[^>]*", page.read_text()):
        assert tag.startswith("<form") or ESTIMATE in tag, f"only htmx sends {tag}"


@pytest.mark.parametrize("page", TEMPLATES, ids=lambda page: str(page.relative_to(ROOT / "webapp" / "templates")))
def test_no_template_has_a_script_or_a_style_of_its_own(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|hx-on|hx-vars|[\"']js:|javascript:", text)
