"""The answer of a job as its page shows it: all that a model wrote passes through here."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from webapp.domain.excerpts import beginning
from webapp.domain.json_table import Table, read_table
from webapp.models import Job
from webapp.views.pages import safe_markdown

# Characters. A megabyte of Markdown takes eight seconds to render, so much of it a tenth of one; what is made to be
# slow, one and a half.
MOST_SHOWN = 64_000
MOST_HTML = 400_000  # a table of empty cells can be made of very little


@dataclass(frozen=True)
class Shown:
    """One of `html`, `table` and `text` is set."""

    html: Markup | None = None
    table: Table | None = None
    text: str | None = None
    is_cut: bool = False  # there is more in the file


def shown_result(job: Job) -> Shown | None:
    """The answer as the job's page shows it, or the beginning of it; None for a job without one."""
    if job.result is None:
        return None
    whole, kind = job.result.text, output_type(job)
    if kind == "json" and (table := read_table(whole)):
        return Shown(table=table, is_cut=table.is_cut)
    text = beginning(whole, MOST_SHOWN)
    is_cut = len(text) < len(whole)
    if kind == "markdown" and 0 < len(html := safe_markdown(text)) <= MOST_HTML:
        return Shown(html=html, is_cut=is_cut)
    return Shown(text=text, is_cut=is_cut)


def output_type(job: Job) -> str:
    """markdown | text | json, as the profile that the job is pinned to says."""
    return str(job.profile_version.document.get("output", {}).get("type", "markdown"))
