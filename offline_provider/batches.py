"""/v1/batches: create, retrieve, list, cancel. The work itself is done by the batch worker."""

import json
from sqlite3 import Row

from flask import Blueprint, current_app

from . import answers, clock, web
from .batch_store import CANCELLABLE, BatchStore
from .errors import ApiError, invalid_value, unsupported
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
    if _store().created_since(clock.now() - 3_600) >= settings.batches_per_hour:
        raise ApiError(
            f"Rate limit reached for batch creation. Limit: {settings.batches_per_hour:,} per hour.",
            status=429,
            code="rate_limit_exceeded",
            type="requests",
        )
    batch = _store().create(**wanted)
    current_app.extensions["batch_worker"].wake()
    return as_object(batch)


@bp.get("/batches")
def list_batches():
    limit = web.page_limit(20, 100)
    rows = _store().page(web.page_after(), limit)
    return web.list_object([as_object(row) for row in rows], limit)


@bp.get("/batches/<batch_id>")
def retrieve_batch(batch_id: str):
    return as_object(_store().get(batch_id))


@bp.post("/batches/<batch_id>/cancel")
def cancel_batch(batch_id: str):
    moved = _store().move(batch_id, CANCELLABLE, "cancelling")
    batch = _store().get(batch_id)
    if not moved and batch["status"] != "cancelling":
        raise ApiError(f"Cannot cancel a batch with status '{batch['status']}'.", status=409)
    current_app.extensions["batch_worker"].wake()
    return as_object(batch)


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
    if endpoint in answers.ENDPOINTS:
        return endpoint
    if endpoint in API_ENDPOINTS:
        raise unsupported("endpoint", f"batches for {endpoint}")
    message = f"Invalid value: '{endpoint[:100]}'. {supported_values(API_ENDPOINTS)}"
    raise invalid_value("endpoint", message)


def _store() -> BatchStore:
    return current_app.extensions["batches"]
