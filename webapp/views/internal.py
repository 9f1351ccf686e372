"""The internal API: n8n's door (`docs/internal-api.md`). JSON, camelCase, one token for all of it."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, jsonify, request
from flask.typing import ResponseReturnValue
from structlog.contextvars import bind_contextvars

from webapp.domain import messages, traces
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import batch_files, batch_ingest, batches, dispatch, failures, ingest, jobs, windows
from webapp.views.access import require_internal_token

bp = Blueprint("internal", __name__, url_prefix="/api/internal")
bp.before_request(require_internal_token)


def _body() -> dict[str, Any]:
    data = request.get_json()
    return data if isinstance(data, dict) else {"body": data}


@bp.post("/jobs/<int:job_id>/start")
def start_job(job_id: int) -> ResponseReturnValue:
    message = messages.StartMessage(**_body())
    url, body = dispatch.start_attempt(
        db.session(), parts().settings, job_id=job_id, attempt=message.attempt, execution_id=message.execution_id
    )
    # The stored text is sent as it is: parsing and writing it again would only cost time.
    return Response(f'{{"request":{{"url":{json.dumps(url)},"body":{body}}}}}', mimetype="application/json")


@bp.post("/jobs/<int:job_id>/result")
def record_result(job_id: int) -> ResponseReturnValue:
    message = messages.ResultMessage(**_body())
    outcome = ingest.record_answer(
        db.session(), parts().settings, parts().prices, job_id=job_id, attempt=message.attempt,
        execution_id=message.execution_id, answer=message.answer(), raw=message.raw, elapsed_ms=message.elapsed_ms,
    )  # fmt: skip
    return jsonify(outcome=outcome)


@bp.get("/jobs/<int:job_id>/context")
def job_context(job_id: int) -> ResponseReturnValue:
    """For custom workflows: the run, and where its document is."""
    job = jobs.get_job(db.session(), job_id, user_id=None)
    return jsonify(
        jobId=job.id, profile=job.profile_id, status=job.status, attempt=job.attempt, input=job.inputs,
        executionMode=job.execution_mode, batchStrategy=job.batch_strategy,
        documents=[{"id": d.id, "filename": d.filename, "pages": d.pages, "bytes": d.bytes} for d in job.documents],
    )  # fmt: skip


@bp.get("/jobs/<int:job_id>/document")
def job_document(job_id: int) -> ResponseReturnValue:
    """The job's (first) document, as bytes."""
    document, stream = jobs.open_document(db.session(), parts().storage, job_id)
    response = Response(iter(lambda: stream.read(1024 * 1024), b""), mimetype=document.content_type)
    response.call_on_close(stream.close)
    return response


@bp.get("/queues")
def list_queues() -> ResponseReturnValue:
    views = batches.list_queues(db.session(), parts().settings, parts().profiles)
    return jsonify(queues=[
        {
            "queue": view.queue.id, "profile": view.queue.profile_id, "endpoint": view.queue.endpoint,
            "model": view.queue.model, "strategy": view.queue.strategy, "queued": view.state.queued,
            "oldestAgeSeconds": view.oldest_age_seconds, "ready": view.readiness.ready,
            "reason": view.readiness.reason, "held": view.queue.held_at is not None,
        }
        for view in views
    ])  # fmt: skip


@bp.post("/batches/open")
def open_batch() -> ResponseReturnValue:
    message = messages.OpenMessage(**_body())
    window = batches.open_window(
        db.session(), parts().settings, parts().profiles, queue_id=message.queue,
        max_batch_size=message.max_batch_size, job_ids=message.job_ids, actor="n8n",
    )  # fmt: skip
    bind_contextvars(window_id=window.id)
    return jsonify(batch={"id": window.id}, jobCount=window.job_count), 201


@bp.post("/batches/lease")
def lease_batch() -> ResponseReturnValue:
    lease = windows.lease_due_window(db.session(), parts().settings)
    if lease is None:
        return "", 204
    bind_contextvars(window_id=lease.window.id)
    return jsonify(
        batch={"id": lease.window.id, "jobCount": lease.window.job_count}, leaseToken=lease.token,
        nextStep=lease.step, request=lease.request,
        traceparent=traces.traceparent(parts().settings.public_url, "windows", lease.window.id),
    )  # fmt: skip


@bp.post("/batches/<int:window_id>/input-file")
def upload_input(window_id: int) -> ResponseReturnValue:
    message = messages.LeaseMessage(**_body())
    file_id = batch_files.upload_input(db.session(), parts().files, window_id=window_id, token=message.lease_token)
    return jsonify(inputFileId=file_id)


@bp.post("/batches/<int:window_id>/answer")
def record_step_answer(window_id: int) -> ResponseReturnValue:
    message = messages.StepAnswerMessage(**_body())
    told = windows.apply_answer(
        db.session(), parts().settings, parts().files, window_id=window_id, token=message.lease_token,
        step=message.step, answer=message.answer(), body=message.body,
    )  # fmt: skip
    return jsonify(told)


@bp.post("/batches/<int:window_id>/ingest")
def ingest_batch(window_id: int) -> ResponseReturnValue:
    message = messages.IngestMessage(**_body())
    counts = batch_ingest.ingest_window(
        db.session(), parts().settings, parts().prices, parts().files, window_id=window_id,
        token=message.lease_token, items=message.items,
    )  # fmt: skip
    return jsonify(outcomes=counts)


@bp.post("/executions/failed")
def execution_failed() -> ResponseReturnValue:
    message = messages.ExecutionFailedMessage(**_body())
    failures.record_failed_execution(
        db.session(), parts().settings, execution_id=message.execution_id, workflow=message.workflow,
        last_node=message.last_node, message=message.message,
    )  # fmt: skip
    return jsonify(recorded=True)
