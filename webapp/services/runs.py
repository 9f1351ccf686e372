"""A run before it is a job: its values checked, its documents found, its provider request rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from webapp.config import Settings
from webapp.domain.errors import InvalidInput, InvalidRows
from webapp.domain.estimates import Size, size_of
from webapp.domain.profiles import BATCH_STRATEGY, EXECUTION_MODE, NEED_BY, Profile
from webapp.domain.rendering import to_json
from webapp.domain.states import BatchStrategy, ExecutionMode
from webapp.models import Document, Person
from webapp.services.documents import documents_of

MOST_AHEAD = timedelta(days=366)


@dataclass(frozen=True)
class Run:
    """One run, checked and rendered, ready to be stored."""

    mode: ExecutionMode
    strategy: BatchStrategy
    inputs: dict[str, Any]
    documents: list[Document]
    endpoint: str
    model: str
    need_by: datetime | None  # strategy deadline
    body: str  # JSON text of the provider request: what is sent in either mode
    size: Size

    def model_in(self, mode: ExecutionMode, settings: Settings) -> str:
        """The model that answers in this mode: that of the settings, unless the profile names its own."""
        own = settings.sync_model if self.mode is ExecutionMode.SYNC else settings.batch_model
        if self.model != own:
            return self.model
        return settings.sync_model if mode is ExecutionMode.SYNC else settings.batch_model


def prepare(
    session: Session, settings: Settings, profile: Profile, rows: Sequence[Mapping[str, Any] | InvalidInput],
    user: Person, now: datetime,
) -> list[Run]:  # fmt: skip
    """Check the values of runs and render their requests. A document is named by its id.

    In place of values there may be what is known to be wrong with them.
    Raises InvalidRows with a message per run and field.
    """
    checked: dict[int, dict[str, Any]] = {}
    runs: list[Run] = []
    faults: dict[int, InvalidInput] = {}
    for place, values in enumerate(rows):
        try:
            if isinstance(values, InvalidInput):
                raise values
            checked[place] = profile.validate_inputs(values)
        except InvalidInput as error:
            faults[place] = error
    documents = _load_documents(session, profile, checked.values(), user.id)
    for place, inputs in checked.items():
        try:
            runs.append(_render(settings, profile, inputs, documents, user, now))
        except InvalidInput as error:
            faults[place] = error
    if faults:
        raise InvalidRows(faults)
    return runs


def _render(
    settings: Settings, profile: Profile, inputs: dict[str, Any], found_documents: Mapping[int, Document], user: Person,
    now: datetime,
) -> Run:  # fmt: skip
    documents = _documents_of_run(profile, inputs, found_documents)
    mode = ExecutionMode(inputs.pop(EXECUTION_MODE, None) or ExecutionMode.SYNC)
    strategy = BatchStrategy(inputs.pop(BATCH_STRATEGY, None) or BatchStrategy.COUNT_ONLY)
    need_by = _need_by(inputs.pop(NEED_BY, None), mode, strategy, now)
    model = settings.sync_model if mode is ExecutionMode.SYNC else settings.batch_model
    shown = {key: _in_templates(document, profile.request.endpoint) for key, document in documents.items()}
    rendered = profile.request.render({
        "model": model, "inputs": inputs, "documents": shown, "document": next(iter(shown.values()), None),
        "user": {"id": user.id},
    })  # fmt: skip
    found = list({document.id: document for document in documents.values()}.values())
    body, pages = to_json(rendered), sum(document.pages for document in found if document.provider_file_id)
    size = size_of(rendered, body, pages)
    if size.body_bytes > settings.max_window_bytes // 2:
        raise InvalidInput({}, "This run's request is too large to send.")
    named = rendered.get("model")
    return Run(
        mode, strategy, inputs, found, profile.request.endpoint, named if isinstance(named, str) and named else model,
        need_by, body, size,
    )  # fmt: skip


def _load_documents(
    session: Session, profile: Profile, runs: Iterable[Mapping[str, Any]], user_id: int
) -> dict[int, Document]:
    """{id: document} of the user, of all that these runs name."""
    keys = [field.key for field in profile.document_fields]
    wanted = {inputs[key] for inputs in runs for key in keys if inputs[key] is not None}
    return documents_of(session, user_id, list(wanted), with_text=True) if wanted else {}


def _documents_of_run(
    profile: Profile, inputs: Mapping[str, Any], found: Mapping[int, Document]
) -> dict[str, Document]:
    """{field key: document} for the document fields that are filled in. Raises InvalidInput."""
    wanted = {field.key: inputs[field.key] for field in profile.document_fields if inputs[field.key] is not None}
    missing = {key: "There is no such document of yours." for key, id_ in wanted.items() if id_ not in found}
    if missing:
        raise InvalidInput(missing)
    return {key: found[id_] for key, id_ in wanted.items()}


def _need_by(given: str | None, mode: ExecutionMode, strategy: BatchStrategy, now: datetime) -> datetime | None:
    """When a batch job has to be there, for the strategy that asks for it. Raises InvalidInput."""
    if mode is not ExecutionMode.BATCH or (strategy is not BatchStrategy.DEADLINE and given is None):
        return None
    if strategy is not BatchStrategy.DEADLINE:
        raise InvalidInput({NEED_BY: "Only the strategy “deadline” keeps to a time: choose it, or leave this empty."})
    if given is None:
        raise InvalidInput({NEED_BY: "The strategy “deadline” needs to know by when."})
    need_by = datetime.fromisoformat(given)
    if need_by <= now:
        raise InvalidInput({NEED_BY: "This moment has passed."})
    if need_by > now + MOST_AHEAD:
        raise InvalidInput({NEED_BY: "This is more than a year ahead."})
    return need_by


def _in_templates(document: Document, endpoint: str) -> dict[str, Any]:
    """What templates see of a document. `content` fits into a message: the text, or the part that names the file."""
    file_id = document.provider_file_id
    is_chat = endpoint == "/v1/chat/completions"
    part = {"type": "file", "file": {"file_id": file_id}} if is_chat else {"type": "input_file", "file_id": file_id}
    return {
        "text": document.text, "content": [part] if file_id else document.text, "file": file_id,
        "filename": document.filename, "pages": document.pages,
    }  # fmt: skip
