"""`/healthz`: this process is alive. `/readyz`: everything it needs is there, each part by name."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from webapp.extensions import db, migrate
from webapp.parts import parts
from webapp.services import reporting

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def alive() -> ResponseReturnValue:
    return jsonify(status="ok")


@bp.get("/readyz")
def ready() -> ResponseReturnValue:
    checks = reporting.readiness_checks(db.session, migrate.directory, parts().n8n, parts().storage)
    ok = all(state == "ok" for state in checks.values())
    return jsonify(status="ok" if ok else "not ready", checks=checks), 200 if ok else 503
