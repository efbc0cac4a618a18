"""Messages to token ids, with room for the visual tokens of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer

from mllm_adapter.model.chat_template import TemplateError, render

_CONTENT_MARKER = re.compile("\ue000(\\d+)\ue001")
"""Stands for the content of message N while the chat template is rendered. The delimiters are
private-use characters, which no template contains."""


@dataclass(frozen=True, kw_only=True)
class PromptMessage:
    """One message of a conversation, as the chat template reads it."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: int = 0
    """How many images come before the text."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A conversation as token ids, before visual tokens are put in."""

    ids: list[int]
    """Token ids, with 0 in the positions of visual tokens."""
    image_positions: list[int]
    """For each image, the position of its first visual token in `ids`."""


class PromptBuilder:
    """Renders a tokenizer's chat template.

    Only the template itself can produce special tokens: the same characters in a message are
    tokenized as plain text, so no caller can forge a turn.
    """

    def __init__(self, tokenizer: Any, visual_tokens: int, system: str = "") -> None:
        """`visual_tokens` is their number per image. `system` is the system message of
        conversations that have none. Raises ValueError for a tokenizer without a template."""
        if not tokenizer.chat_template:
            raise ValueError("the LLM's tokenizer has no chat template")
        self.tokenizer, self.visual_tokens, self.system = tokenizer, visual_tokens, system
        self._plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._plain.encode_special_tokens = True

    def __call__(self, messages: Sequence[PromptMessage], answer: bool = True) -> Prompt:
        """The prompt of a conversation. With `answer` it ends where the assistant's turn begins.

        Raises TemplateError.
        """
        if self.system and not any(message.role == "system" for message in messages):
            messages = [PromptMessage(role="system", text=self.system), *messages]
        # The template sees markers instead of contents. The rendered text is then split at the
        # markers, so that template and contents are tokenized apart.
        marked = [
            {"role": message.role, "content": f"\ue000{i}\ue001"}
            for i, message in enumerate(messages)
        ]
        text = render(self.tokenizer, marked, answer)
        rendered = sorted(int(number) for number in _CONTENT_MARKER.findall(text))
        if rendered != list(range(len(messages))):
            raise TemplateError("the chat template leaves out a message, or repeats one")
        ids: list[int] = []
        image_positions: list[int] = []
        for i, piece in enumerate(_CONTENT_MARKER.split(text)):
            if i % 2 == 0:  # re.split alternates between template text and message numbers
                ids += self.tokenizer.encode(piece, add_special_tokens=False) if piece else []
                continue
            message = messages[int(piece)]
            for _ in range(message.images):
                image_positions.append(len(ids))
                ids += [0] * self.visual_tokens
            ids += self.text("\n" + message.text if message.images else message.text)
        return Prompt(ids=ids, image_positions=image_positions)

    def text(self, text: str) -> list[int]:
        """The token ids of plain text, in which no special token is recognized."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids
