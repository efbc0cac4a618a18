"""How a chat template writes an answer: what stands before it, and which token ends it."""

from __future__ import annotations

from typing import Any, NamedTuple

from mllm_adapter.model.chat_template import TemplateError, render

_QUESTION, _ANSWER = "\ue000q\ue001", "\ue000a\ue001"
"""Contents of a conversation that shows the format. No template holds these characters."""


class AnswerFormat(NamedTuple):
    """What a template adds to an answer."""

    lead: str
    """The text between the prompt and the answer, such as Mistral's space."""
    end: int
    """The token that ends the answer. It is often another one than the tokenizer's eos token."""


def answer_format(tokenizer: Any) -> AnswerFormat:
    """Reads a tokenizer's chat template. Raises TemplateError where nothing ends an answer."""
    question = {"role": "user", "content": _QUESTION}
    prompt = render(tokenizer, [question], answer=True)
    whole = render(tokenizer, [question, {"role": "assistant", "content": _ANSWER}], answer=False)
    before, _, after = whole.partition(_ANSWER)
    lead = before.removeprefix(prompt) if before.startswith(prompt) else ""
    end = _first_special(tokenizer, after)
    if end is None:
        raise TemplateError("the chat template writes no token that ends an answer")
    return AnswerFormat(lead, end)


def _first_special(tokenizer: Any, text: str) -> int | None:
    """The first special token of a text; else its first added token that is no white space; else
    the tokenizer's eos token."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    added = tokenizer.added_tokens_decoder
    special = (i for i in ids if i in added and added[i].special)
    visible = (i for i in ids if i in added and str(added[i]).strip())
    eos: int | None = tokenizer.eos_token_id
    return next(special, next(visible, eos))
