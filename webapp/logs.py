"""Structured logs: one JSON object a line on standard output, and one line for each request.

Never in a line: secrets, query strings, bodies, e-mail addresses, parameters of SQL (the engine hides them), rows.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from contextlib import suppress
from random import getrandbits
from typing import Any

import orjson
import psycopg
import structlog
from flask import Flask, Response, g, request
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from webapp.domain import traces

REQUEST_ID_HEADER = "X-Request-ID"
_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
NAMED = ("job_id", "window_id")  # what an address names, all that the request logs does
STDOUT = 1
UNLOGGED = ("health.", "metrics.")  # probes and scrapes: every few seconds, for ever
# Libraries that tell each call, some with its address.
QUIET = ("httpx2", "alembic", "azure")


class _Output(logging.Handler):
    """Standard output, without the lock that handlers have. A thread gives the interpreter away while it writes, and
    whoever came to the lock meanwhile would wait until that thread has got it back. Lines need none: a line is one
    write."""

    def createLock(self) -> None:
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _write(self.format(record))
        except Exception:
            self.handleError(record)


class _Requests:
    """structlog's own way out, for the line of each request: a record of the standard library takes twice as long."""

    def info(self, line: str) -> None:
        with suppress(OSError):  # nobody reads: that is no reason to refuse the request
            _write(line)


def _write(line: str) -> None:
    rest = f"{line}\n".encode()
    while rest:  # all of it, mostly
        rest = rest[os.write(STDOUT, rest) :]


def _to_json(line: Any, **_: Any) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a number of more than 64 bits: an address can name a job like that
        return json.dumps(line, default=str)


_known: list[Any] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level]  # of every line
_when = structlog.processors.TimeStamper(fmt="iso", utc=True)
_rendered = structlog.processors.JSONRenderer(_to_json)
_requests = structlog.wrap_logger(_Requests(), [*_known, _when, _rendered]).bind(logger=__name__)


def configure_logging() -> None:
    """Send the standard library's records through structlog. Safe to call again."""
    shared: list[Any] = [
        *_known,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _when,
        structlog.processors.format_exc_info,
    ]
    handler = _Output()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _rendered],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A worker's own words, too. (Those of gunicorn's first process stay plain: it never loads the app.)
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.handlers, gunicorn.propagate = [], True


def hide_rows(engine: Engine) -> None:
    """Keep of PostgreSQL's errors the first sentence only: the rest may repeat a whole row, documents included."""

    @event.listens_for(engine, "handle_error")
    def shorten(context: ExceptionContext) -> None:
        original, wrapped = context.original_exception, context.sqlalchemy_exception
        if isinstance(original, psycopg.Error) and (sentence := original.diag.message_primary):
            original.args = (sentence,)
            if wrapped:
                wrapped.args = (f"({type(original).__name__}) {sentence}",)


def register(app: Flask) -> None:
    """Name each request, and write one line when it is answered. Register it first: then it sees everything."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    clear_contextvars()  # the thread has served others
    g.began_at = time.perf_counter()
    given = request.headers.get(REQUEST_ID_HEADER, "")
    bind_contextvars(request_id=given if _WELL_FORMED_ID.fullmatch(given) else f"{getrandbits(128):032x}")
    if trace_id := traces.trace_id(request.headers.get(traces.HEADER, "")):
        bind_contextvars(trace_id=trace_id)
    bind_contextvars(**{name: number for name, number in (request.view_args or {}).items() if name in NAMED})


def _end(response: Response) -> Response:
    response.headers[REQUEST_ID_HEADER] = get_contextvars()["request_id"]
    if not (request.endpoint or "").startswith(UNLOGGED):
        milliseconds = round((time.perf_counter() - g.began_at) * 1000, 1)
        _requests.info(
            "request", method=request.method, route=request.url_rule.rule if request.url_rule else None,
            status=response.status_code, duration_ms=milliseconds,
        )  # fmt: skip
    return response
