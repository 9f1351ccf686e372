"""A folder of PDFs as a submission: what was sent is not sent again, and what was bought is not bought again.

Every request has a key that is a digest of what it asks for, and what was asked is written down before it is asked:
a run that was stopped anywhere goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sluice_client import state
from sluice_client.client import Client, Json
from sluice_client.errors import SluiceError
from sluice_client.state import Asked, State

MOST_FILES, MOST_BYTES = 10, 4 * 1024 * 1024  # in one request: it is read as a whole before it answers
ALLOWED_CLOCK_DIFFERENCE = timedelta(hours=1)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is to be made of each file. `again`: also of those that were submitted before, and sent once more."""

    profile: str
    inputs: Mapping[str, Any]
    document_field: str
    name: str
    as_file: bool = False
    again: bool = False
    skip_bad: bool = False

    def is_of(self, asked: Asked) -> bool:
        wanted = (self.profile, dict(self.inputs), self.document_field, self.as_file)
        return wanted == (asked.profile, asked.inputs, asked.document_field, asked.as_file)


@dataclass(frozen=True)
class File:
    path: Path
    sha256: str
    bytes: int

    @property
    def named(self) -> tuple[str, str]:
        return self.sha256, self.path.name

    @property
    def key(self) -> str:
        return " ".join(self.named)


class BadFiles(Exception):
    """{name: what is wrong}; nothing was submitted."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__("\n".join(f"{name}: {fault}" for name, fault in faults.items()))
        self.faults = dict(faults)


def submit(client: Client, known: State, files: Sequence[File], order: Order, say: Say) -> list[int]:
    """The submissions that these files are in now: those of before, and a new one of what is new.

    Raises SluiceError, or BadFiles (without `skip_bad`).
    """
    unheard = [one for one in known.submissions if one.id is None and order.is_of(one)]
    for asked in unheard:
        ask(client, known, asked, asked.rows(), say)
    before = unheard if order.again else [one for one in known.submissions if order.is_of(one)]
    found = {(sha, name): one.id for one in before for name, sha in one.files.items()}
    new = [file for file in files if file.named not in found]
    ids = {found[file.named] for file in files if file.named in found}
    if ids:
        named = ", ".join(str(id_) for id_ in sorted(filter(None, ids)))
        say(f"{len(files) - len(new)} of {len(files)} files are in submission {named} already (--again: once more).")
    if new:
        documents, faults = _upload(client, known, new, order, say)
        if faults and not order.skip_bad:
            raise BadFiles(faults)
        good = [file for file in new if file.key in documents]
        if not good:
            raise BadFiles(faults)
        asked = _asked(order, good, documents)
        ids.add(ask(client, known, asked, asked.rows(), say))
    return sorted(filter(None, ids))


def files_of(folder: Path) -> list[File]:
    """The PDFs of a folder, by name. Raises SluiceError."""
    try:
        paths = sorted(one for one in folder.iterdir() if one.suffix.lower() == ".pdf" and one.is_file())
    except OSError as error:
        raise SluiceError(f"{folder} cannot be read: {error.strerror}.") from error
    return [file_of(path) for path in paths if not path.name.startswith(".")]


def file_of(path: Path) -> File:
    """Raises SluiceError."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
            return File(path, digest.hexdigest(), stream.tell())
    except OSError as error:
        raise SluiceError(f"{path} cannot be read: {error.strerror}.") from error


def _asked(order: Order, files: Sequence[File], documents: Mapping[str, int]) -> Asked:
    made = Asked(
        profile=order.profile, inputs=dict(order.inputs), document_field=order.document_field, as_file=order.as_file,
        files={file.path.name: file.sha256 for file in files}, documents=[documents[file.key] for file in files],
        name=order.name, key="", asked_at=state.now(),
    )  # fmt: skip
    nonce = secrets.token_hex(8) if order.again else ""
    made.key = key_of("submission", made.profile, made.name, made.rows(), nonce)
    return made


def ask(client: Client, known: State, asked: Asked, rows: Iterable[Json], say: Say) -> int:
    """Make it, unless it was made; its id. It is written down before, and forgotten when it is refused.

    Raises SluiceError.
    """
    if not any(one is asked for one in known.submissions):
        known.submissions.append(asked)
        known.save()
    try:
        asked.id = _made_before(client, known, asked) if asked.is_old else None
        if asked.id is None:
            asked.asked_at = state.now()
            asked.id = int(client.create_submission(asked.profile, rows, name=asked.name, key=asked.key)["id"])
    except SluiceError as error:
        if not error.is_passing and error.status not in (401, 403):  # those say nothing about this request
            known.submissions.remove(asked)
            known.save()
        if any(asked.document_field in line.get("errors", {}) for line in error.lines):
            say("A document that was sent before is not there any more: --again sends all files once more.")
        raise
    known.save()
    say(f"It is submission {asked.id}.")
    return asked.id


def _made_before(client: Client, known: State, asked: Asked) -> int | None:
    """The submission that an old request made: the server has forgotten its key, but not its jobs."""
    others = {one.id for one in known.submissions}
    since = datetime.fromisoformat(asked.asked_at) - ALLOWED_CLOCK_DIFFERENCE
    for one in client.list_submissions():
        if datetime.fromisoformat(one["createdAt"]) < since:
            break
        if one["id"] in others or (one["profile"], one["jobCount"]) != (asked.profile, len(asked.documents)):
            continue
        last = next(client.list_jobs(submission=one["id"]))
        if client.get_job(last["id"])["inputs"].get(asked.document_field) in asked.documents:
            return int(one["id"])
    return None


def _upload(
    client: Client, known: State, files: Sequence[File], order: Order, say: Say
) -> tuple[dict[str, int], dict[str, str]]:
    """({key of a file: its document}, {name of a file: what is wrong with it})"""
    mark, nonce = " as file" if order.as_file else "", secrets.token_hex(8) if order.again else ""
    sent = {} if order.again else {key: id_ for key, (id_, since) in known.documents.items() if not state.is_old(since)}
    documents = {file.key: sent[file.key + mark] for file in files if file.key + mark in sent}
    faults: dict[str, str] = {}
    portions = [*_portions([file for file in files if file.key not in documents])]
    while portions:
        portion = portions.pop(0)
        try:
            made = client.upload(
                [file.path for file in portion], as_file=order.as_file,
                key=key_of("documents", [file.key for file in portion], order.as_file, nonce),
            )  # fmt: skip
        except SluiceError as error:
            if error.status not in (413, 422):
                raise
            if len(portion) > 1:  # one of them is bad
                portions[:0] = [[file] for file in portion]
            else:
                faults[portion[0].path.name] = error.errors.get("file", error.detail)
            continue
        for file, document in zip(portion, made, strict=True):
            if document["sha256"] != file.sha256:
                raise SluiceError(f"{file.path} changed while it was sent. Run this again.")
            documents[file.key] = int(document["id"])
            known.documents[file.key + mark] = (int(document["id"]), state.now())
        known.save()
        say(f"{len(documents) + len(faults)} of {len(files)} files are sent.")
    return documents, faults


def _portions(files: Sequence[File]) -> Iterator[list[File]]:
    portion: list[File] = []
    for file in files:
        if portion and (len(portion) == MOST_FILES or sum(one.bytes for one in portion) + file.bytes > MOST_BYTES):
            yield portion
            portion = []
        portion.append(file)
    if portion:
        yield portion


def key_of(*what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
