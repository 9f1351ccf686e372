"""The files of a run form: stored as soon as they come, so that each is sent only once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flask_login import current_user

from webapp.domain.errors import InvalidInput
from webapp.domain.profiles import Profile
from webapp.extensions import db
from webapp.models import Document
from webapp.parts import parts
from webapp.services import documents
from webapp.views.forms import RunForm, as_file_key

FILES_AT_ONCE = 20  # of one form: their texts are in memory together


def keep_uploads(profile: Profile, form: RunForm, kept: dict[str, list[int]]) -> dict[str, list[str]]:
    """Store each file that can be used; adds to `kept`, and returns what is wrong with the others, by field key."""
    faults = _store_as_wished(profile, form, kept)
    for key, files in form.uploads(profile).items():
        for first in range(0, len(files), FILES_AT_ONCE):
            uploads = [upload_of(profile, form, key, file) for file in files[first : first + FILES_AT_ONCE]]
            left_out: dict[str, list[str]] = {}
            try:
                kept[key] += [one.id for one in store(uploads, left_out)]
            except InvalidInput as error:  # the provider does not take them
                left_out = {key: list(error.errors.values())}
            for said in left_out.values():
                faults.setdefault(key, []).extend(said)
    return faults


def upload_of(profile: Profile, form: RunForm, key: str, file: Any) -> documents.Upload:
    """A file as it came for the document field of this key."""
    field: Any = profile.field(key)
    as_file = field.allow_file and bool(form[as_file_key(field)].data)
    return documents.Upload(key, file.filename, file.stream, allow_file=field.allow_file, as_file=as_file)


def store(uploads: list[documents.Upload], left_out: dict[str, list[str]] | None = None) -> list[Document]:
    """Store documents of the signed-in user; see `documents.add_documents`."""
    return documents.add_documents(
        db.session(), parts().storage, parts().pdf, parts().files, user_id=current_user.id, uploads=uploads,
        max_bytes=parts().settings.max_upload_mb * 2**20, left_out=left_out,
    )  # fmt: skip


@dataclass(frozen=True)
class StoredFile:
    """One of several files: its document, or what is wrong with it."""

    name: str
    document: Document | None
    fault: str | None


def store_each(files: list[documents.Upload]) -> list[StoredFile]:
    """Store those that can be used; says of each what became of it."""
    faults: dict[str, list[str]] = {}
    # Faults are told by field: here each file is one.
    numbered = [replace(file, field=str(number)) for number, file in enumerate(files)]
    try:
        stored = iter(store(numbered, faults))
    except InvalidInput as error:  # the provider took one of them not, so none is stored
        [why] = error.errors.values()
        faults = {file.field: faults.get(file.field, [why]) for file in numbered}
        stored = iter(())
    names = [documents.shown_name(file.filename) for file in files]
    return [
        StoredFile(name, None, " ".join(faults[file.field]).removeprefix(f"{name}: "))
        if file.field in faults else StoredFile(name, next(stored), None)
        for name, file in zip(names, numbered, strict=True)
    ]  # fmt: skip


def _store_as_wished(profile: Profile, form: RunForm, kept: dict[str, list[int]]) -> dict[str, list[str]]:
    """Store those once more whose box "Send the file itself" was changed after they were stored.

    Changes `kept`; returns, by field key, what is wrong with those that cannot be had that way: they are taken out.
    """
    session = db.session()
    faults: dict[str, list[str]] = {}
    for field in profile.document_fields:
        if not field.allow_file or not kept[field.key]:
            continue
        as_file = bool(form[as_file_key(field)].data)
        found = documents.documents_of(session, current_user.id, kept[field.key])
        others = [(one.id, one.filename, one.storage_key) for one in found.values()
                  if bool(one.provider_file_id) != as_file]  # fmt: skip
        session.rollback()
        for old_id, filename, storage_key in others:
            place = kept[field.key].index(old_id)
            try:
                with parts().storage.open(storage_key) as stream:
                    [new] = store([documents.Upload(field.key, filename, stream, allow_file=True, as_file=as_file)])
                kept[field.key][place] = new.id
            except InvalidInput as error:
                faults.setdefault(field.key, []).extend(error.errors.values())
                del kept[field.key][place]
            except FileNotFoundError:
                faults.setdefault(field.key, []).append(f"{filename} is not in the store any more: choose it again.")
                del kept[field.key][place]
    return faults
