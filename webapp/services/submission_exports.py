"""The results of a submission as CSV or JSONL, one line for each job, in the order in which they were made."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, TextIO

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.domain.csv_cells import cells
from webapp.domain.states import JobStatus
from webapp.models import Job, LedgerEntry, ProfileVersion
from webapp.services import submissions

JOBS_AT_ONCE = 500
COLUMNS = ("job", "status", "files", "result", "isCut", "failure", "model", "inputTokens", "outputTokens", "costUsd",
           "createdAt", "finishedAt")  # fmt: skip


def write_csv(session: Session, submission_id: int, file: TextIO) -> None:
    """The inputs are columns `input.<field>`, those of the first job; a JSON answer is one cell."""
    writer, inputs = csv.writer(file), None
    for row in _rows(session, submission_id):
        if inputs is None:
            inputs = list(row["inputs"])
            writer.writerow((*COLUMNS[:3], *(f"input.{key}" for key in inputs), *COLUMNS[3:]))
        given = [_text(row["inputs"].get(key)) for key in inputs]
        plain = row | {"files": " | ".join(row["files"]), "result": _text(row["result"])}
        writer.writerow(cells(*(plain[key] for key in COLUMNS[:3]), *given, *(plain[key] for key in COLUMNS[3:])))


def write_jsonl(session: Session, submission_id: int, file: TextIO) -> None:
    """An answer of a profile whose output is JSON is an object, every other one a string."""
    for row in _rows(session, submission_id):
        plain = {key: format(value, "f") if isinstance(value, Decimal) else value for key, value in row.items()}
        file.write(json.dumps(plain, ensure_ascii=False, default=lambda moment: moment.isoformat()) + "\n")


def _rows(session: Session, submission_id: int) -> Iterator[dict[str, Any]]:
    """Read a portion at a time, so that any number fits into memory."""
    after: int | None = 0
    profiles: dict[int, dict[str, Any]] = {}  # the session forgets what nobody holds
    while after is not None:
        found, after = submissions.list_jobs(session, submission_id, after=after, size=JOBS_AT_ONCE)
        costs = _costs(session, [job.id for job in found])
        for job in found:
            if job.profile_version_id not in profiles:
                profiles[job.profile_version_id] = session.get_one(ProfileVersion, job.profile_version_id).document
            yield _row(job, profiles[job.profile_version_id], costs.get(job.id))


def _row(job: Job, profile: dict[str, Any], cost: Decimal | None) -> dict[str, Any]:
    is_document = {field["key"] for field in profile["fields"] if field["type"] == "document"}
    result = job.result
    return {
        "job": job.id, "status": JobStatus(job.status).value, "files": [one.filename for one in job.documents],
        "inputs": {key: value for key, value in job.inputs.items() if key not in is_document},
        "result": _answer(result.text, profile) if result else None, "isCut": result.is_cut if result else None,
        "failure": job.failure_message, "model": result.model if result else None,
        "inputTokens": result.input_tokens if result else None,
        "outputTokens": result.output_tokens if result else None,
        "costUsd": cost, "createdAt": job.created_at, "finishedAt": job.finished_at,
    }  # fmt: skip


def _answer(text: str, profile: dict[str, Any]) -> Any:
    """JSON as what it says, when it is JSON; anything else as the text that it is."""
    if profile.get("output", {}).get("type") != "json":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _costs(session: Session, job_ids: list[int]) -> dict[int, Decimal | None]:
    rows = session.execute(
        select(LedgerEntry.job_id, func.sum(LedgerEntry.amount))
        .where(LedgerEntry.job_id.in_(job_ids))
        .group_by(LedgerEntry.job_id)
    )
    return {job_id: amount for job_id, amount in rows}
