"""What other window policies would cost and how long jobs would wait: the page of `flask simulate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from werkzeug.datastructures import MultiDict
from wtforms import BooleanField, SelectChoice, SelectField, SelectMultipleField, StringField, widgets

from webapp.domain.errors import InvalidInput
from webapp.domain.states import BatchStrategy
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import simulation
from webapp.services.simulation import Report
from webapp.views.access import require_admin

bp = Blueprint("simulation", __name__, url_prefix="/admin/simulate")
bp.before_request(require_admin)

MOST_ARRIVALS = 10_000  # a page has to be quick; the command takes more
STRATEGIES = {
    BatchStrategy.COUNT_OR_WAIT: "Count or wait", BatchStrategy.COUNT_ONLY: "Count only",
    BatchStrategy.DEADLINE: "Deadline",
}  # fmt: skip
RECORDED = ("every_job", "since", "until")
GENERATED = ("rate", "hours", "pattern", "seed", "input_tokens", "output_tokens")
DEFAULTS: dict[str, str | list[str]] = {
    "rate": "30", "hours": "24", "pattern": "constant", "seed": "1", "input_tokens": "3000", "output_tokens": "500",
    "sizes": "10, 20, 50", "waits": "600, 3600", "strategies": [str(strategy) for strategy in STRATEGIES],
    "need_by_hours": "24",
}  # fmt: skip


def _number(step: str = "1", least: str = "1") -> widgets.NumberInput:
    return widgets.NumberInput(step=step, min=least)


class SimulationForm(FlaskForm):
    """All of it is checked by `simulation.read_wish`; a GET changes nothing, so it needs no token."""

    class Meta:
        csrf = False

    profile = SelectField("Arrivals", validate_choice=False)
    every_job = BooleanField("Jobs that ran now, too", description="What if they had waited?")
    since = StringField("Since", widget=widgets.DateTimeLocalInput(), description="Default: a week before the end.")
    until = StringField("Until", widget=widgets.DateTimeLocalInput(), description="Default: now.")
    rate = StringField("Jobs an hour", widget=_number("any", "0"))
    hours = StringField("Hours", widget=_number("any", "0"))
    pattern = SelectField(
        "Pattern", validate_choice=False, description="Office: a tenth of it at night and at weekends.",
        choices=[SelectChoice("constant", "Constant"), SelectChoice("office", "Office hours")],
    )  # fmt: skip
    seed = StringField("Seed", widget=_number(least="0"))
    input_tokens = StringField("Input tokens of a job", widget=_number(least="0"))
    output_tokens = StringField("Output tokens of a job", widget=_number(least="0"))
    sizes = StringField("Jobs in a full window", description="maxBatchSize; several with commas.")
    waits = StringField("Longest waits in seconds", description="maxWaitSeconds; several with commas.")
    strategies = SelectMultipleField(
        "Strategies", choices=[SelectChoice(value, label) for value, label in STRATEGIES.items()],
        validate_choice=False, option_widget=widgets.CheckboxInput(), widget=widgets.ListWidget(prefix_label=False),
    )  # fmt: skip
    need_by_hours = StringField(
        "Needed within hours", widget=_number("any", "0"), description="Of jobs that do not say by when."
    )
    turnaround = StringField(
        "Turnaround in seconds", widget=_number(),
        description="From the opening of a window to its answers. Default: as recorded.",
    )  # fmt: skip


@bp.get("")
def index() -> ResponseReturnValue:
    values = request.args or MultiDict(DEFAULTS | {"profile": simulation.likely_profile(db.session()) or ""})
    form = SimulationForm(formdata=values)
    form.profile.choices = [
        SelectChoice("", "Generated"),
        *(SelectChoice(profile.id, f"Recorded: {profile.name}") for profile in parts().profiles),
    ]
    report, errors = None, []
    try:
        report = _run(values)
    except InvalidInput as error:
        errors = _show(error.errors, form)
    page = render_template(
        "admin/simulate.html", form=form, report=report, errors=errors, strategies=STRATEGIES, most=MOST_ARRIVALS,
        query=dict(values.lists()), generated=DEFAULTS | {"profile": ""}, groups=(RECORDED, GENERATED),
    )  # fmt: skip
    return page, 200 if report else 422


@bp.get("/chart.json")
def chart() -> ResponseReturnValue:
    return jsonify(_chart(_run(request.args)))


def _run(values: MultiDict[str, Any]) -> Report:
    """Raises InvalidInput."""
    given: dict[str, Any] = {name: values.get(name) for name in SimulationForm(formdata=None)._fields}
    given["strategies"] = values.getlist("strategies")
    for name in GENERATED if given["profile"] else RECORDED:
        given.pop(name)
    if not given["profile"] and not given["rate"]:
        raise InvalidInput({"rate": "Generated arrivals need a rate."})
    settings = parts().settings
    wish = simulation.read_wish(given, settings.zone, most=MOST_ARRIVALS)
    return simulation.run(db.session(), settings, parts().prices, wish, most=MOST_ARRIVALS)


def _show(errors: Mapping[str, str], form: SimulationForm) -> list[str]:
    """Put each message on its field; returns those that belong to none."""
    for name, message in errors.items():
        if name in form:
            form[name].errors = [message]
    return [message for name, message in errors.items() if name not in form]


def _chart(report: Report) -> dict[str, Any]:
    """Cost against waiting time, a series for each strategy; the shape that charts.js draws."""
    series = []
    for strategy, label in [(None, "All now"), *STRATEGIES.items()]:
        rows = [row for row in report.outcomes if (row.policy and row.policy.strategy) == strategy]
        if rows:
            cost = [None if row.cost is None else float(row.cost) for row in rows]
            series.append({"label": label, "x": [row.mean_wait / 60 for row in rows], "values": cost})
    return {
        "title": "Cost against waiting time", "unit": "USD", "kind": "points", "series": series,
        "x": {"type": "number", "label": "Mean wait for the window", "unit": "min", "values": []},
    }  # fmt: skip
