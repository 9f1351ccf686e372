"""Does an answer's text have the form that the profile promises?"""

from __future__ import annotations

from dataclasses import replace

from webapp.domain.answers import Answer
from webapp.domain.json_text import read_json
from webapp.domain.profiles import Output


def output_fault(output: Output, answer: Answer) -> Answer:
    """The answer as it is, or as an error when its text is not the JSON that was asked for."""
    if output.type != "json" or answer.text is None:
        return answer
    if fault := _json_fault(answer.text, output):
        why = "was cut off before its JSON was complete" if answer.is_cut else fault
        return replace(answer, text=None, error_code="invalid_output", error_message=f"The model's answer {why}.")
    return answer


def _json_fault(text: str, output: Output) -> str | None:
    try:
        value = read_json(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return f"is not valid JSON ({error})"
    try:
        fault = next(output.validator.iter_errors(value), None)
    except Exception as error:  # a schema that cannot be followed, or an answer that nests without end
        return f"cannot be checked against its schema ({type(error).__name__})"
    return f"does not fit its schema ({fault.message[:200]})" if fault else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
