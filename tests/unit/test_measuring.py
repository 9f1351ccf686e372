"""What the measuring scripts in bench/ work out of what they saw."""

from __future__ import annotations

from typing import Any

import pytest

from bench.end_to_end import Outcome, differences, right_answer, seconds_of_steps, text_of, wrong_answers
from bench.soak import Asked, growth_of, poll_address, quantile, slowdown


def outcome(number: int, /, **changes: Any) -> Outcome:
    schema = {"type": "object", "properties": {"reason": {"type": "string"}}, "required": ["reason"],
              "additionalProperties": False}  # fmt: skip
    form = {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": schema}}
    body = {"model": "gpt-6-luna", "input": text_of(number), "text": form}
    good = {"number": number, "status": "completed", "attempt": 1, "ends": 1, "said": right_answer(body), "body": body}
    return Outcome(**{**good, **changes})


def test_answers_to_the_own_texts_are_right() -> None:
    assert list(wrong_answers(map(outcome, range(3)), 3)) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([outcome(0), outcome(1)], "job 2 is missing"),
        ([outcome(0), outcome(1), outcome(1), outcome(2)], "a job that nobody asked for, or twice: 1"),
        ([outcome(0), outcome(1, said=outcome(2).said), outcome(2)], "job 1 has the answer"),
        ([outcome(0), outcome(1, body=outcome(2).body), outcome(2)], "job 1 asked for something else"),
        ([outcome(0), outcome(1, ends=2), outcome(2)], "job 1 is completed, attempt 1, with 2 ends"),
        ([outcome(0), outcome(1, status="failed", said=None), outcome(2)], "job 1 is failed"),
        ([outcome(0), outcome(1, number=None), outcome(2)], "a job that nobody asked for, or twice: None"),
    ],
)
def test_a_wrong_answer_is_named(found: list[Outcome], said: str) -> None:
    assert any(said in fault for fault in wrong_answers(found, 3))


def test_the_ledger_and_the_log_differ_by_what_one_has_alone_or_twice() -> None:
    both, dear, alone = ("resp_1", 10, 0, 5), ("resp_1", 11, 0, 5), ("resp_2", 10, 0, 5)
    assert list(differences([both, alone], [both, alone])) == []
    assert list(differences([dear], [both])) == [f"only in the ledger: {dear}", f"only in the provider's log: {both}"]
    assert list(differences([both, both], [both])) == ["the ledger has an answer twice"]


def test_the_seconds_of_a_step_are_those_of_its_calls() -> None:
    route = '"route": "/api/internal/batches/open"'
    log = f'no JSON\n{{{route}, "duration_ms": 1500.0}}\n{{"event": "x"}}\n{{{route}, "duration_ms": 500}}\n'
    assert seconds_of_steps(log)["claim"] == 2.0


def test_growth_is_the_slope_after_the_start() -> None:
    sizes = [300, 100, 102, 104, 106]  # MB, at minutes 0 to 4
    samples = [{"minute": minute, "memory": {"n8n": size}} for minute, size in enumerate(sizes)]
    [growth] = growth_of(samples, settled=1)
    assert (growth.first, growth.last, growth.most, growth.per_minute) == (300, 106, 300, 2.0)


def test_one_collection_is_no_slope() -> None:
    samples = [{"minute": minute, "memory": {"n8n": 500 - 100 * (minute == 3) + minute}} for minute in range(20)]
    assert [one.per_minute for one in growth_of(samples, settled=1)] == [1.0]


def test_slowdown_compares_the_settled_minutes_with_the_last_ones() -> None:
    def asked(minute: float, ms: float) -> list[Asked]:
        return [Asked(minute * 60, "a page", ms, None)] * 20

    seen = [*asked(1, 900), *asked(6, 10), *asked(15, 500), *asked(28, 30)]
    assert slowdown(seen, minutes=30, settled=5, span=5) == (10, 30)


def test_quantiles_lie_among_the_values() -> None:
    assert (quantile([], 95), quantile([7], 95), quantile(range(101), 95)) == (0, 7, 95)


def test_a_page_asks_for_what_its_part_says_last() -> None:
    part = '<div id="job-1" data-poll hx-get="/jobs/1/status?seen=queued-1-2&amp;said=ab" hx-trigger="every 5s">'
    assert poll_address(part) == "/jobs/1/status?seen=queued-1-2&said=ab"
    assert poll_address('<div id="job-1"><a hx-get="/jobs">') is None
