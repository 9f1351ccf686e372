"""What a batch writes for one request: a line in one of its files, or what a fault of the scope `line` makes of it."""

from dataclasses import dataclass, field, replace

from . import batch_lines, ids
from .answer import Answer
from .answer_faults import second_answer, without_result
from .errors import ApiError
from .faults import Fault, Strikes


@dataclass(frozen=True)
class Outcome:
    custom_id: str
    counts_as_good: bool
    output: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)  # for the usage log


def of(custom_id: str, answer: Answer | None) -> Outcome:
    """200 belongs in the output file, any other status in the other one. None: we failed to answer."""
    if answer is None:
        return Outcome(custom_id, False, errors=[batch_lines.not_reached(custom_id)])
    line = [batch_lines.answered(custom_id, answer)]
    if answer.status == 200:
        return Outcome(custom_id, True, output=line, answers=[answer])
    return Outcome(custom_id, False, errors=line, answers=[answer])


def apply(strikes: Strikes, outcome: Outcome, facts: dict) -> Outcome:
    """Only a request that was answered can be struck, and by one kind only."""
    for kind, change in _KINDS.items():
        fault = strikes.take(kind, facts) if outcome.answers else None
        if fault:
            return change(fault, outcome)
    return outcome


def failed_answer(answer: Answer, status: int) -> Answer:
    error = ApiError("The request is not valid.", status=status, code="invalid_value")
    return without_result(answer, status, error.body())


def _status_zero(fault: Fault, outcome: Outcome) -> Outcome:
    """The request got lost, and is counted as good all the same."""
    return Outcome(outcome.custom_id, True, errors=[batch_lines.not_reached(outcome.custom_id)])


def _missing_lines(fault: Fault, outcome: Outcome) -> Outcome:
    answers = outcome.answers if fault["billed"] else []
    return Outcome(outcome.custom_id, outcome.counts_as_good, answers=answers)


def _doubled_lines(fault: Fault, outcome: Outcome) -> Outcome:
    """The same line twice; or two answers, the second of them billed or not."""
    if not fault["different"] or not outcome.output:
        return replace(outcome, output=outcome.output * 2, errors=outcome.errors * 2)
    first = outcome.answers[0]
    second = replace(second_answer(first, ids.response_id()), is_billed=first.is_billed and fault["billed"])
    line = batch_lines.answered(outcome.custom_id, second)
    return replace(outcome, output=[*outcome.output, line], answers=[first, second])


def _error_in_output(fault: Fault, outcome: Outcome) -> Outcome:
    failed = failed_answer(outcome.answers[0], fault["status"])
    line = batch_lines.answered(outcome.custom_id, failed)
    return Outcome(outcome.custom_id, False, output=[line], answers=[failed])


_KINDS = {
    "status_zero": _status_zero,
    "missing_lines": _missing_lines,
    "doubled_lines": _doubled_lines,
    "error_in_output": _error_in_output,
}
