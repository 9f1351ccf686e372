"""`/api/v1/submissions`: many jobs at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO

from flask import Response, g, request, stream_with_context, url_for
from flask.typing import ResponseReturnValue

from webapp.domain.errors import InvalidRows
from webapp.domain.rows import Row, read_rows
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import job_lists, submissions
from webapp.views import api_models as models
from webapp.views.api import JSONL, JSONL_TYPES, bp, id_of, let_go, once, read_body, read_query, replay_header, show
from webapp.views.api_jobs import fault_of

CHUNK_BYTES = 1024 * 1024
MOST_SHOWN_FAULTS = 100


@bp.post("/submissions")
def create_submission() -> ResponseReturnValue:
    if request.mimetype in JSONL_TYPES:
        return _of_lines()
    wanted = read_body(models.NewSubmission)
    rows = (Row(place, values) for place, values in enumerate(wanted.jobs, start=1))
    return _make(wanted.profile, wanted.name, wanted.common, rows, request.get_json())


@bp.get("/submissions")
def list_submissions() -> ResponseReturnValue:
    query = read_query(models.Page)
    found, after = submissions.list_progress(
        db.session(), user_id=g.user.id, before=query.after, size=query.limit
    )  # fmt: skip
    return show(models.SubmissionList(submissions=[_shown(one) for one in found], next=after))


@bp.get("/submissions/<int:submission_id>")
def get_submission(submission_id: int) -> ResponseReturnValue:
    return show(_shown(_own(submission_id)))


@bp.get("/submissions/<int:submission_id>/results")
def get_results(submission_id: int) -> ResponseReturnValue:
    after = read_query(models.ResultsQuery).after or 0
    _own(submission_id)
    return Response(stream_with_context(_lines(submission_id, after)), content_type=JSONL)


def _of_lines() -> Response:
    """The body goes to a file first: however slowly it comes, no transaction waits for it."""
    wanted, digest = read_query(models.SubmissionQuery), hashlib.sha256()
    let_go()
    with SpooledTemporaryFile(max_size=CHUNK_BYTES) as file:
        while chunk := request.stream.read(CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
        file.seek(0)
        rows = _rows(file, wanted.profile)
        return _make(wanted.profile, wanted.name, {}, rows, digest.digest())


def _rows(file: Any, profile_id: str) -> Iterator[Row]:
    stream: BinaryIO = file
    return read_rows(stream, "body.jsonl", parts().profiles.get(profile_id), parts().settings.zone)


def _make(profile_id: str, name: str, common: dict[str, Any], rows: Iterable[Row], content: Any) -> Response:
    def make(remember: Any) -> str:
        made = submissions.submit_rows(
            db.session(), parts().settings, parts().profiles, parts().prices, user=g.user, profile_id=profile_id,
            rows=rows, common=common, source="api", name=name,
            then=lambda submission: remember(f"submission:{submission.id}"),
        )  # fmt: skip
        return f"submission:{made.id}"

    try:
        target, is_replay = once(content, make)
    except InvalidRows as error:
        error.detail = {"lines": [
            {"line": line, "detail": fault.message, "errors": fault.errors}
            for line, fault in sorted(error.rows.items())[:MOST_SHOWN_FAULTS]
        ]}  # fmt: skip
        raise
    address = url_for("api.get_submission", submission_id=id_of(target))
    return show(_shown(_own(id_of(target))), 202, {"Location": address, **replay_header(is_replay)})


def _own(submission_id: int) -> submissions.Progress:
    """Raises NotFound."""
    return submissions.get_progress(db.session(), submission_id, user_id=g.user.id)


def _shown(progress: submissions.Progress) -> models.Submission:
    one = progress.submission
    return models.Submission(
        id=one.id, profile=one.profile_id, name=one.name, source=one.source, job_count=one.job_count,
        counts=dict(progress.counts), is_over=progress.is_over, created_at=one.created_at,
        finished_at=one.finished_at,
    )  # fmt: skip


def _lines(submission_id: int, after: int) -> Iterator[str]:
    for job in job_lists.results_of(db.session(), submission_id, after=after):
        result = json.loads(job.text) if job.text is not None and job.output == "json" else job.text
        line = models.JobOutcome(
            id=job.id, status=job.status, files=job.files or [], output=job.output or "markdown", result=result,
            error=fault_of(job),
        )  # fmt: skip
        yield line.model_dump_json(by_alias=True) + "\n"
