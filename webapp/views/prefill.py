"""A run form filled in as for a job that was run before, and what of that could not be taken over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from webapp.domain import fields
from webapp.domain.profiles import BATCH_STRATEGY, EXECUTION_MODE, NEED_BY, Profile
from webapp.extensions import db
from webapp.models import Job
from webapp.parts import parts
from webapp.services import documents
from webapp.services.clock import clock
from webapp.views.forms import as_file_key

KINDS: dict[type, tuple[type, ...]] = {  # what a field can be filled in with; its limits are the person's to keep to
    fields.TextField: (str,), fields.SelectField: (str,), fields.DatetimeField: (str,), fields.BooleanField: (bool,),
    fields.IntegerField: (int,), fields.NumberField: (int, float), fields.MultiselectField: (list,),
    fields.DocumentField: (int,),
}  # fmt: skip


@dataclass(frozen=True)
class Filled:
    values: dict[str, Any]  # of the form, by field key
    kept: dict[str, list[int]]  # its documents, by field key
    lost: list[str]  # a sentence for each thing that could not be taken over


def fill_in(profile: Profile, job: Job) -> Filled:
    """What `job` was run with, as far as the profile still has it."""
    filled = Filled({}, {}, [])
    given = {
        EXECUTION_MODE: job.execution_mode.value, BATCH_STRATEGY: job.batch_strategy and job.batch_strategy.value,
        NEED_BY: job.need_by and job.need_by.isoformat(), **job.inputs,
    }  # fmt: skip
    labels = {field["key"]: field["label"] or fields.title_of(field["key"])
              for field in job.profile_version.document["fields"]}  # fmt: skip
    for key, value in given.items():
        if value is None:
            continue
        field = profile.field(key)
        if field is None and key in job.inputs:
            filled.lost.append(f"This profile has no field “{labels.get(key, key)}” any more.")
        elif field is not None and type(value) not in KINDS[type(field)]:
            filled.lost.append(f"“{field.title}” takes another kind of value now: fill it in again.")
        elif isinstance(field, fields.DocumentField):
            _keep(filled, field, job, value)
        elif field is not None:
            _set(filled, field, value)
    return filled


def _keep(filled: Filled, field: fields.DocumentField, job: Job, document_id: int) -> None:
    session = db.session()
    document = documents.documents_of(session, job.user_id, [document_id]).get(document_id)
    if document is None:
        name = next((one.filename for one in job.documents if one.id == document_id), "Its document")
        filled.lost.append(f"{name} was deleted after its time: choose it again.")
        return
    filled.kept[field.key] = [document_id]
    if field.allow_file:
        filled.values[as_file_key(field)] = bool(document.provider_file_id)


def _set(filled: Filled, field: Any, value: Any) -> None:
    match field:
        case fields.DatetimeField():
            try:
                moment = datetime.fromisoformat(value).astimezone(parts().settings.zone)
            except (ValueError, OverflowError):  # it was text once, or the first or last day that there is
                filled.lost.append(f"“{field.title}” was “{value[:40]}”: choose a moment.")
                return
            if field.key == NEED_BY and moment <= clock(db.session()):
                filled.lost.append(f"The moment in “{field.title}” has passed: choose another one.")
                return
            value = moment.strftime("%Y-%m-%dT%H:%M")
        case fields.SelectField() if value not in field.values:
            filled.lost.append(f"“{field.title}” has no choice “{value}” any more: look at what is chosen now.")
            return
        case fields.MultiselectField():
            if gone := [one for one in value if one not in field.values]:
                filled.lost.append(f"“{field.title}” has no choice “{', '.join(gone)}” any more.")
            value = [one for one in value if one in field.values]
    filled.values[field.key] = value
