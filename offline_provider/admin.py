"""/admin: what tests and operators look at. Without the token there is nothing here."""

from flask import Blueprint, abort, current_app, request

from . import clock, usage, web
from .errors import invalid_value

bp = Blueprint("admin", __name__, url_prefix="/admin")


@bp.before_request
def _check_token() -> None:
    token = current_app.config["SETTINGS"].admin_token
    if not token or not web.same_secret(request.headers.get("X-Admin-Token", ""), token):
        abort(404)


@bp.get("/usage")
def list_usage():
    """`?after=<id>&limit=`: rows of the usage log, oldest first."""
    after = request.args.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) < 19):
        raise invalid_value("after", "Invalid 'after': expected the id of a row.")
    limit = web.page_limit(1_000, 10_000)
    rows = usage.page(current_app.extensions["database"], int(after), limit + 1)
    data = [dict(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }


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
