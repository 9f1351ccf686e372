"""POST /v1/responses and /v1/chat/completions for a caller who waits; GET /v1/responses/{id}."""

from hashlib import sha256

from flask import Blueprint, Response, current_app, g

from . import answers, clock, jsontext, usage, web
from .answer import Answer
from .db import Database
from .errors import ApiError
from .faults import Strikes

bp = Blueprint("sync", __name__)
STORED_SECONDS = 30 * 86_400


@bp.post("/responses")
def create_response():
    return _answer("/v1/responses")


@bp.post("/chat/completions")
def create_chat_completion():
    return _answer("/v1/chat/completions")


@bp.get("/responses/<response_id>")
def retrieve_response(response_id: str):
    row = _db().one("SELECT body FROM responses WHERE id = ?", (response_id,))
    if row is None:
        raise ApiError(f"Response with id '{response_id}' not found.", status=404)
    return Response(row["body"], mimetype="application/json")


def delete_old(db: Database) -> None:
    with db.write() as connection:
        connection.execute("DELETE FROM responses WHERE created_at < ?", (clock.now() - STORED_SECONDS,))


def _answer(endpoint: str):
    raw = web.read_raw()
    body = web.as_json_object(raw)
    with current_app.extensions["faults"].strikes() as strikes:
        answer = answers.answer(endpoint, body, current_app.extensions["documents"], strikes, {"mode": "sync"})
        return _respond(endpoint, answer, strikes, sha256(raw).hexdigest())


def _respond(endpoint: str, answer: Answer, strikes: Strikes, request_sha256: str):
    settings = current_app.config["SETTINGS"]
    clock.pause(settings.response_seconds - answer.provider_ms / 1000)
    text = jsontext.dump(answer.body)
    # Recorded before it is sent: an answer that gets lost on the way is billed all the same.
    with _db().write() as connection:
        usage.record(connection, endpoint, [(None, answer)], request_sha256=request_sha256)
        strikes.record(connection)
        if endpoint == "/v1/responses" and answer.body.get("store"):
            connection.execute(
                "INSERT INTO responses (id, created_at, body) VALUES (?, ?, ?)",
                (answer.response_id, clock.now(), text),
            )
    if answer.model and answer.response_id:
        tokens = answer.input_tokens + answer.output_tokens
        limits = current_app.extensions["model_limits"]
        g.rate_limit_headers = limits.headers(answer.model, tokens)
    return Response(text, status=answer.status, mimetype="application/json")


def _db() -> Database:
    return current_app.extensions["database"]
