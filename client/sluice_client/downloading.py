"""A submission's results as files, one for each job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sluice_client.client import Client, Json
from sluice_client.errors import SluiceError
from sluice_client.files import safe_name, write_whole

ENDINGS = {"markdown": "md", "text": "txt", "json": "json"}
COMPLETED = "completed"


@dataclass
class Tally:
    """How many jobs: answers written now, answers that were there, ended without one, not ended yet."""

    written: int = 0
    there: int = 0
    failed: int = 0
    left: int = 0


def download(client: Client, submission_id: int, folder: Path) -> Tally:
    """Write what has ended and is not there yet; a job without an answer gets an `.error.json`. Raises SluiceError.

    A file that is there is whole, and what a job answered never changes: a second call writes what is missing.
    """
    tally = Tally()
    job_count = client.get_submission(submission_id)["jobCount"]
    for outcome in client.get_results(submission_id):
        path, is_answer = folder / file_name(outcome), outcome["status"] == COMPLETED
        if not path.exists():
            write_whole(path, _content(outcome))
            tally.written += is_answer
        else:
            tally.there += is_answer
        tally.failed += not is_answer
    tally.left = max(0, job_count - tally.written - tally.there - tally.failed)
    return tally


def file_name(outcome: Json) -> str:
    """`report-12.md`: the document's name and the job's id, which makes it the only one."""
    stem = safe_name(outcome["files"][0]) if outcome["files"] else ""
    ending = ENDINGS.get(outcome["output"], "txt") if outcome["status"] == COMPLETED else "error.json"
    return f"{stem}-{int(outcome['id'])}.{ending}" if stem else f"{int(outcome['id'])}.{ending}"


def _content(outcome: Json) -> bytes:
    if outcome["status"] != COMPLETED:
        said = {key: outcome[key] for key in ("id", "status", "files", "error")}
        return json.dumps(said, indent=2, ensure_ascii=False).encode() + b"\n"
    result = outcome["result"]
    if outcome["output"] == "json":
        return json.dumps(result, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    if not isinstance(result, str):
        raise SluiceError(f"The answer of job {outcome['id']} is not text: this client is too old for this server.")
    return result.encode("utf-8", "replace")
