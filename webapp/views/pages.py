"""What every template may use: times, money, durations, safe Markdown."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import nh3
from flask import Flask
from markdown_it import MarkdownIt
from markupsafe import Markup

from webapp.parts import parts
from webapp.views.security import registration_is_open

_markdown = MarkdownIt("gfm-like", {"html": False, "linkify": False})
# Model output is hostile: no images (they call home), no ids or classes, links say where they lead.
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


def register(app: Flask) -> None:
    app.jinja_env.filters.update(
        local_time=local_time, usd=usd, price=price, duration=duration, milliseconds=milliseconds,
        bytes=human_bytes, number=number,
    )  # fmt: skip
    app.jinja_env.globals.update(registration_is_open=registration_is_open)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def safe_markdown(text: str) -> Markup:
    """Markdown from a model as HTML that cannot do anything: rendered without raw HTML, then sanitised."""
    html = nh3.clean(
        _markdown.render(text), tags=_TAGS, attributes={"a": {"href"}, "th": set(), "td": set()},
        url_schemes={"http", "https", "mailto"}, link_rel="noopener noreferrer nofollow",
    )  # fmt: skip
    return Markup(html)  # noqa: S704  (sanitised just now)


def local_time(moment: datetime | None, form: str = "%d %b %Y %H:%M:%S") -> str:
    """A stored time in TIME_ZONE; a dash for none."""
    return moment.astimezone(parts().settings.zone).strftime(form) if moment else "–"


def number(count: int) -> str:
    """12,345"""
    return f"{count:,}"


def usd(amount: Decimal | None, digits: int = 6) -> str:
    """US dollars, with as many digits as a small amount needs, at most `digits`; None is unknown, never 0."""
    if amount is None:
        return "unknown"
    digits = 2 if amount == 0 or abs(amount) >= 1 else min(4, digits) if abs(amount) >= Decimal("0.01") else digits
    return f"{'−' if amount < 0 else ''}${abs(amount):,.{digits}f}"


def price(amount: Decimal | None) -> str:
    """USD per million tokens, no digit more than the price has."""
    return "unknown" if amount is None else f"${amount.normalize():f}"


def duration(span: timedelta | None) -> str:
    """A time span in the two units that matter; a dash for none."""
    if span is None:
        return "–"
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def milliseconds(value: float | None) -> str:
    return duration(None if value is None else timedelta(milliseconds=float(value)))


def human_bytes(count: int) -> str:
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 1024:.0f} KB"
