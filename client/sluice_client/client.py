"""The calls of `/api/v1`. What comes in and goes out is JSON as docs/api.md says it; new fields may come."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any

from sluice_client.errors import SluiceError
from sluice_client.multipart import CHUNK_BYTES, form_of
from sluice_client.transport import KEY, LOST, Body, Request, Transport

Json = dict[str, Any]
JSON, JSONL = "application/json", "application/jsonl"
MOST_LISTED = 200  # in one answer
MOST_IN_MEMORY = 1024 * 1024  # bytes of a body; more goes into a file


class Client:
    """Sluice at `url`, for the owner of `token`. Raises SluiceError, and nothing else, for what goes wrong.

    What is safe is tried again for `patience` seconds when the connection breaks or the server is busy: reading, and
    making things, as each such call has an Idempotency-Key (`key`: one of your own, so that a program that was killed
    makes nothing twice). `tell` hears of each try that failed. `timeout`: seconds without a sign of life after which a
    connection counts as broken.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 60, patience: float = 120,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._transport = Transport(url, token, timeout=timeout, patience=patience, tell=tell)
        self.url = self._transport.url

    # Jobs

    def create_job(self, profile: str, inputs: Json, *, wait: int = 0, key: str | None = None) -> Json:
        """The new job. `wait`: for its end, at most so many seconds (30 at most; only for jobs that run now)."""
        return self._make("/jobs", {"profile": profile, "inputs": inputs}, wait, key)

    def retry_job(self, job_id: int, inputs: Json | None = None, *, wait: int = 0, key: str | None = None) -> Json:
        """A new job like this one, with other inputs or (only what ended without an answer) with the same."""
        return self._make(f"/jobs/{job_id}/retry", {"inputs": inputs}, wait, key)

    def get_job(self, job_id: int) -> Json:
        return self._get(f"/jobs/{job_id}")

    def list_jobs(self, **wanted: Any) -> Iterator[Json]:
        """The newest first. `status`, `profile`, `mode`, `submission`, `createdAfter`, `createdBefore` choose."""
        return self._pages("/jobs", "jobs", wanted)

    def get_result(self, job_id: int) -> Any:
        """The answer: text, or what its JSON says. Raises SluiceError with the code `no_result`."""
        body, headers = self._transport.read(Request("GET", f"/jobs/{job_id}/result"))
        return json.loads(body) if headers.get_content_type() == JSON else body.decode()

    def cancel_job(self, job_id: int) -> Json:
        """Not tried again: a second try would be told that it has moved on."""
        return self._json(Request("POST", f"/jobs/{job_id}/cancel"))

    # Submissions

    def create_submission(
        self, profile: str, jobs: Iterable[Json], *, name: str = "From the API", key: str | None = None
    ) -> Json:
        """Many jobs, all or none; each of `jobs` are the inputs of one. They go through a file, not through memory."""
        with SpooledTemporaryFile(max_size=MOST_IN_MEMORY) as file:
            for inputs in jobs:
                file.write(json.dumps(inputs).encode() + b"\n")
            body = Body(JSONL, file.tell(), lambda: _from_start(file))
            query = {"profile": profile, "name": name}
            return self._json(Request("POST", "/submissions", query, {KEY: key or _new_key()}, body))

    def get_submission(self, submission_id: int) -> Json:
        return self._get(f"/submissions/{submission_id}")

    def list_submissions(self) -> Iterator[Json]:
        """The newest first."""
        return self._pages("/submissions", "submissions", {})

    def get_results(self, submission_id: int, *, after: int | None = None) -> Iterator[Json]:
        """What became of each job that has ended, as it comes; after a broken connection it goes on where it was.

        `after`: the id of the last one that you have.
        """
        patience = self._transport.patience()
        while True:
            request = Request("GET", f"/submissions/{submission_id}/results", {"after": after})
            try:
                with self._transport.stream(request) as answer:
                    for line in _lines_of(answer):
                        outcome: Json = json.loads(line)
                        yield outcome
                        after, patience = outcome["id"], self._transport.patience()
                return
            except LOST as error:
                patience.wait_after(self._transport.lost(error))

    # Documents

    def upload(self, files: Sequence[Path | str], *, as_file: bool = False, key: str | None = None) -> list[Json]:
        """The documents, in the order of the PDFs (at most 20); all or none.

        `as_file`: send the file itself, not its text.
        """
        form = form_of([Path(file) for file in files], {"asFile": "true"} if as_file else {})
        made = self._json(Request("POST", "/documents", {}, {KEY: key or _new_key()}, form))
        return list(made["documents"])

    def get_document(self, document_id: int) -> Json:
        return self._get(f"/documents/{document_id}")

    def delete_document(self, document_id: int) -> None:
        self._transport.read(Request("DELETE", f"/documents/{document_id}"))

    # Other

    def profiles(self) -> list[Json]:
        return list(self._get("/profiles")["profiles"])

    def usage(self, first: str | None = None, last: str | None = None) -> Json:
        """Tokens, cost and what batches saved from one day (UTC, as 2026-11-26) to another; else the last 30."""
        return self._get("/usage", {"from": first, "to": last})

    def openapi(self) -> Json:
        """The whole API as an OpenAPI document; any living token may read it."""
        return self._get("/openapi.json")

    def _make(self, path: str, content: Json, wait: int, key: str | None) -> Json:
        encoded = json.dumps(content).encode()
        headers = {KEY: key or _new_key(), **({"Prefer": f"wait={wait}"} if wait else {})}
        return self._json(Request("POST", path, {}, headers, Body(JSON, len(encoded), lambda: [encoded]), wait))

    def _get(self, path: str, query: Mapping[str, object] | None = None) -> Json:
        return self._json(Request("GET", path, query or {}))

    def _pages(self, path: str, name: str, wanted: Mapping[str, object]) -> Iterator[Json]:
        query: Json = {"limit": MOST_LISTED, **wanted}
        while True:
            page = self._get(path, query)
            yield from page[name]
            if page["next"] is None:
                return
            query["after"] = page["next"]

    def _json(self, request: Request) -> Json:
        body, _ = self._transport.read(request)
        try:
            return dict(json.loads(body))
        except (ValueError, TypeError):
            raise SluiceError(f"What answers at {self._transport.url} is not Sluice: check the address.") from None


def _lines_of(answer: HTTPResponse) -> Iterator[bytes]:
    """Its own readline() takes a broken connection for the end; read1() does not."""
    rest = b""
    while chunk := answer.read1(CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest or answer.length:
        raise IncompleteRead(rest)


def _new_key() -> str:
    return uuid.uuid4().hex


def _from_start(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
