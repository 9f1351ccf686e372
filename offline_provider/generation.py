"""From a prompt to the text of the answer, cut at the token limit."""

from dataclasses import dataclass

from . import engine, jsontext, structured, tokens
from .prompt import Prompt


@dataclass(frozen=True)
class Generated:
    text: str
    text_tokens: int
    reasoning_tokens: int
    is_cut: bool  # the token limit ended it

    @property
    def output_tokens(self) -> int:
        return self.text_tokens + self.reasoning_tokens


def generate(prompt: Prompt) -> Generated:
    prompt.check()
    text = _text(prompt)
    reasoning = tokens.reasoning_tokens(prompt.effort, prompt.max_tokens)
    is_cut = False
    if prompt.max_tokens is not None:
        room = prompt.max_tokens - reasoning
        is_cut = tokens.count_text(text) > room
        text = tokens.cut_text(text, room) if is_cut else text
    return Generated(text, tokens.count_text(text), reasoning, is_cut)


def _text(prompt: Prompt) -> str:
    if prompt.format.schema is not None:
        return jsontext.dump(structured.build(prompt.format.schema, prompt.source))
    summary = engine.summarise(prompt.source, prompt.instructions)
    return jsontext.dump({"summary": summary}) if prompt.format.json_object else summary
