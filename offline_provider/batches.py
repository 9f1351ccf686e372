"""/v1/batches: create, retrieve, list, cancel. The work itself is done by the batch worker."""

import json
from sqlite3 import Row

from flask import Blueprint, current_app

from . import answers, clock, flavours, web
from .batch_store import CANCELLABLE, BatchStore, facts_of
from .errors import ApiError, invalid_value, unsupported
from .faults import Fault
from .fields import Fields, expires_after, metadata, supported_values

bp = Blueprint("batches", __name__)

KNOWN = frozenset(("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"))
API_ENDPOINTS = (
    "/v1/responses",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/videos",
)
WINDOW = "24h"
_TIMES = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


@bp.post("/batches")
def create_batch():
    fields = Fields(web.read_json())
    fields.only(KNOWN)
    settings = current_app.config["SETTINGS"]
    wanted = {
        # Whether the file exists is found out in validation, as on the real service.
        "input_file_id": fields.text("input_file_id", required=True, most=200),
        "endpoint": _endpoint(fields),
        "completion_window": fields.text("completion_window", required=True, choices=(WINDOW,)),
        "window_seconds": settings.window_seconds,
        "metadata": metadata(fields),
        "output_seconds": expires_after(fields.object("output_expires_after")),
    }
    now = clock.now()
    if _store().created_between(now - 3_600, now) >= settings.batches_per_hour:
        raise ApiError(
            f"Rate limit reached for batch creation. Limit: {settings.batches_per_hour:,} per hour.",
            status=429,
            code="rate_limit_exceeded",
            type="requests",
        )
    if settings.azure_fail_fast:
        checks = current_app.extensions["batch_checks"]
        checks.refuse_if_over_allowance(wanted["input_file_id"], wanted["endpoint"])
    batch = _store().create(**wanted)
    current_app.extensions["batch_worker"].wake()
    return shown(batch)


@bp.get("/batches")
def list_batches():
    limit = web.page_limit(20, 100)
    return web.list_object([shown(row) for row in _visible_page(web.page_after(), limit)], limit)


@bp.get("/batches/<batch_id>")
def retrieve_batch(batch_id: str):
    return shown(_visible(batch_id))


@bp.post("/batches/<batch_id>/cancel")
def cancel_batch(batch_id: str):
    batch = _visible(batch_id)
    ignored = _held(batch, "ignore_cancel") if batch["status"] in CANCELLABLE else None
    if ignored and ignored["mode"] == "complete":
        moved = _store().ignore_cancel(batch_id)
    else:
        moved = _store().move(batch_id, CANCELLABLE, "cancelling")
    batch = _store().get(batch_id)
    if not moved and batch["status"] != "cancelling":
        raise ApiError(f"Cannot cancel a batch with status '{batch['status']}'.", status=409)
    current_app.extensions["batch_worker"].wake()
    return shown(batch)


def shown(row: Row) -> dict:
    """The Batch object, after the faults that concern only what it says, in the words of the flavour."""
    batch = as_object(row)
    if row["is_cancel_ignored"] and row["status"] in CANCELLABLE:
        batch["status"] = "cancelling"
    counts = _held(row, "wrong_counts") if row["total"] else None
    if counts:
        batch["request_counts"] = _wrong_counts(counts, row["total"])
    if _held(row, "empty_file_ids"):
        batch |= {name: batch[name] or "" for name in ("output_file_id", "error_file_id")}
    return flavours.current().batch_object(batch)


def _wrong_counts(fault: Fault, total: int) -> dict:
    """Unless told otherwise: everything went well."""
    usual = {"total": total, "completed": total, "failed": 0}
    return {name: number if fault[name] is None else fault[name] for name, number in usual.items()}


def as_object(row: Row) -> dict:
    times = {name: None if row[name] is None else int(row[name]) for name in _TIMES}
    return {
        "id": row["id"],
        "object": "batch",
        "endpoint": row["endpoint"],
        "model": row["model"],
        "errors": _errors(row),
        "input_file_id": row["input_file_id"],
        "completion_window": row["completion_window"],
        "status": row["status"],
        "output_file_id": row["output_file_id"],
        "error_file_id": row["error_file_id"],
        "created_at": int(row["created_at"]),
        "expires_at": int(row["expires_at"]),
        **times,
        "request_counts": {
            "total": row["total"],
            "completed": row["completed"],
            "failed": row["failed"],
        },
        "usage": {
            "input_tokens": row["input_tokens"],
            "input_tokens_details": {"cached_tokens": row["cached_tokens"]},
            "output_tokens": row["output_tokens"],
            "output_tokens_details": {"reasoning_tokens": row["reasoning_tokens"]},
            "total_tokens": row["input_tokens"] + row["output_tokens"],
        },
        "metadata": None if row["metadata"] is None else json.loads(row["metadata"]),
    }


def _errors(row: Row) -> dict | None:
    if row["errors"] is None:
        return None
    return {"object": "list", "data": json.loads(row["errors"])}


def _endpoint(fields: Fields) -> str:
    endpoint = fields.text("endpoint", required=True)
    endpoint = flavours.current().endpoint_aliases.get(endpoint, endpoint)
    if endpoint in answers.ENDPOINTS:
        return endpoint
    if endpoint in API_ENDPOINTS:
        raise unsupported("endpoint", f"batches for {endpoint}")
    message = f"Invalid value: '{endpoint[:100]}'. {supported_values(API_ENDPOINTS)}"
    raise invalid_value("endpoint", message)


def is_hidden(batch: Row) -> bool:
    """Whether a caller would be told that there is no such batch."""
    return current_app.extensions["faults"].look("vanish", batch["id"], facts_of(batch)) is not None


def _visible(batch_id: str) -> Row:
    batch = _store().get(batch_id)
    if _held(batch, "vanish"):
        raise _store().not_found(batch_id)
    return batch


def _visible_page(after: str | None, limit: int) -> list[Row]:
    """Like `BatchStore.page`, without the batches that have vanished."""
    rows: list[Row] = []
    while page := _store().page(after, limit):
        rows += [row for row in page if not _held(row, "vanish")]
        if len(rows) > limit or len(page) <= limit:
            break
        after = page[-1]["id"]
    return rows[: limit + 1]


def _held(batch: Row, kind: str) -> Fault | None:
    return current_app.extensions["faults"].hold(kind, batch["id"], facts_of(batch))


def _store() -> BatchStore:
    return current_app.extensions["batches"]
