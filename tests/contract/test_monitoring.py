"""What the docs, the dashboard and the alerts say of figures and logs is what there is."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session

from tests.factories import make_job, make_queued_jobs, make_user
from webapp.config import ROOT
from webapp.parts import Parts
from webapp.services import dispatch, heartbeat

MONITORING, RUNBOOK = (ROOT / "docs/monitoring.md").read_text(), (ROOT / "docs/runbook.md").read_text()
ALERTS = (ROOT / "terraform/alerts.tf").read_text()
DASHBOARD = json.loads((ROOT / "deploy/dashboards/sluice.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
# Also while there is nothing that they could tell of.
SUFFIX = re.compile(r"_(?:bucket|count|sum|created)$")


@pytest.fixture
def exported(internal: FlaskClient, session: Session, parts: Parts) -> dict[str, set[str]]:
    """{metric: its labels} of a system that has something to tell of."""
    user = make_user(session)
    make_queued_jobs(session, parts, user, 1)
    job = make_job(session, parts, user)
    dispatch.dispatch_due(session, parts.settings, parts.profiles, parts.n8n)
    internal.post(f"/api/internal/jobs/{job.id}/start", json={"attempt": 1, "executionId": "7"})
    body: dict[str, Any] = {
        "id": "resp_1", "status": "completed", "model": "gpt-6-luna", "usage": {"input_tokens": 9, "output_tokens": 9},
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "- Yes."}]}],
    }  # fmt: skip
    result = {"attempt": 1, "executionId": "7", "statusCode": 200, "headers": {}, "body": body, "elapsedMs": 1}
    assert internal.post(f"/api/internal/jobs/{job.id}/result", json=result).json == {"outcome": "completed"}
    heartbeat.tick(session, parts, heartbeat.Beat())
    page = internal.get("/metrics").get_data(as_text=True)
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {
        SUFFIX.sub("", sample.name): set(sample.labels) - {"le"}
        for sample in samples
        if not sample.name.endswith("_created")
    }


def test_the_page_names_every_metric_and_no_other(exported: dict[str, set[str]]) -> None:
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", MONITORING, re.MULTILINE)
    named = {f"sluice_{name}" for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(exported)


def test_the_dashboard_shows_metrics_that_exist_by_labels_that_exist(exported: dict[str, set[str]]) -> None:
    for expression in EXPRESSIONS:
        [metric] = {SUFFIX.sub("", name) for name in re.findall(r"sluice_\w+", expression)}
        assert metric in exported, expression
        by = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
        assert by - {"le"} <= exported[metric], expression


def test_the_dashboard_shows_every_metric(exported: dict[str, set[str]]) -> None:
    shown = {SUFFIX.sub("", name) for expression in EXPRESSIONS for name in re.findall(r"sluice_\w+", expression)}
    assert shown == set(exported)


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_below, (one, other)


def test_the_runbook_has_a_section_for_each_alert() -> None:
    alerts = re.findall(r"^    ([a-z-]+) = \{\n +says", ALERTS, re.MULTILINE)
    alerts += [name.replace("_", "-") for name in re.findall(r'azurerm_monitor_metric_alert" "(\w+)"', ALERTS)]
    assert len(alerts) == 4
    assert set(alerts) <= set(re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE))


def test_the_runbook_links_to_sections_that_it_has() -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors


@pytest.mark.parametrize("query", re.findall(r"```sql\n(.*?)```", RUNBOOK, re.DOTALL))
def test_the_runbook_s_queries_run(session: Session, query: str) -> None:
    for statement in filter(str.strip, query.split(";")):
        found = session.connection().exec_driver_sql(statement)
        assert found.returns_rows, f"a runbook looks and changes nothing: {statement}"


def test_the_alerts_read_what_the_heartbeat_logs(
    session: Session, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "webapp.services.vitals")
    heartbeat.tick(session, parts, heartbeat.Beat())
    [line] = [record for record in caplog.records if record.getMessage() == "vitals"]
    read = set(re.findall(r"line\.(\w+)", ALERTS)) - {"event"}
    assert read == {"queue_age_seconds", "windows_failed"}
    assert read <= vars(line).keys()
    assert 'line.event) == "vitals"' in ALERTS
