"""Does an answer's text have the form that the profile promises?"""

from __future__ import annotations

import json
from dataclasses import replace

from webapp.domain.answers import Answer
from webapp.domain.profiles import Output


def output_fault(output: Output, answer: Answer) -> Answer:
    """The answer as it is, or as an error when its text is not the JSON that was asked for."""
    if output.type != "json" or answer.text is None:
        return answer
    try:
        json.loads(answer.text)
    except ValueError as error:
        why = "was cut off before its JSON was complete" if answer.is_cut else f"is not valid JSON ({error})"
        return replace(answer, text=None, error_code="invalid_output", error_message=f"The model's answer {why}.")
    return answer
