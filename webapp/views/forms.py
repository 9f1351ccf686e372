"""HTML forms. The profile's fields draw the run form; checking the values is the profile's own business
(`Profile.validate_inputs`), the same for this form and for the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import request
from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    EmailField,
    Field,
    FileField,
    HiddenField,
    MultipleFileField,
    PasswordField,
    SelectChoice,
    SelectField,
    SelectMultipleField,
    StringField,
    SubmitField,
    TextAreaField,
    widgets,
)

from webapp.domain import fields
from webapp.domain.errors import InvalidInput
from webapp.domain.profiles import RESERVED_KEYS, Profile
from webapp.parts import parts

ROWS_KEY = "rows-file"  # the file of rows; no field of a profile has such a key
ROWS_HELP = "CSV with the fields in its first line, or JSONL with an object in each. Each row becomes a job."


class LoginForm(FlaskForm):
    email = EmailField("E-mail", render_kw={"autocomplete": "username", "required": True})
    password = PasswordField("Password", render_kw={"autocomplete": "current-password", "required": True})
    next = HiddenField()
    submit = SubmitField("Log in")


class RegisterForm(FlaskForm):
    email = EmailField("E-mail", render_kw={"autocomplete": "username", "required": True})
    password = PasswordField(
        "Password", description="At least 10 characters.",
        render_kw={"autocomplete": "new-password", "required": True, "minlength": 10},
    )  # fmt: skip
    submit = SubmitField("Create the account")


class PasswordForm(FlaskForm):
    old = PasswordField("Present password", render_kw={"autocomplete": "current-password", "required": True})
    new = PasswordField(
        "New password", description="At least 10 characters. Everywhere else you are signed out.",
        render_kw={"autocomplete": "new-password", "required": True, "minlength": 10},
    )  # fmt: skip


class RunForm(FlaskForm):
    """Base of the forms that `run_form` draws from a profile."""

    def values(self, profile: Profile) -> dict[str, Any]:
        """What was filled in, by field key; an empty field is left out, so that its default holds."""
        return {field.key: value for field in profile.fields if (value := _value(self[field.key])) not in (None, "")}

    def uploads(self, profile: Profile) -> dict[str, list[Any]]:
        """The files that were chosen, by field key."""
        return {
            field.key: [file for file in self[field.key].data or [] if getattr(file, "filename", "")]
            for field in profile.document_fields
        }

    def kept(self, profile: Profile) -> dict[str, list[int]]:
        """The documents that were stored already, for an estimate, by field key."""
        return {field.key: ids_in_form(kept_key(field)) for field in profile.document_fields}

    @property
    def is_for_rows(self) -> bool:
        """Does it make a run of each row of a file? What is filled in then holds for rows that do not say."""
        return ROWS_KEY in self._fields

    @property
    def rows_file(self) -> Any:
        """The upload. Raises InvalidInput when none was chosen."""
        file = self[ROWS_KEY].data
        if not getattr(file, "filename", ""):
            raise InvalidInput({ROWS_KEY: "Choose a CSV or JSONL file."})
        return file

    def show_errors(self, errors: Mapping[str, str]) -> list[str]:
        """Put each message on its field; returns those that belong to no field."""
        for key, message in errors.items():
            if key in self._fields:
                self[key].errors = [message]
        return [message for key, message in errors.items() if key not in self._fields]


def run_form(profile: Profile, values: Mapping[str, Any] | None = None, *, for_rows: bool = False) -> RunForm:
    """The form of a profile, filled with `values` (default: the fields' defaults); `for_rows`, with a file of rows."""
    drawn = {field.key: _draw(field) for field in profile.fields}
    drawn |= {
        as_file_key(field): BooleanField("Send the file itself", description="For scans: the model reads the pages.")
        for field in profile.document_fields
        if field.allow_file
    }
    if for_rows:
        limits = {"accept": ".csv,.jsonl,.ndjson", "data-max-bytes": parts().settings.max_upload_mb * 2**20}
        drawn[ROWS_KEY] = FileField("File of rows", description=ROWS_HELP, render_kw=limits)
    form: RunForm = type("ProfileForm", (RunForm,), drawn)(data=values)
    for field in profile.fields:
        form[field.key].flags.required = field.required and (not for_rows or field.key in RESERVED_KEYS)
    return form


def as_file_key(field: fields.DocumentField) -> str:
    """The name of the box beside a document field; not a field of the profile."""
    return f"{field.key}-as-file"


def kept_key(field: fields.DocumentField) -> str:
    """The name of the boxes of stored documents; not a field of the profile."""
    return f"{field.key}-kept"


def ids_in_form(name: str) -> list[int]:
    """The ids under this name, each once; what cannot be one is left out."""
    return [id_ for id_ in dict.fromkeys(request.form.getlist(name, type=int)) if 0 < id_ < 2**63]


def _value(field: Field) -> Any:
    if isinstance(field, MultipleFileField):
        return None
    if isinstance(field.widget, widgets.DateTimeLocalInput) and field.data:
        try:
            return datetime.fromisoformat(field.data).replace(tzinfo=parts().settings.zone)
        except ValueError:
            return field.data
    return field.data


def _draw(field: Any) -> Any:
    common = {
        "label": field.title, "description": field.help, "default": field.default,
        "render_kw": {},
    }  # fmt: skip
    html: dict[str, Any] = common["render_kw"]
    match field:
        case fields.TextField():
            html |= {"maxlength": field.max_length, "placeholder": field.placeholder}
            if field.type == "text":
                return StringField(**common)
            html["rows"] = 8
            return TextAreaField(**common)
        case fields.IntegerField() | fields.NumberField():
            step = "1" if field.type == "integer" else "any"
            return StringField(**common, widget=widgets.NumberInput(step=step, min=field.min, max=field.max))
        case fields.BooleanField():
            return BooleanField(**common)
        case fields.SelectField():
            choices = [SelectChoice(option.value, option.label) for option in field.options]
            if not field.required and field.default is None:
                choices.insert(0, SelectChoice("", "–"))
            return SelectField(**common, choices=choices, validate_choice=False)
        case fields.MultiselectField():
            choices = [SelectChoice(option.value, option.label) for option in field.options]
            common["default"] = list(field.default)
            return SelectMultipleField(
                **common, choices=choices, validate_choice=False, option_widget=widgets.CheckboxInput(),
                widget=widgets.ListWidget(prefix_label=False),
            )  # fmt: skip
        case fields.DatetimeField():
            return StringField(**common, widget=widgets.DateTimeLocalInput())
    # Never `required` in HTML: a stored document will do, and the browser does not know of it.
    html |= {
        "accept": ",".join(field.accept),
        "required": False,
        "data-max-bytes": parts().settings.max_upload_mb * 2**20,
    }
    return MultipleFileField(**common)
