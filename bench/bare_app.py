"""What the HTTP rows are held against: Flask with one statement or one upload in each answer, and nothing else.

Started by bench/http_rows.py with the same gunicorn as the web app; DATABASE_URL and BARE_FOLDER say where.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from uuid import uuid4

import psycopg
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

INSERT = """
    INSERT INTO jobs (user_id, profile_id, profile_version_id, execution_mode, batch_strategy, queue_id, status,
                      inputs, created_at, queued_at)
    VALUES (%s, 'text_classification', %s, 'batch', 'count_only', %s, 'queued', %s, now(), now()) RETURNING id
"""
SELECT = "SELECT id, status, created_at, finished_at, failure_message FROM jobs WHERE id = %s AND user_id = %s"
app = Flask(__name__)
own = threading.local()


def connection() -> psycopg.Connection:
    """One for each thread."""
    if not hasattr(own, "connection"):
        own.connection = psycopg.connect(os.environ["BARE_DATABASE_URL"], autocommit=True)
    found: psycopg.Connection = own.connection
    return found


@app.get("/healthz")
def healthz() -> ResponseReturnValue:
    return "ok"


@app.post("/jobs/<int:user_id>/<int:version_id>/<int:queue_id>")
def insert(user_id: int, version_id: int, queue_id: int) -> ResponseReturnValue:
    values = (user_id, version_id, queue_id, request.get_data(as_text=True))
    row = connection().execute(INSERT, values).fetchone()
    assert row
    return jsonify(id=row[0]), 202


@app.get("/jobs/<int:user_id>/<int:job_id>")
def select(user_id: int, job_id: int) -> ResponseReturnValue:
    row = connection().execute(SELECT, (job_id, user_id)).fetchone()
    assert row
    return jsonify(id=row[0], status=row[1], created_at=row[2], finished_at=row[3], error=row[4])


@app.post("/documents")
def upload() -> ResponseReturnValue:
    names = []
    for file in request.files.getlist("file"):
        names.append(uuid4().hex)
        file.save(Path(os.environ["BARE_FOLDER"]) / names[-1])
    return jsonify(names=names), 201
