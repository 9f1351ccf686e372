"""Eight faults of the catalogue (`make faults` does them all), one after another on a system of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.catalogue import CATALOGUE
from faults.harness import Harness, harness

pytestmark = pytest.mark.e2e

FAULTS = {
    "the answer to create is lost": "create/done/cut",
    "create never arrives at the provider": "create/before/cut",
    "n8n dies when the provider has made the batch": "create/done/kill-n8n",
    "n8n dies with a paid answer in its hands": "ask/done/kill-n8n",
    "the internal API dies before it settles": "download/after/kill-internal",
    "PostgreSQL dies while an answer is written back": "write-back/during/kill-postgres",
    "the provider dies in the middle of everything": "poll/during/kill-provider",
    "the web app dies while it hands out jobs": "dispatch/done/kill-web",
}


@pytest.fixture(scope="module")
def system() -> Iterator[Harness]:
    with harness(seed=8) as system:
        yield system


@pytest.mark.parametrize("name", FAULTS.values(), ids=FAULTS)
def test_nothing_is_lost_stuck_or_paid_twice_when(system: Harness, name: str) -> None:
    entry = system.run(CATALOGUE[name])
    assert entry.has_fired
    assert not entry.defects, entry.line()
