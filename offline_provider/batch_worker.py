"""The thread that advances batches. It sleeps until a step is due or something has happened."""

import fcntl
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Row

from . import clock
from .batch_steps import BatchSteps
from .batch_store import BatchStore

log = logging.getLogger(__name__)

CHORES_SECONDS = 60
RETRY_SECONDS = 5


class BatchWorker:
    def __init__(self, steps: BatchSteps, store: BatchStore, chores: Callable[[], None], lock_path: Path):
        self._steps = steps
        self._store = store
        self._chores = chores  # deleting what has expired
        self._chores_due = 0.0
        self._lock_path = lock_path
        self._not_before: dict[str, float] = {}  # batch id → when to try again after a fault
        self._changed = threading.Condition()
        self._was_woken = False
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="batch-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def wake(self) -> None:
        """Something has changed: a batch is new or cancelled, a fault is gone, the clock was moved."""
        with self._changed:
            self._was_woken = True
            self._changed.notify()

    def stop(self, timeout: float) -> None:
        """Ends after the present step. A step that is cut off is done again at the next start."""
        self._is_stopping = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        with _exclusive(self._lock_path):
            while not self._is_stopping:
                try:
                    self._sleep_until(self._advance_all())
                except Exception:  # a full disk must not end the thread for good
                    log.exception("the batch worker failed; it goes on in %s s", RETRY_SECONDS)
                    self._sleep_until(clock.now() + RETRY_SECONDS)

    def _advance_all(self) -> float:
        """One step for each unfinished batch. Returns when the next step of any is due."""
        if not _is_soon(self._chores_due, CHORES_SECONDS):
            self._chores()
            self._chores_due = clock.now() + CHORES_SECONDS
        due = self._chores_due
        for batch in self._store.unfinished():
            if self._is_stopping:
                break
            due = min(due, self._advance(batch))
        return due

    def _advance(self, batch: Row) -> float:
        not_before = self._not_before.get(batch["id"], 0)
        if _is_soon(not_before, RETRY_SECONDS):
            return not_before
        try:
            return self._steps.advance(batch)
        except Exception:
            log.exception("batch %s failed; it is tried again in %s s", batch["id"], RETRY_SECONDS)
            self._not_before[batch["id"]] = clock.now() + RETRY_SECONDS
            return self._not_before[batch["id"]]

    def _sleep_until(self, due: float) -> None:
        with self._changed:
            if not self._was_woken and not self._is_stopping:
                self._changed.wait(max(0.0, due - clock.now()))
            self._was_woken = False


def _is_soon(moment: float, seconds: float) -> bool:
    """Ahead of now, by no more than so many seconds: otherwise it is due, or was set by a clock since put back."""
    return 0 < moment - clock.now() <= seconds


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Only one process works on a data folder. A second one waits here; the system frees the lock of
    a process that has died."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
