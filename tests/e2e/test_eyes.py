"""What can be seen of the running system: one trace through n8n and back, figures, and the line for the alerts."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devstack.processes import call_json
from devstack.stack import Stack
from tests.conftest import DATA
from tests.people import Person, await_
from webapp.domain import traces

pytestmark = pytest.mark.e2e
JOB_ROUTE, WINDOW_ROUTE = "/api/internal/jobs/<int:job_id>", "/api/internal/batches/<int:window_id>"


def lines(stack: Stack, part: str, **values: Any) -> list[dict[str, Any]]:
    """The part's log lines that have these values."""
    found = [json.loads(line) for line in stack.logs(part).splitlines() if line.startswith("{")]
    return [line for line in found if values.items() <= line.items()]


def trace_id(stack: Stack, kind: str, number: int) -> str | None:
    return traces.trace_id(traces.traceparent(stack.web_url, kind, number))


def test_n8n_hands_the_trace_of_a_job_back(stack: Stack, person: Person) -> None:
    [job_id] = person.run(DATA / "two-pages.pdf", executionMode="sync")
    person.await_status(job_id)
    own = trace_id(stack, "jobs", job_id)
    assert lines(stack, "web", event="dispatched", job_id=job_id, trace_id=own)
    routes = [line["route"] for line in lines(stack, "internal", job_id=job_id, trace_id=own)]
    assert routes == [f"{JOB_ROUTE}/start", f"{JOB_ROUTE}/result"]


def test_n8n_does_each_step_of_a_window_in_its_trace(stack: Stack, person: Person) -> None:
    jobs = person.run(*[DATA / "two-pages.pdf"] * 3, executionMode="batch")
    for job_id in jobs:
        person.await_status(job_id)
    opened = lines(stack, "internal", route="/api/internal/batches/open", status=201)
    window_id = opened[-1]["window_id"]
    own = trace_id(stack, "windows", window_id)
    steps = {line["route"] for line in lines(stack, "internal", window_id=window_id, trace_id=own)}
    assert steps == {f"{WINDOW_ROUTE}/{step}" for step in ("input-file", "answer", "ingest")}


def test_a_call_without_a_trace_is_done_all_the_same(stack: Stack, person: Person) -> None:
    """The old app during an upgrade, or somebody's own caller: n8n has no header to hand back."""
    stack.kill("n8n")
    [job_id] = person.run(DATA / "two-pages.pdf", executionMode="sync")
    stack.kill("heartbeat")
    stack.start_part("n8n")
    own = f"{stack.internal_url}/api/internal/jobs/{job_id}"
    callback = {"start": f"{own}/start", "result": f"{own}/result"}
    payload = {"jobId": job_id, "attempt": 1, "executionMode": "sync", "callback": callback}
    headers = {"X-Sluice-Token": stack.secrets.n8n_webhook_token}
    call_json("POST", f"{stack.n8n.url}/webhook/jobs/run", payload, headers)
    person.await_status(job_id)
    stack.start_part("heartbeat")
    assert len(lines(stack, "internal", job_id=job_id)) == 2
    assert not any("trace_id" in line for line in lines(stack, "internal", job_id=job_id))


def figures(stack: Stack) -> dict[tuple[Any, ...], float]:
    """{(name, (label, value), …): value}"""
    headers = {"X-Internal-Token": stack.secrets.internal_token}
    with urllib.request.urlopen(urllib.request.Request(f"{stack.internal_url}/metrics", headers=headers)) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def test_the_figures_are_those_of_the_running_system(stack: Stack, person: Person) -> None:
    [job_id] = person.run(DATA / "two-pages.pdf", executionMode="sync")
    person.await_status(job_id)
    await_(lambda: figures(stack)[("sluice_heartbeat_age_seconds",)] < 10, "a beat")
    found = figures(stack)
    assert found[("sluice_recent_jobs_ended", ("mode", "sync"), ("outcome", "completed"))] >= 1
    assert found[("sluice_recent_dispatch_seconds", ("quantile", "0.5"))] > 0
    assert found[("sluice_http_requests_total", ("route", f"{JOB_ROUTE}/result"), ("status", "200"))] >= 1


def test_the_leading_heartbeat_tells_its_vitals(stack: Stack) -> None:
    line = await_(lambda: lines(stack, "heartbeat", event="vitals"), "a line of vitals")[-1]
    assert (line["queue_age_seconds"], line["windows_failed"]) == (0, 0)
