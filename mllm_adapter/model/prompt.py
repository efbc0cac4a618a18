"""Messages to token ids, with places for visual tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer

_MARK = re.compile("\ue000(\\d+)\ue001")
"""Stands for a message's content while the chat template is filled in: private-use characters,
which no template holds."""


@dataclass(frozen=True, kw_only=True)
class PromptMessage:
    """One turn."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: int = 0
    """Images in front of the text."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the LLM reads."""

    ids: list[int]
    """Token ids; 0 where a visual token goes."""
    places: list[int]
    """Where each image's visual tokens begin."""


class PromptBuilder:
    """Fills a tokenizer's chat template. The template's special tokens are its own: the same words
    in a message are plain text. An image takes `visual` tokens, and `system` is the system message
    of conversations that have none."""

    def __init__(self, tokenizer: Any, visual: int, system: str = "") -> None:
        if not tokenizer.chat_template:
            raise ValueError("the LLM's tokenizer has no chat template")
        self.tokenizer, self.visual, self.system = tokenizer, visual, system
        self._plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._plain.encode_special_tokens = True

    def __call__(self, messages: Sequence[PromptMessage], answer: bool = True) -> Prompt:
        """The prompt of a conversation; with `answer` it ends where the assistant's turn begins."""
        if self.system and not any(message.role == "system" for message in messages):
            messages = [PromptMessage(role="system", text=self.system), *messages]
        marked = [
            {"role": message.role, "content": f"\ue000{i}\ue001"}
            for i, message in enumerate(messages)
        ]
        text: str = self.tokenizer.apply_chat_template(
            marked, tokenize=False, add_generation_prompt=answer
        )
        ids: list[int] = []
        places: list[int] = []
        for i, piece in enumerate(_MARK.split(text)):
            if i % 2 == 0:
                ids += self.tokenizer.encode(piece, add_special_tokens=False) if piece else []
                continue
            message = messages[int(piece)]
            for _ in range(message.images):
                places.append(len(ids))
                ids += [0] * self.visual
            ids += self.text("\n" + message.text if message.images else message.text)
        return Prompt(ids=ids, places=places)

    def text(self, text: str) -> list[int]:
        """Token ids of plain text."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids
