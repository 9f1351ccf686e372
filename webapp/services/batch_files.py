"""The files of a window: spool the input as JSONL and upload it; download the output and error files."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from webapp.domain.errors import StaleLease, UnavailableService
from webapp.domain.windows import LEASE_SECONDS, Step
from webapp.gateways.provider_files import ProviderFiles
from webapp.services import lifecycle
from webapp.services.clock import clock
from webapp.services.windows import hold_lease, postpone_step, release_lease, renew_lease


class LeaseKeeper:
    """Call it while bytes move: it renews the lease when a third of it has gone by."""

    def __init__(self, session: Session, window_id: int, token: str, step: Step) -> None:
        self._arguments = (session, window_id, token, step)
        self._every = LEASE_SECONDS[step] / 3
        self._renewed = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._renewed >= self._every:
            renew_lease(*self._arguments)
            self._renewed = time.monotonic()


def upload_input(session: Session, files: ProviderFiles, *, window_id: int, token: str) -> str:
    """Step upload_input: spool the window's requests, upload them, record the file id once. Commits.

    Returns the provider's file id. Raises NotFound, StaleLease (a losing upload is deleted at the provider) or
    UnavailableService.
    """
    hold_lease(session, window_id, token, Step.UPLOAD_INPUT)
    keeper = LeaseKeeper(session, window_id, token, Step.UPLOAD_INPUT)
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        path = Path(folder) / f"sluice-window-{window_id}.jsonl"
        write_input(session, window_id, path)
        session.commit()  # no network call inside a transaction
        size = path.stat().st_size
        try:
            file_id = files.upload_batch_input(path, keeper)
        except UnavailableService as error:
            postpone_step(session, window_id, token, Step.UPLOAD_INPUT, error)
            raise
    try:
        window = hold_lease(session, window_id, token, Step.UPLOAD_INPUT)
    except StaleLease:
        files.delete(file_id)
        raise
    now = clock(session)
    window.input_file_id, window.input_bytes = file_id, size
    release_lease(window, due_at=now)
    lifecycle.write_window_event(
        session, window_id, "input_uploaded", now=now, actor="app", detail={"fileId": file_id, "bytes": size}
    )
    session.commit()
    return file_id


def write_input(session: Session, window_id: int, path: Path) -> None:
    """Write one line for each item to `path`, in the order of the job ids (validation errors name line numbers).

    PostgreSQL builds the lines and COPY streams them: the bodies are JSON text already. As CSV with control
    characters for quote and delimiter, which JSON text cannot contain, COPY writes each line as it is.
    """
    connection: Any = session.connection().connection.driver_connection
    query = """
        COPY (
            SELECT '{"custom_id":"' || i.custom_id || '","method":"POST","url":"' || r.endpoint || '","body":' ||
                   r.body || '}'
            FROM batch_items i JOIN job_requests r ON r.job_id = i.job_id
            WHERE i.window_id = %s ORDER BY i.job_id
        ) TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')
    """
    with connection.cursor() as cursor, cursor.copy(query, (window_id,)) as copy, path.open("wb") as file:
        for block in copy:
            file.write(block)
