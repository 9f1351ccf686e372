"""A long-lived system, and the four who work on it: load, scene, patience and judge."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence

from faults.catalogue import CATALOGUE, Fault
from faults.judge import Judge
from faults.load import Load
from faults.patience import Patience
from faults.report import Entry
from faults.scene import Scene
from faults.system import LinkedStack, running


class Harness:
    def __init__(self, stack: LinkedStack, seed: int) -> None:
        self.stack = stack
        self.rng = random.Random(seed)  # noqa: S311  (to be repeatable is the point)
        self.load = Load(stack, self.rng)
        self.judge = Judge(stack, self.load)
        self.scene = Scene(stack, self.load, Patience(stack), self.rng)
        self._number = 0

    def run(self, fault: Fault) -> Entry:
        """Do one fault to the system under load, wait for calm, and judge."""
        started = time.monotonic()
        has_fired, outcome = self.scene.play(fault)
        defects = self.judge.verdict(is_calm=outcome.is_calm, said=outcome.said)
        self._number += 1
        return Entry(self._number, fault.name, has_fired, time.monotonic() - started, outcome.moved, defects)


@contextlib.contextmanager
def harness(seed: int) -> Iterator[Harness]:
    """On a system of its own; both end with the block."""
    with running() as stack:
        one = Harness(stack, seed)
        try:
            yield one
        finally:
            one.load.close()


def deal(runs: int, seed: int, only: str = "") -> Sequence[Fault]:
    """So many faults: the catalogue (or what `only` is a part of the name of), shuffled, again and again."""
    rng = random.Random(seed)  # noqa: S311
    deck = [fault for fault in CATALOGUE.values() if only in fault.name]
    dealt: list[Fault] = []
    while deck and len(dealt) < runs:
        dealt += rng.sample(deck, len(deck))
    return dealt[:runs]
