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

from . import answers, batch_lines, clock, jsontext, usage, validation
from .answers import Answer
from .batch_folder import BatchFolder, ResultsLost
from .batch_store import BatchStore, Checkpoint
from .documents import Documents
from .file_store import DEFAULT_BATCH_SECONDS, FileStore
from .settings import Settings
from .web import ORGANIZATION

log = logging.getLogger(__name__)

# A step is at most this long, so that batches take turns and a cancel is soon seen.
STEP_LINES = 64
STEP_BYTES = 256 * 1024
EXPIRED_STEP_LINES = 2_000
NEVER = math.inf
_EXPIRED = "This request could not be executed before the completion window expired."


class BatchSteps:
    def __init__(self, settings: Settings, store: BatchStore, files: FileStore, documents: Documents):
        self._settings = settings
        self._store = store
        self._files = files
        self._documents = documents
        self._batches_dir = settings.data_dir / "batches"
        self._steps = {
            "validating": self._validate,
            "in_progress": self._run,
            "finalizing": self._finalize,
            "cancelling": self._cancel,
        }

    def advance(self, batch: Row) -> float:
        """One step. Returns when the batch wants the next one, in unix seconds; NEVER if it has ended."""
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

    # validating

    def _validate(self, batch: Row) -> float:
        due = batch["created_at"] + self._settings.validating_seconds
        if clock.now() < due:
            return due
        result = self._validated(batch)
        if result.errors:
            columns = {"errors": json.dumps(result.errors), "model": result.model}
            if self._store.move(batch["id"], ("validating",), "failed", **columns):
                self._folder(batch["id"]).remove()
                return NEVER
            return clock.now()  # cancelled meanwhile
        columns = {"model": result.model, "total": result.total, "enqueued_tokens": result.enqueued_tokens}
        self._store.move(batch["id"], ("validating",), "in_progress", **columns)
        return clock.now()

    def _validated(self, batch: Row) -> validation.Validated:
        problem = self._take_input(batch)
        if problem:
            return validation.Validated(errors=[problem])
        path = self._folder(batch["id"]).input
        result = validation.validate(path, batch["endpoint"], self._settings)
        if not result.errors and self._is_over_allowance(result):
            result.errors = [self._over_allowance(result.model)]
        return result

    def _take_input(self, batch: Row) -> dict | None:
        file_id = batch["input_file_id"]
        row = self._files.find(file_id)
        if row is not None and row["purpose"] != "batch":
            message = f"The purpose of file {file_id} is '{row['purpose']}', not 'batch'."
            return validation.error("invalid_request", message, "file_id")
        try:
            if row is None:
                raise FileNotFoundError
            self._folder(batch["id"]).take_input(self._files.path(file_id))
        except FileNotFoundError:
            message = f"Cannot find file {file_id}, or organization {ORGANIZATION} does not have access to it."
            return validation.error("invalid_request", message, "file_id")
        return None

    def _is_over_allowance(self, result: validation.Validated) -> bool:
        held = self._store.enqueued_tokens(result.model)
        return held + result.enqueued_tokens > self._settings.enqueued_tokens

    def _over_allowance(self, model: str) -> dict:
        message = (
            f"Enqueued token limit reached for {model} in organization {ORGANIZATION}. "
            f"Limit: {self._settings.enqueued_tokens:,} enqueued tokens. "
            "Please try again once some in_progress batches have been completed."
        )
        return validation.error("token_limit_exceeded", message)

    # in_progress

    def _run(self, batch: Row) -> float:
        now, total = clock.now(), batch["total"]
        done = batch["completed"] + batch["failed"]
        if now >= batch["expires_at"]:
            return self._expire(batch, total - done)
        seconds = self._settings.in_progress_seconds
        # The lines are spread over the time, so that the counts move and a cancel finds partial results.
        share = (now - batch["in_progress_at"]) / seconds if seconds else 1
        allowed = total if share >= 1 else int(total * share)
        if allowed <= done:
            return max(now + 0.01, batch["in_progress_at"] + (done + 1) / total * seconds)
        self._answer_lines(batch, allowed - done)
        return now

    def _answer_lines(self, batch: Row, most: int) -> None:
        checkpoint = Checkpoint.of(batch)
        folder = self._folder(batch["id"])
        lines, checkpoint.input_offset = folder.next_lines(checkpoint, min(most, STEP_LINES), STEP_BYTES)
        given = []
        with folder.results(checkpoint) as (output, errors):
            # Results come in another order than requests, as from the real service.
            for line in sorted(lines, key=lambda line: blake2b(line, digest_size=8).digest()):
                custom_id, answer = self._answer(batch, jsontext.parse(line))
                if answer is None:
                    errors.write(batch_lines.not_reached(custom_id))
                    checkpoint.failed += 1
                    continue
                given.append((custom_id, answer))
                is_good = answer.status == 200
                (output if is_good else errors).write(batch_lines.answered(custom_id, answer))
                _add(checkpoint, answer, is_good)
            checkpoint.output_bytes, checkpoint.error_bytes = output.tell(), errors.tell()
        with self._store.db.write() as connection:
            usage.record(connection, batch["endpoint"], given, batch["id"])
            self._store.save(connection, batch["id"], checkpoint)
            if checkpoint.completed + checkpoint.failed >= batch["total"]:
                self._store.move_in(connection, batch["id"], ("in_progress",), "finalizing")

    def _answer(self, batch: Row, line: dict) -> tuple[str, Answer | None]:
        try:
            return line["custom_id"], answers.answer(batch["endpoint"], line["body"], self._documents)
        except Exception:  # our own fault must not stop the other lines
            log.exception("batch %s: %s could not be answered", batch["id"], line["custom_id"])
            return line["custom_id"], None

    def _expire(self, batch: Row, left: int) -> float:
        if left == 0:
            return self._publish(batch, "expired")
        checkpoint = Checkpoint.of(batch)
        folder = self._folder(batch["id"])
        lines, checkpoint.input_offset = folder.next_lines(checkpoint, EXPIRED_STEP_LINES, 8 * 1024 * 1024)
        with folder.results(checkpoint) as (_, errors):
            for line in lines:
                errors.write(batch_lines.not_run(jsontext.parse(line)["custom_id"], "batch_expired", _EXPIRED))
            checkpoint.error_bytes = errors.tell()
        checkpoint.failed += len(lines)
        with self._store.db.write() as connection:
            self._store.save(connection, batch["id"], checkpoint)
        return clock.now()

    # the ends

    def _finalize(self, batch: Row) -> float:
        due = batch["finalizing_at"] + self._settings.finalizing_seconds
        return due if clock.now() < due else self._publish(batch, "completed")

    def _cancel(self, batch: Row) -> float:
        """What was answered before the cancel is kept and billed; the other lines get no line."""
        due = batch["cancelling_at"] + self._settings.cancelling_seconds
        return due if clock.now() < due else self._publish(batch, "cancelled")

    def _publish(self, batch: Row, status: str) -> float:
        """The results become files, and the batch ends: in one transaction."""
        folder = self._folder(batch["id"])
        kept = {
            kind: self._files.keep(path) if path else None for kind, path in folder.seal(Checkpoint.of(batch)).items()
        }
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


def _add(checkpoint: Checkpoint, answer: Answer, is_good: bool) -> None:
    checkpoint.completed += is_good
    checkpoint.failed += not is_good
    checkpoint.input_tokens += answer.input_tokens
    checkpoint.cached_tokens += answer.cached_tokens
    checkpoint.output_tokens += answer.output_tokens
    checkpoint.reasoning_tokens += answer.reasoning_tokens
