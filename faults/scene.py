"""One fault, done to a running system: laid out beforehand, done at its moment, and what it killed started again."""

from __future__ import annotations

import contextlib
import functools
import random
import re
import threading

import httpx2

from devstack.errors import StackError
from devstack.stack import ADMIN_EMAIL
from faults.catalogue import LINKS, STEPS, Fault
from faults.load import Load
from faults.patience import Outcome, Patience
from faults.proxy import Moment, Trap
from faults.system import START_ORDER, LinkedStack

LAST_MOMENT_SECONDS = 5.0  # a random moment comes within so many seconds of the load's start
LONGEST_OUTAGE_SECONDS = 3.0


class Scene:
    """A system under load, and the faults done to it one after another."""

    def __init__(self, stack: LinkedStack, load: Load, patience: Patience, rng: random.Random) -> None:
        self.stack = stack
        self.load = load
        self._patience = patience
        self._rng = rng
        self._killed: set[str] = set()
        self._fired = threading.Event()
        self._is_over = threading.Event()

    def play(self, fault: Fault) -> tuple[bool, Outcome]:
        """Do the fault under load and wait for calm. Returns whether its moment came, and how the wait ended."""
        self._killed.clear()
        self._fired = threading.Event()
        self._is_over = threading.Event()
        ahead = self.stack.ahead
        outage = self._rng.choice((0.0, 0.0, self._rng.uniform(0, LONGEST_OUTAGE_SECONDS)))
        self._lay_out(fault)
        self.load.start()
        self._patience.wait(lambda: self._has_fired(fault), is_busy=lambda: self.load.is_busy)
        has_fired = self._has_fired(fault)
        self._is_over.wait(outage)  # so long it stays as it is
        self._mend(fault)
        self.load.join()
        outcome = self._patience.wait(is_busy=lambda: False)
        return has_fired, Outcome(outcome.is_calm, self.stack.ahead - ahead, outcome.said)

    def _lay_out(self, fault: Fault) -> None:
        if fault.switch:
            self.stack.ask_provider("POST", "/admin/faults", fault.switch)
        elif fault.step and fault.moment:
            self._set_up(fault.step.setup)
            deed = functools.partial(self._do, fault)
            trap = Trap(fault.step.pattern, fault.moment, deed, fault.cuts)
            self.stack.links[fault.step.link].set_trap(trap)
            self._fired = trap.sprung
        else:
            moment = self._rng.uniform(0, LAST_MOMENT_SECONDS)
            threading.Thread(target=self._do_at, args=(fault, moment), name=fault.name, daemon=True).start()

    def _set_up(self, setup: str) -> None:
        link = self.stack.links["provider"]
        match setup:
            case "the answer to create is lost":
                link.set_trap(Trap(STEPS["create"].pattern, Moment.DONE, is_cut=True))
            case "create never arrives":
                link.set_trap(Trap(STEPS["create"].pattern, Moment.BEFORE, is_cut=True))
            case "the window is to be cancelled":
                self.stack.ask_provider("POST", "/admin/faults", {"kind": "stall", "at_line": 1, "times": 1})
                link.set_trap(Trap(STEPS["poll"].pattern, Moment.AFTER, self._cancel_a_window))

    def _do_at(self, fault: Fault, moment: float) -> None:
        if not self._is_over.wait(moment):
            self._do(fault)
            self._fired.set()

    def _do(self, fault: Fault) -> None:
        for part in fault.kills:
            self._killed.add(part)
            self.stack.kill(part)
        if fault.cuts_link:
            self.stack.links[fault.cuts_link].cut()
        if fault.refuses:
            self.stack.links[fault.refuses].refuse()

    def _has_fired(self, fault: Fault) -> bool:
        if not fault.switch:
            return self._fired.is_set()
        with contextlib.suppress(OSError):
            faults = self.stack.ask_provider("GET", "/admin/faults")["data"]
            return any(one["struck"] for one in faults)
        return False

    def _mend(self, fault: Fault) -> None:
        """Start what was killed, and only that; let everything pass again."""
        self._is_over.set()
        if fault.step or fault.refuses:
            for name in LINKS:
                if name not in self._killed:
                    self.stack.links[name].clear()
                else:
                    self.stack.links[name].traps.clear()
        for part in START_ORDER:
            if part in self._killed:
                self.stack.start_part(part)
        if fault.switch or (fault.step and fault.step.setup):
            self.stack.ask_provider("DELETE", "/admin/faults")
        if fault.step and fault.step.name == "cancel":
            self._resume_queues()

    # What only an administrator can do, through the pages

    def _cancel_a_window(self) -> None:
        """Cancel the newest window; what it has not run goes back to its queue, which is held until `_mend`."""
        with self.stack.cluster.connect("sluice") as connection:
            row = connection.execute("SELECT max(id) FROM batch_windows WHERE status = 'submitted'").fetchone()
        if row and row[0]:
            self._as_admin(f"/admin/windows/{row[0]}", f"/admin/windows/{row[0]}/cancel", jobs="back")

    def _resume_queues(self) -> None:
        with self.stack.cluster.connect("sluice") as connection:
            held = connection.execute("SELECT id FROM queues WHERE held_at IS NOT NULL").fetchall()
        for (queue_id,) in held:
            self._as_admin(f"/admin/queues/{queue_id}", f"/admin/queues/{queue_id}/resume")

    def _as_admin(self, page: str, action: str, **form: str) -> None:
        with httpx2.Client(base_url=self.stack.web_url, timeout=10) as http:
            login = {"email": ADMIN_EMAIL, "password": self.stack.secrets.admin_password}
            http.post("/login", data={**login, "csrf_token": _token(http, "/login")})
            done = http.post(action, data={**form, "reason": "faults", "csrf_token": _token(http, page)})
            if done.status_code not in (302, 303):
                raise StackError(f"{action} answered {done.status_code}")


def _token(http: httpx2.Client, page: str) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', http.get(page).text)
    if not found:
        raise StackError(f"{page} has no form")
    return found[1]
