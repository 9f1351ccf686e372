"""Whether a batch may begin: its input file, the enqueued tokens of its model, and the faults that pretend."""

from sqlite3 import Row

from . import flavours, validation
from .batch_folder import BatchFolder
from .batch_store import BatchStore, facts_of
from .errors import ApiError
from .fault_errors import validation_words
from .faults import Faults
from .file_store import FileStore
from .limits import Limits
from .web import ORGANIZATION


class BatchChecks:
    def __init__(self, settings: Limits, store: BatchStore, files: FileStore, faults: Faults):
        self._settings = settings
        self._store = store
        self._files = files
        self._faults = faults

    def check(self, batch: Row, folder: BatchFolder) -> validation.Validated:
        """Takes the file as the batch's own, and checks it."""
        problem = self._take_input(batch, folder)
        if problem:
            return validation.Validated(errors=[problem])
        result = validation.validate(folder.input, batch["endpoint"], self._settings)
        if not result.errors and self._is_over_allowance(result):
            result.errors = [self._over_allowance(result.model)]
        if not result.errors:
            result.errors = self._invented_errors(batch, result)
        return result

    def _invented_errors(self, batch: Row, result: validation.Validated) -> list[dict]:
        facts = {**facts_of(batch), "model": result.model, "endpoint": result.endpoint}
        words = {**facts, "organization": ORGANIZATION}
        faults = self._faults.holding("validation_error", batch["id"], facts)
        return [validation.error(*validation_words(fault, words)) for fault in faults]

    def _take_input(self, batch: Row, folder: BatchFolder) -> dict | None:
        file_id = batch["input_file_id"]
        row = self._files.find(file_id)
        if row is not None and row["purpose"] != "batch":
            message = f"The purpose of file {file_id} is '{row['purpose']}', not 'batch'."
            return validation.error("invalid_request", message, "file_id")
        try:
            if row is None:
                raise FileNotFoundError
            folder.take_input(self._files.path(file_id))
        except FileNotFoundError:
            message = f"Cannot find file {file_id}, or organization {ORGANIZATION} does not have access to it."
            return validation.error("invalid_request", message, "file_id")
        return None

    def _is_over_allowance(self, result: validation.Validated) -> bool:
        held = self._store.enqueued_tokens(result.model)
        return held + result.enqueued_tokens > self._settings.enqueued_tokens

    def _over_allowance(self, model: str) -> dict:
        words = {"model": model, "organization": ORGANIZATION, "limit": self._settings.enqueued_tokens}
        return validation.error("token_limit_exceeded", flavours.current().over_allowance.format(**words))

    def refuse_if_over_allowance(self, file_id: str, endpoint: str) -> None:
        """ApiError 400 for an input file that the present allowance has no room for. Other faults of the file
        are left to the validation."""
        try:
            self._files.get(file_id)
            result = validation.validate(self._files.path(file_id), endpoint, self._settings)
        except (ApiError, FileNotFoundError):
            return
        if not result.errors and self._is_over_allowance(result):
            problem = self._over_allowance(result.model)
            raise ApiError(problem["message"], code=problem["code"])
