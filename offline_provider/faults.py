"""The faults that are switched on, in the database and in memory, and how often each has struck.

A strike is taken in memory at once, so that two threads cannot take the last one together, and written with
the work it belongs to. A kind of the scopes `batch` and `file` strikes a target once and then holds it.

Nothing here may be asked from inside `db.write()`, except `Strikes.record`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from sqlite3 import Connection
from threading import Lock

from .db import Database
from .fault_kinds import NewFault
from .fault_matching import matches


@dataclass
class Fault:
    id: int
    kind: str
    times: int | None
    match: dict
    parameters: dict
    struck: int = 0
    targets: set[str] = field(default_factory=set)

    def __getitem__(self, parameter: str):
        return self.parameters[parameter]

    @property
    def is_active(self) -> bool:
        """Whether it may strike again. One that holds its targets does so all the same."""
        return self.times is None or self.struck < self.times

    def fits(self, facts: dict) -> bool:
        every = self.parameters.get("every", 1)
        return (every == 1 or facts["line"] % every == 0) and matches(self.match, facts)

    def as_object(self) -> dict:
        return {
            "id": self.id,
            "kind": self.kind,
            "times": self.times,
            "struck": self.struck,
            "active": self.is_active,
            "match": self.match,
            **self.parameters,
        }


class Faults:
    def __init__(self, db: Database):
        self._db = db
        self._lock = Lock()
        self._faults = [_from_row(row) for row in db.all("SELECT * FROM faults ORDER BY id")]
        for row in db.all("SELECT fault_id, target FROM fault_targets"):
            next(fault for fault in self._faults if fault.id == row["fault_id"]).targets.add(row["target"])

    def all(self) -> list[Fault]:
        with self._lock:
            return list(self._faults)

    def add(self, new: NewFault) -> Fault:
        with self._lock:
            with self._db.write() as connection:
                fault = _insert(connection, new)
            self._faults.append(fault)
            return fault

    def replace(self, new: list[NewFault]) -> None:
        """All that were there are gone, with what they held."""
        with self._lock:
            with self._db.write() as connection:
                connection.execute("DELETE FROM faults")
                added = [_insert(connection, each) for each in new]
            self._faults = added

    def remove(self, fault_id: int) -> bool:
        with self._lock:
            left = [fault for fault in self._faults if fault.id != fault_id]
            if len(left) == len(self._faults):
                return False
            with self._db.write() as connection:
                connection.execute("DELETE FROM faults WHERE id = ?", (fault_id,))
            self._faults = left
            return True

    def strike(self, kind: str, facts: dict) -> Fault | None:
        """The first fault of this kind that fits strikes, and that is written at once."""
        with self.strikes() as strikes:
            fault = strikes.take(kind, facts)
            if fault:
                with self._db.write() as connection:
                    strikes.record(connection)
        return fault

    @contextmanager
    def strikes(self) -> Iterator["Strikes"]:
        """Strikes that count once they are recorded. If the block raises, they never were."""
        strikes = Strikes(self)
        try:
            yield strikes
        except BaseException:
            with self._lock:
                for fault in strikes.taken:
                    fault.struck -= 1
            raise

    def take(self, kind: str, facts: dict) -> Fault | None:
        """For `Strikes`."""
        with self._lock:
            for fault in self._faults:
                if fault.kind == kind and fault.is_active and fault.fits(facts):
                    fault.struck += 1
                    return fault
        return None

    def look(self, kind: str, target: str, facts: dict) -> Fault | None:
        """The one that `hold` would return. Nothing is struck."""
        return next((fault for fault in self.all() if fault.kind == kind and fault.fits(facts)
                     and (fault.is_active or target in fault.targets)), None)  # fmt: skip

    def hold(self, kind: str, target: str, facts: dict) -> Fault | None:
        """The first fault of this kind that holds the target, or now begins to."""
        return next(self.holding(kind, target, facts), None)

    def holding(self, kind: str, target: str, facts: dict) -> Iterator[Fault]:
        """Every fault of this kind that holds the target, or now begins to."""
        for fault in self.all():
            if fault.kind == kind and fault.fits(facts) and self._holds(fault, target):
                yield fault

    def _holds(self, fault: Fault, target: str) -> bool:
        with self._lock:
            if target not in fault.targets:
                if not fault.is_active or fault not in self._faults:
                    return False
                with self._db.write() as connection:
                    connection.execute("INSERT INTO fault_targets VALUES (?, ?)", (fault.id, target))
                    connection.execute("UPDATE faults SET struck = struck + 1 WHERE id = ?", (fault.id,))
                fault.targets.add(target)
                fault.struck += 1
            return True


class Strikes:
    """The strikes of one piece of work."""

    def __init__(self, faults: Faults):
        self._faults = faults
        self.taken: list[Fault] = []

    def take(self, kind: str, facts: dict) -> Fault | None:
        """The first fault of this kind that fits and may strike again."""
        fault = self._faults.take(kind, facts)
        if fault:
            self.taken.append(fault)
        return fault

    def record(self, connection: Connection) -> None:
        """In the transaction of the work itself."""
        ids = [(fault.id,) for fault in self.taken]
        connection.executemany("UPDATE faults SET struck = struck + 1 WHERE id = ?", ids)


def _insert(connection: Connection, new: NewFault) -> Fault:
    row = connection.execute(
        "INSERT INTO faults (kind, times, match, parameters) VALUES (?, ?, ?, ?) RETURNING id",
        (new.kind, new.times, json.dumps(new.match), json.dumps(new.parameters)),
    ).fetchone()
    return Fault(row["id"], new.kind, new.times, new.match, new.parameters)


def _from_row(row) -> Fault:
    match, parameters = json.loads(row["match"]), json.loads(row["parameters"])
    return Fault(row["id"], row["kind"], row["times"], match, parameters, row["struck"])
