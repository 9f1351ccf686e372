"""Stand-ins at the gateways, the only place where tests have any."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from webapp.domain.errors import DeniedFile, UnavailableService


class FakeN8n:
    """Remembers what it was sent; `is_down` refuses everything."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, dict[str, Any]]] = []
        self.traceparents: list[str] = []  # of the runs
        self.nudges = 0
        self.is_down = False

    def run(self, webhook_path: str, payload: dict[str, Any], traceparent: str) -> None:
        self._check()
        self.runs.append((webhook_path, payload))
        self.traceparents.append(traceparent)

    def nudge(self) -> None:
        self._check()
        self.nudges += 1

    def is_healthy(self) -> bool:
        return not self.is_down

    def _check(self) -> None:
        if self.is_down:
            raise UnavailableService("n8n did not answer: connection refused")


class FakeProviderFiles:
    """The provider's files, in memory."""

    def __init__(self) -> None:
        self.is_down = False
        self.contents: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self.denied: set[str] = set()  # the provider says that it has no such file
        self.cut_short: set[str] = set()  # fewer bytes come than there are
        self.before_upload_ends: Callable[[], None] = lambda: None

    def upload_batch_input(self, path: Path, on_progress: Callable[[], None]) -> str:
        file_id = f"file-{len(self.contents) + 1}"
        self.contents[file_id] = path.read_bytes()
        on_progress()
        self.before_upload_ends()
        return file_id

    def upload_document(self, path: Path) -> str:
        if self.is_down:
            raise UnavailableService("The provider did not take the document: connection refused")
        return self.upload_batch_input(path, lambda: None)

    def download(self, file_id: str, path: Path, on_progress: Callable[[], None]) -> None:
        if file_id in self.denied:
            raise DeniedFile(f"The provider says that it has no file {file_id}.")
        whole = self.contents[file_id]
        path.write_bytes(whole[: len(whole) // 2] if file_id in self.cut_short else whole)
        on_progress()
        if file_id in self.cut_short:
            raise UnavailableService(f"{file_id} was cut short: {len(whole) // 2} of {len(whole)} bytes came.")

    def delete(self, file_id: str) -> None:
        self.deleted.append(file_id)


class FakeProviderModels:
    """The provider's list of models."""

    def __init__(self) -> None:
        self.is_down = False
        self.announced: dict[str, date | None] = {"gpt-6-luna": None}

    def shutdowns(self) -> dict[str, date | None]:
        if self.is_down:
            raise UnavailableService("The provider did not list its models: connection refused")
        return self.announced
