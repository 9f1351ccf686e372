"""`flask simulate`: its options, and its answer as a table or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import click

from webapp.domain.errors import InvalidInput
from webapp.domain.simulation import Outcome, Policy
from webapp.domain.states import BatchStrategy
from webapp.extensions import db
from webapp.parts import parts
from webapp.services import simulation
from webapp.services.simulation import Report
from webapp.views.pages import duration, usd

HEAD = (
    "  policy", "cost", "saved", "mean wait", "95 %", "longest", "mean answer", "95 %", "windows", "cut off",
    "jobs each", "never opened", "ran now", "late",
)  # fmt: skip
LEGEND = "* no other costs less and waits less.  >= some wait still: they count with their wait so far, as batch."


@click.command("simulate")
@click.option("--profile", help="Its batch jobs of the period, as they were recorded.")
@click.option("--queue", help="The same for one queue, by its id.")
@click.option("--all", "every_job", is_flag=True, help="Jobs that ran now, too: what if they had waited?")
@click.option("--since", help="Default: a week before --until.")
@click.option("--until", help="Default: now.")
@click.option("--rate", help="Generated arrivals instead: so many jobs an hour.")
@click.option("--hours", help="… for so long. Default: 24.")
@click.option("--seed", help="… the same seed, the same arrivals. Default: 1.")
@click.option("--pattern", help="… constant (default), or office: a tenth at night and at weekends.")
@click.option("--input-tokens", help="… of each job. Default: 3000.")
@click.option("--output-tokens", help="… of each job. Default: 500.")
@click.option("--sizes", help="maxBatchSize, several with commas. Default: 10,20,50.")
@click.option("--waits", help="maxWaitSeconds, several with commas. Default: 600,3600.")
@click.option("--strategies", help="Default: count_or_wait,count_only,deadline.")
@click.option("--turnaround", help="Seconds from the opening of a window to its answers. Default: as recorded.")
@click.option("--need-by-hours", help="When jobs are needed that do not say so. Default: 24.")
@click.option("--json", "as_json", is_flag=True, help="Seconds and USD, for programs.")
def simulate(as_json: bool, **values: Any) -> None:
    """Replay arrivals under several window policies: cost against waiting time."""
    try:
        wish = simulation.read_wish(values, parts().settings.zone)
        report = simulation.run(db.session(), parts().settings, parts().prices, wish)
    except InvalidInput as error:
        faults = (f"--{key.replace('_', '-')}: {text}" if key else text for key, text in error.errors.items())
        raise click.UsageError("\n".join(faults)) from error
    click.echo(json.dumps(_plain(report), indent=2) if as_json else _table(report))


def _plain(report: Report) -> dict[str, Any]:
    """Seconds, USD as text; the policy of all-now is null."""

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, Decimal) else round(value, 3) if isinstance(value, float) else value

    rows = [{name: plain(value) for name, value in asdict(outcome).items()} for outcome in report.outcomes]
    return {"notes": report.notes, "outcomes": rows}


def _table(report: Report) -> str:
    if not report.outcomes:
        return "\n".join(["No such job arrived.", *report.notes])
    first, *others = zip(HEAD, *(_cells(outcome) for outcome in report.outcomes), strict=True)
    columns = [[cell.ljust(max(map(len, first))) for cell in first]]
    columns += [[cell.rjust(max(map(len, column))) for cell in column] for column in others]
    lines = ["  ".join(cells) for cells in zip(*columns, strict=True)]
    return "\n".join([*lines, "", LEGEND, *report.notes])


def _cells(row: Outcome) -> tuple[str, ...]:
    at_least = ">= " if row.still_waiting else ""
    return (
        ("* " if row.is_best else "  ") + _name(row.policy), usd(row.cost, 4),
        usd(row.saved, 4) if row.policy else "–", at_least + _span(row.mean_wait), _span(row.p95_wait),
        _span(row.longest_wait), _span(row.mean_answer), _span(row.p95_answer), f"{row.windows:,}",
        f"{row.cut_off:,}", f"{row.jobs_per_window:.1f}" if row.jobs_per_window else "–",
        *(f"{count:,}" for count in (row.still_waiting, row.ran_now, row.late)),
    )  # fmt: skip


def _name(policy: Policy | None) -> str:
    if policy is None:
        return "all now"
    wait = "" if policy.strategy is BatchStrategy.COUNT_ONLY else f", {policy.max_wait_seconds} s"
    return f"{policy.strategy} {policy.size}{wait}"


def _span(seconds: float | None) -> str:
    return duration(None if seconds is None else timedelta(seconds=seconds))
