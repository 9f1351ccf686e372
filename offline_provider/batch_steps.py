"""The one place where a batch advances.

    validating → in_progress → finalizing → completed          validating → failed
    in_progress → expired                                      any of the first three → cancelling → cancelled

Each call of `advance` does one short step and says when the next one is due. Everything that a step
decides is in the database before the step ends, so a killed process goes on where it stopped.
"""

import json
import logging
import math
from hashlib import blake2b
from sqlite3 import Row

from . import answers, batch_lines, batch_shapes, clock, flavours, jsontext, line_outcomes, usage
from .answer import Answer
from .batch_checks import BatchChecks
from .batch_folder import BatchFolder, ResultsLost
from .batch_store import BatchStore, Checkpoint, facts_of
from .documents import Documents
from .faults import Fault, Faults, Strikes
from .file_store import DEFAULT_BATCH_SECONDS, FileStore
from .limits import Limits

log = logging.getLogger(__name__)

# A step is at most this long, so that batches take turns and a cancel is soon seen.
STEP_LINES = 64
STEP_BYTES = 256 * 1024
EXPIRED_STEP_LINES = 2_000
NEVER = math.inf
_EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
_CANCELLED = ("batch_cancelled", "This request could not be executed before the batch was cancelled.")
_SHAPES = ("shuffle", "unknown_lines", "malformed_lines")


class BatchSteps:
    def __init__(
        self,
        settings: Limits,
        store: BatchStore,
        files: FileStore,
        documents: Documents,
        faults: Faults,
        checks: BatchChecks,
    ):
        self._settings = settings
        self._store = store
        self._files = files
        self._documents = documents
        self._faults = faults
        self._checks = checks
        self._batches_dir = settings.data_dir / "batches"
        self._steps = {
            "validating": self._validate,
            "in_progress": self._run,
            "finalizing": self._finalize,
            "cancelling": self._cancel,
        }

    def advance(self, batch: Row) -> float:
        """One step. Returns when the batch wants the next one, in unix seconds; NEVER if it has ended."""
        if batch["status"] in ("in_progress", "finalizing") and self._is_held(batch, "expire_now"):
            self._store.start_expiring(batch["id"])
            batch = self._store.get(batch["id"])
        try:
            return self._steps[batch["status"]](batch)
        except ResultsLost:
            log.warning("batch %s starts over: its results were not on the disk", batch["id"])
            with self._store.db.write() as connection:
                usage.forget_batch(connection, batch["id"])
                self._store.save(connection, batch["id"], Checkpoint())
            return clock.now()

    def sweep(self) -> None:
        """At the start: remove the folders of batches that have ended."""
        self._batches_dir.mkdir(exist_ok=True)
        unfinished = {batch["id"] for batch in self._store.unfinished()}
        for folder in self._batches_dir.iterdir():
            if folder.name not in unfinished:
                self._folder(folder.name).remove()

    def _folder(self, batch_id: str) -> BatchFolder:
        return BatchFolder(self._batches_dir, batch_id)

    def _held(self, batch: Row, kind: str) -> Fault | None:
        """The fault of this kind that has the batch in its hold. It wakes the worker when it is removed."""
        return self._faults.hold(kind, batch["id"], facts_of(batch))

    def _is_held(self, batch: Row, kind: str) -> bool:
        return self._held(batch, kind) is not None

    # validating

    def _validate(self, batch: Row) -> float:
        due = batch["created_at"] + self._settings.validating_seconds
        if clock.now() < due:
            return due
        if self._is_held(batch, "stall_validating"):
            return NEVER
        result = self._checks.check(batch, self._folder(batch["id"]))
        if result.errors:
            columns = {"errors": json.dumps(result.errors), "model": result.model}
            if self._store.move(batch["id"], ("validating",), "failed", **columns):
                self._folder(batch["id"]).remove()
                return NEVER
            return clock.now()  # cancelled meanwhile
        names = ("model", "endpoint", "total", "enqueued_tokens")
        columns = {name: getattr(result, name) for name in names}
        self._store.move(batch["id"], ("validating",), "in_progress", **columns)
        return clock.now()

    # in_progress

    def _run(self, batch: Row) -> float:
        now, total = clock.now(), batch["total"]
        done = batch["completed"] + batch["failed"]
        stall = self._faults.look("stall", batch["id"], facts_of(batch))
        room = _stalled_at(stall, total) - done if stall else total
        if room <= 0:
            stall = self._held(batch, "stall")
        expires_at = self._expires_at(batch, stall if room <= 0 else None)
        if now >= expires_at:
            return self._leave_unrun(batch, *_EXPIRED) if done < total else self._publish(batch, "expired")
        if room <= 0:
            return expires_at
        seconds = self._settings.in_progress_seconds
        # The lines are spread over the time, so that the counts move and a cancel finds partial results.
        share = (now - batch["in_progress_at"]) / seconds if seconds else 1
        allowed = total if share >= 1 else int(total * share)
        if allowed <= done:
            return max(now + 0.01, batch["in_progress_at"] + (done + 1) / total * seconds)
        self._answer_lines(batch, min(allowed - done, room))
        return now

    def _expires_at(self, batch: Row, stall: Fault | None) -> float:
        if batch["is_expiring"]:
            return -NEVER
        is_endless = not flavours.current().batches_expire or (stall and stall["past_expiry"])
        return NEVER if is_endless else batch["expires_at"]

    def _answer_lines(self, batch: Row, most: int) -> None:
        checkpoint = Checkpoint.of(batch)
        folder = self._folder(batch["id"])
        done = checkpoint.completed + checkpoint.failed
        lines, checkpoint.input_offset = folder.next_lines(checkpoint, min(most, STEP_LINES), STEP_BYTES)
        numbered = list(enumerate(lines, start=done + 1))
        facts, given = facts_of(batch), []
        with self._faults.strikes() as strikes:
            with folder.results(checkpoint) as (output, errors):
                # Results come in another order than requests, as from the real service.
                for number, line in sorted(numbered, key=lambda item: blake2b(item[1], digest_size=8).digest()):
                    outcome = self._outcome(batch, jsontext.parse(line), strikes, {**facts, "line": number})
                    output.writelines(outcome.output)
                    errors.writelines(outcome.errors)
                    given += [(outcome.custom_id, answer) for answer in outcome.answers]
                    _add(checkpoint, outcome)
                checkpoint.output_bytes, checkpoint.error_bytes = output.tell(), errors.tell()
            with self._store.db.write() as connection:
                usage.record(connection, batch["endpoint"], given, batch["id"])
                strikes.record(connection)
                self._store.save(connection, batch["id"], checkpoint)
                if checkpoint.completed + checkpoint.failed >= batch["total"]:
                    self._store.move_in(connection, batch["id"], ("in_progress",), "finalizing")

    def _outcome(self, batch: Row, line: dict, strikes: Strikes, facts: dict) -> line_outcomes.Outcome:
        custom_id = line["custom_id"]
        answer = self._answer(line, strikes, facts)
        facts = {**facts, "custom_id": custom_id, "body": line["body"]}
        failing = self._faults.hold("all_failed", batch["id"], facts)
        if answer and failing:
            answer = line_outcomes.failed_answer(answer, failing["status"])
        return line_outcomes.apply(strikes, line_outcomes.of(custom_id, answer), facts)

    def _answer(self, line: dict, strikes: Strikes, facts: dict) -> Answer | None:
        request = {**facts, "custom_id": line["custom_id"], "mode": "batch"}
        try:
            return answers.answer(facts["endpoint"], line["body"], self._documents, strikes, request)
        except Exception:  # our own fault must not stop the other lines
            log.exception("batch %s: %s could not be answered", facts["batch_id"], line["custom_id"])
            return None

    def _leave_unrun(self, batch: Row, code: str, message: str) -> float:
        """Some of the requests that never ran get a line that says so, and count as failed."""
        checkpoint = Checkpoint.of(batch)
        folder = self._folder(batch["id"])
        lines, checkpoint.input_offset = folder.next_lines(checkpoint, EXPIRED_STEP_LINES, 8 * 1024 * 1024)
        with folder.results(checkpoint) as (_, errors):
            for line in lines:
                errors.write(batch_lines.not_run(jsontext.parse(line)["custom_id"], code, message))
            checkpoint.error_bytes = errors.tell()
        checkpoint.failed += len(lines)
        with self._store.db.write() as connection:
            self._store.save(connection, batch["id"], checkpoint)
        return clock.now()

    # the ends

    def _finalize(self, batch: Row) -> float:
        if batch["is_expiring"]:
            return self._publish(batch, "expired")
        due = batch["finalizing_at"] + self._settings.finalizing_seconds
        if clock.now() < due:
            return due
        return NEVER if self._is_held(batch, "long_finalizing") else self._publish(batch, "completed")

    def _cancel(self, batch: Row) -> float:
        """What was answered before the cancel is kept and billed; the other lines get no line."""
        due = batch["cancelling_at"] + self._settings.cancelling_seconds
        if clock.now() < due:
            return due
        if self._is_held(batch, "ignore_cancel"):
            return NEVER
        is_partial = batch["completed"] + batch["failed"] < batch["total"]
        if is_partial and self._is_held(batch, "cancel_lines"):
            return self._leave_unrun(batch, *_CANCELLED)
        return self._publish(batch, "cancelled")

    def _publish(self, batch: Row, status: str) -> float:
        """The results become files, and the batch ends: in one transaction."""
        folder = self._folder(batch["id"])
        shapes = {kind: self._held(batch, kind) if batch["total"] else None for kind in _SHAPES}
        sealed = folder.seal(Checkpoint.of(batch))
        files = batch_shapes.shape(folder, sealed, shapes, status == "completed")
        kept = {kind: self._files.keep(path) if path else None for kind, path in files.items()}
        with self._store.db.write() as connection:
            columns = {"output_file_id": kept["output"], "error_file_id": kept["error"]}
            ended = self._store.move_in(connection, batch["id"], (batch["status"],), status, **columns)
            for kind, file_id in kept.items():
                if ended and file_id:
                    self._register(connection, batch, file_id, kind)
        if not ended:  # cancelled meanwhile; the files have no row, so the next start sweeps them
            return clock.now()
        folder.remove()
        return NEVER

    def _register(self, connection, batch: Row, file_id: str, kind: str) -> None:
        seconds = batch["output_seconds"] or DEFAULT_BATCH_SECONDS
        name = f"{batch['id']}_{kind}.jsonl"
        self._files.register(connection, file_id, name, "batch_output", clock.now(), seconds)


def _stalled_at(stall: Fault, total: int) -> int:
    """After so many lines it answers no more."""
    if stall["at_line"] is not None:
        return stall["at_line"]
    return int(total * (stall["at_share"] or 0))


def _add(checkpoint: Checkpoint, outcome: line_outcomes.Outcome) -> None:
    checkpoint.completed += outcome.counts_as_good
    checkpoint.failed += not outcome.counts_as_good
    for answer in outcome.answers:
        if answer.is_billed:
            checkpoint.input_tokens += answer.input_tokens
            checkpoint.cached_tokens += answer.cached_tokens
            checkpoint.output_tokens += answer.output_tokens
            checkpoint.reasoning_tokens += answer.reasoning_tokens
