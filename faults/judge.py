"""What must hold after every fault, checked from outside: the database, the provider's own log and `flask doctor`.

A verdict is a list of defects, each told once. The money of the run is compared as a whole, to the cent.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from devstack.processes import call_json
from faults.load import CODE, Load
from faults.system import LinkedStack
from webapp.config import ROOT
from webapp.domain.answers import Usage
from webapp.domain.pricing import PriceList
from webapp.domain.states import ExecutionMode

KINDS = ("lost", "stuck", "paid twin", "wrong job", "doubled entry", "unexplained payment", "wrong amount", "doctor")
DIGEST = "[0-9a-f]{64}"
Row = dict[str, Any]


@dataclass(frozen=True)
class Defect:
    kind: str  # one of KINDS
    what: str


@dataclass
class Tally:
    """Of the whole run: counts, and the money that the provider's log and the ledger tell."""

    jobs: Counter[str] = field(default_factory=Counter)  # by status
    failures: Counter[str] = field(default_factory=Counter)  # by failure code
    submissions: Counter[str] = field(default_factory=Counter)  # by how they were answered
    provider_usd: Decimal = Decimal(0)  # all that the provider bills
    ledger_usd: Decimal = Decimal(0)  # what the ledger knows
    unheard_usd: Decimal = Decimal(0)  # sync answers that reached nobody
    unknown_usd: Decimal = Decimal(0)  # answers without usage, or that could not be read: in the ledger, amount unknown
    unheard: list[str] = field(default_factory=list)  # each of them, with its job
    lost_entries: int = 0  # `answer_lost` in the ledger: each may have been paid
    unbilled_creates: int = 0  # provider batches that failed validation and that no window has: the fence
    attention: list[str] = field(default_factory=list)  # windows that say that something does not add up


class Judge:
    def __init__(self, stack: LinkedStack, load: Load) -> None:
        self._stack = stack
        self._load = load
        self._told: set[Defect] = set()
        self._usage: list[Row] = []
        self._prices = PriceList.load(ROOT / "prices.json")
        self.tally = Tally()

    def verdict(self, *, is_calm: bool, said: str) -> list[Defect]:
        """The defects that are new since the last verdict."""
        with self._stack.cluster.connect("sluice") as connection, connection.cursor(row_factory=dict_row) as cursor:
            found = [
                *self._lost(cursor), *self._stuck(cursor, is_calm, said), *self._wrong_results(cursor),
                *self._twins(cursor), *self._payments(cursor), *self._doctor(),
            ]  # fmt: skip
            self._count(cursor)
        fresh = [defect for defect in found if defect not in self._told]
        self._told.update(fresh)
        return fresh

    # Jobs

    def _lost(self, cursor: psycopg.Cursor[Row]) -> Iterator[Defect]:
        """What was accepted is there, once; what is there was submitted."""
        rows = cursor.execute("SELECT id, inputs->>'text' AS text FROM jobs").fetchall()
        by_code = defaultdict(list)
        for row in rows:
            by_code[_codes(row["text"]).pop()].append(row["id"])
        known = {one.code: one for one in self._load.submissions}
        for code, one in known.items():
            ids = by_code.get(code, [])
            if one.is_accepted and ids != [one.job_id]:
                yield Defect("lost", f"{code} was accepted as job {one.job_id}, the database has {ids}")
            elif len(ids) > 1:
                yield Defect("lost", f"{code} was submitted once and became the jobs {ids}")
        for code in by_code.keys() - known.keys():
            yield Defect("lost", f"nobody submitted the jobs {by_code[code]} ({code})")

    def _stuck(self, cursor: psycopg.Cursor[Row], is_calm: bool, said: str) -> Iterator[Defect]:
        """Ended, or waiting for other jobs to fill a window, as the app says, too."""
        if not is_calm:
            yield Defect("stuck", said)
        rows = cursor.execute(
            "SELECT id, status, queue_id FROM jobs WHERE finished_at IS NULL ORDER BY id"
        ).fetchall()  # fmt: skip
        address = f"{self._stack.internal_url}/api/internal/queues"
        told = call_json("GET", address, headers={"X-Internal-Token": self._stack.secrets.internal_token})
        short = {queue["queue"] for queue in told["queues"] if queue["reason"] == "short" and not queue["ready"]}
        for row in rows:
            if row["status"] != "queued" or row["queue_id"] not in short:
                yield Defect("stuck", f"job {row['id']} is {row['status']}")
        for row in cursor.execute("SELECT id, status FROM batch_windows WHERE finished_at IS NULL").fetchall():
            yield Defect("stuck", f"window {row['id']} is {row['status']}")

    def _wrong_results(self, cursor: psycopg.Cursor[Row]) -> Iterator[Defect]:
        """The code in a result is that of its job."""
        rows = cursor.execute(
            "SELECT j.id, j.inputs->>'text' AS text, r.text AS result, r.is_cut FROM jobs j"
            " JOIN job_results r ON r.job_id = j.id WHERE j.status = 'completed'"
        ).fetchall()
        for row in rows:
            own, found = _codes(row["text"]), _codes(row["result"])
            if found - own or (found != own and not row["is_cut"]):
                yield Defect("wrong job", f"job {row['id']} ({own}) has the result of {found}")

    # Money

    def _twins(self, cursor: psycopg.Cursor[Row]) -> Iterator[Defect]:
        """No window and no input file was billed in two provider batches; none was billed that no window has."""
        batches = self._all("/admin/batches")
        ours = {row["provider_batch_id"] for row in
                cursor.execute("SELECT provider_batch_id FROM batch_windows").fetchall()}  # fmt: skip
        billed = [batch for batch in batches if batch["billed"]["requests"]]
        for key in ("input_file_id", "window"):
            groups = defaultdict(list)
            for batch in billed:
                value = batch["metadata"].get("sluice_window") if key == "window" else batch["input_file_id"]
                groups[value].append(batch["id"])
            for value, ids in groups.items():
                if len(ids) > 1:
                    yield Defect("paid twin", f"{key} {value} was billed as {ids}")
        for batch in billed:
            if batch["id"] not in ours:
                yield Defect("paid twin", f"{batch['id']} was billed and no window has it")
        strays = [batch for batch in batches if batch["id"] not in ours and not batch["billed"]["requests"]]
        self.tally.unbilled_creates = len(strays)
        for batch in strays:
            if batch["status"] != "failed":
                yield Defect("paid twin", f"{batch['id']} is {batch['status']} and no window has it")

    def _payments(self, cursor: psycopg.Cursor[Row]) -> Iterator[Defect]:
        """Every billed answer is one ledger entry of its price, or reached nobody and is an `answer_lost` entry."""
        entries = cursor.execute("SELECT * FROM ledger ORDER BY id").fetchall()
        lost: Counter[int] = Counter(entry["job_id"] for entry in entries if entry["reason"] == "answer_lost")
        # An answer that could not be read has no id: its entry has a digest for a key, and an unknown amount.
        unread = Counter(entry["job_id"] for entry in entries if re.fullmatch(DIGEST, entry["answer_key"]))
        known = defaultdict(list)
        for entry in entries:
            if entry["reason"] != "answer_lost":
                known[entry["answer_key"]].append(entry)
        tally = self.tally
        tally.lost_entries, tally.unheard = sum(lost.values()), []
        tally.provider_usd = tally.unheard_usd = tally.unknown_usd = Decimal(0)
        tally.ledger_usd = sum((entry["amount"] or Decimal(0) for entry in entries), Decimal(0))
        for row in self._billed_usage():
            price = self._price(row)
            tally.provider_usd += price
            found = known.pop(row["response_id"], [])
            if len(found) > 1:
                ids = [entry["id"] for entry in found]
                yield Defect("doubled entry", f"{row['response_id']} is in the ledger as {ids}")
            elif found and found[0]["amount"] is None:
                tally.unknown_usd += price
            elif found and found[0]["amount"] != price:
                yield Defect("wrong amount", f"ledger entry {found[0]['id']}: {found[0]['amount']}, not {price}")
            elif not found:
                job = self._job_of(row, cursor)
                if row["mode"] == "sync" and unread[job or 0]:
                    unread[job or 0] -= 1
                    tally.unknown_usd += price
                elif row["mode"] == "batch" or not lost[job or 0]:
                    what = f"{row['mode']} answer {row['response_id']} of job {job} is in no entry"
                    yield Defect("unexplained payment", what)
                else:
                    lost[job or 0] -= 1
                    tally.unheard.append(f"{row['response_id']} (job {job})")
                    tally.unheard_usd += price
        for key, found in known.items():
            if any(entry["amount"] for entry in found):
                yield Defect("unexplained payment", f"the provider never billed {key} (entry {found[0]['id']})")
        difference = tally.provider_usd - tally.ledger_usd - tally.unheard_usd - tally.unknown_usd
        if difference:
            yield Defect("wrong amount", f"the provider's log and the ledger differ by {difference} USD")

    def _billed_usage(self) -> list[Row]:
        after = self._usage[-1]["id"] if self._usage else 0
        self._usage += self._all("/admin/usage", after)
        return [row for row in self._usage if row["billed"]]

    def _price(self, row: Row) -> Decimal:
        at = datetime.fromtimestamp(row["created_at"], UTC)
        prices = self._prices.unit_prices(row["model"], ExecutionMode(row["mode"]), at)
        assert prices, row["model"]
        return prices.cost(Usage(row["input_tokens"], row["output_tokens"], row["cached_tokens"]))

    def _job_of(self, row: Row, cursor: psycopg.Cursor[Row]) -> int | None:
        """Whose request it was: a batch line says so, of the others we kept the bodies."""
        if row["custom_id"]:
            found = cursor.execute("SELECT job_id FROM batch_items WHERE custom_id = %s", (row["custom_id"],))
        else:
            body = self._stack.links["provider"].asked.get(row["request_sha256"], b"").decode("utf-8", "replace")
            code = next(iter(_codes(body)), "nobody")
            found = cursor.execute("SELECT id AS job_id FROM jobs WHERE inputs->>'text' LIKE %s", (f"%{code}%",))
        job = found.fetchone()
        return job["job_id"] if job else None

    def _all(self, path: str, after: int = 0) -> list[Row]:
        """Every page of one of the provider's lists."""
        rows: list[Row] = []
        while True:
            page = self._stack.ask_provider("GET", f"{path}?limit=10000&after={after}")
            rows += page["data"]
            if not page["has_more"]:
                return rows
            after = page["last_id"]

    # The app's own word

    def _doctor(self) -> Iterator[Defect]:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "wsgi", "doctor", "--provider"],
            cwd=self._stack.checkout, env={**self._stack.app_environment(), "PATH": os.defpath}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if done.returncode:
            yield Defect("doctor", done.stdout.strip()[-1500:])

    def _count(self, cursor: psycopg.Cursor[Row]) -> None:
        tally = self.tally
        rows = cursor.execute("SELECT status, failure_code, count(*) AS n FROM jobs GROUP BY 1, 2").fetchall()
        tally.jobs, tally.failures, tally.submissions = Counter(), Counter(), Counter()
        for row in rows:
            tally.jobs[row["status"]] += row["n"]
            if row["failure_code"]:
                tally.failures[row["failure_code"]] += row["n"]
        tally.submissions.update(str(one.status or "nobody heard") for one in self._load.submissions)
        tally.attention = [
            f"window {row['id']}: {row['needs_attention']}" for row in
            cursor.execute("SELECT id, needs_attention FROM batch_windows WHERE needs_attention IS NOT NULL").fetchall()
        ]  # fmt: skip


def _codes(text: str) -> set[str]:
    return set(re.findall(CODE, text))
