"""/admin: what tests and operators look at. Without the token there is nothing here."""

from sqlite3 import Row

from flask import Blueprint, abort, current_app, request

from . import batches, clock, controls, usage, web
from .errors import invalid_value

bp = Blueprint("admin", __name__, url_prefix="/admin")
bp.register_blueprint(controls.bp)


_NOTHING = {"requests": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0}


@bp.before_request
def _check_token() -> None:
    token = current_app.config["SETTINGS"].admin_token
    if not token or not web.same_secret(request.headers.get("X-Admin-Token", ""), token):
        abort(404)


@bp.get("/usage")
def list_usage():
    """`?after=<id>&limit=`: rows of the usage log, oldest first."""
    limit = web.page_limit(1_000, 10_000)
    rows = usage.page(current_app.extensions["database"], _after(), limit + 1)
    return _page([{**dict(row), "billed": bool(row["billed"])} for row in rows], limit, "id")


@bp.get("/batches")
def list_batches():
    """`?after=<seq>&limit=`: every batch, oldest first, also one that has vanished from the API."""
    limit = web.page_limit(1_000, 10_000)
    rows = current_app.extensions["batches"].every(_after(), limit + 1)
    billed = usage.billed_by_batch(current_app.extensions["database"])
    return _page([_described(row, billed.get(row["id"], _NOTHING)) for row in rows], limit, "seq")


def _described(row: Row, billed: dict) -> dict:
    """As it is inside: the status that a fault hides, and times to the fraction of a second."""
    told = batches.as_object(row)
    names = ("id", "status", "endpoint", "model", "input_file_id", "output_file_id", "error_file_id", "metadata")
    return {
        "seq": row["seq"],
        **{name: told[name] for name in names},
        "created_at": row["created_at"],
        "expires_at": row["expires_at"],
        "cancel_ignored": bool(row["is_cancel_ignored"]),
        "vanished": batches.is_hidden(row),
        "errors": told["errors"]["data"] if told["errors"] else [],
        "request_counts": told["request_counts"],
        "billed": billed,
    }


def _after() -> int:
    after = request.args.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise invalid_value("after", "Invalid 'after': expected the number of a row.")
    return int(after)


def _page(data: list[dict], limit: int, key: str) -> dict:
    """`data`: up to limit + 1, the last only to tell that there are more."""
    kept = data[:limit]
    last_id = kept[-1][key] if kept else None
    return {"object": "list", "data": kept, "last_id": last_id, "has_more": len(data) > limit}


@bp.get("/health")
def health():
    db = current_app.extensions["database"]
    batches = db.all("SELECT status, count(*) AS number FROM batches GROUP BY status")
    worker_is_alive = current_app.extensions["batch_worker"].is_alive
    return {
        "status": "ok" if worker_is_alive else "degraded",
        "now": clock.now(),
        "batch_worker_alive": worker_is_alive,
        "batches": {row["status"]: row["number"] for row in batches},
        "files": db.one("SELECT count(*) FROM files WHERE NOT deleted")[0],
        "usage_rows": db.one("SELECT count(*) FROM usage_log")[0],
    }
