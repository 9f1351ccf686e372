"""Jobs with their answers as CSV or JSONL, one line for each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from webapp.domain.csv_cells import cells
from webapp.domain.states import ExecutionMode, JobStatus
from webapp.models import Job, LedgerEntry, ProfileVersion
from webapp.services import submissions
from webapp.services.job_lists import Wanted

JOBS_AT_ONCE = 100  # in memory, each with an answer of perhaps a megabyte
FIRST = ("job", "status", "files")
LAST = ("result", "isCut", "failure", "model", "inputTokens", "outputTokens", "costUsd", "createdAt", "finishedAt")
OF_ANY_PROFILE = (*FIRST, "profile", "mode", "user", "inputs", *LAST)
KINDS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}

Row = dict[str, Any]
Find = Callable[[int | None], tuple[Sequence[Job], int | None]]  # where to go on: the jobs, and where then


def export_submission(session: Session, submission_id: int, kind: str) -> Iterator[str]:
    """The jobs of a submission in the order in which they were made; `kind` is one of KINDS. In a CSV the inputs are
    columns `input.<field>`, those of the first job."""

    def find(after: int | None) -> tuple[Sequence[Job], int | None]:
        return submissions.list_jobs(session, submission_id, after=after or 0, size=JOBS_AT_ONCE)

    return _written(_portions(session, find, _row), kind, columns=None)


def export_jobs(session: Session, wanted: Wanted, kind: str) -> Iterator[str]:
    """Jobs of any profile, newest first; `kind` is one of KINDS. In a CSV the inputs are one cell of JSON."""
    statement = (
        select(Job)
        .where(*wanted.conditions())
        .options(joinedload(Job.result), joinedload(Job.user), selectinload(Job.documents))
        .order_by(Job.id.desc())
        .limit(JOBS_AT_ONCE)
    )

    def find(before: int | None) -> tuple[Sequence[Job], int | None]:
        found = session.scalars(statement if before is None else statement.where(Job.id < before)).all()
        return found, found[-1].id if len(found) == JOBS_AT_ONCE else None

    def row(job: Job, profile: dict[str, Any], cost: Decimal | None) -> Row:
        mode = ExecutionMode(job.execution_mode).value
        return {**_row(job, profile, cost), "profile": job.profile_id, "mode": mode, "user": job.user.email}

    return _written(_portions(session, find, row), kind, columns=OF_ANY_PROFILE)


def _portions(session: Session, find: Find, row: Callable[..., Row]) -> Iterator[list[Row]]:
    """A portion at a time, so that any number of jobs fits into memory; each is a transaction of its own: whoever
    reads slowly holds neither a connection nor a cursor."""
    place: int | None = None
    profiles: dict[int, dict[str, Any]] = {}
    while True:
        found, place = find(place)
        costs = _costs(session, [job.id for job in found])
        for version_id in {job.profile_version_id for job in found} - profiles.keys():
            profiles[version_id] = session.get_one(ProfileVersion, version_id).document
        rows = [row(job, profiles[job.profile_version_id], costs.get(job.id)) for job in found]
        del found  # the session forgets what nobody holds
        session.rollback()
        yield rows
        if place is None:
            return


def _written(portions: Iterator[list[Row]], kind: str, columns: tuple[str, ...] | None) -> Iterator[str]:
    return _csv(portions, columns) if kind == "csv" else _jsonl(portions)


def _csv(portions: Iterator[list[Row]], columns: tuple[str, ...] | None) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    if columns:
        writer.writerow(columns)
    for rows in portions:
        for row in rows:
            given = {f"input.{key}": value for key, value in row["inputs"].items()}
            if columns is None:
                columns = (*FIRST, *given, *LAST)
                writer.writerow(columns)
            plain = {**row, **given, "files": " | ".join(row["files"])}
            writer.writerow(cells(*(_text(plain.get(column)) for column in columns)))
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _jsonl(portions: Iterator[list[Row]]) -> Iterator[str]:
    """An answer of a profile whose output is JSON is an object, every other one a string."""
    for rows in portions:
        yield "".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)


def _plain(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value.isoformat())


def _row(job: Job, profile: dict[str, Any], cost: Decimal | None) -> Row:
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
