"""Messages to token ids, with room for the visual tokens of images."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mllm_adapter.model.answer_format import answer_format
from mllm_adapter.model.chat_template import TemplateError, render
from mllm_adapter.model.piece_encoder import PieceEncoder
from mllm_adapter.model.turns import Role, arrangements

_CONTENT_MARKER = re.compile("\ue000(\\d+)\ue001")
"""Stands for the content of message N while the chat template is rendered. The delimiters are
private-use characters, which no template contains."""


@dataclass(frozen=True, kw_only=True)
class PromptMessage:
    """One message of a conversation, as the chat template reads it."""

    role: Role
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


class Exchange(NamedTuple):
    """A prompt and the answer that is to be learned."""

    prompt: Prompt
    answer: list[int]
    """The token ids that follow the prompt, the end token included."""


class PromptBuilder:
    """Renders a tokenizer's chat template.

    Only the template itself can produce special tokens: the same characters in a message are
    tokenized as plain text, so no caller can forge a turn. All else has the tokens that the
    template's rendered text has as a whole.
    """

    def __init__(self, tokenizer: Any, visual_tokens: int, system: str = "") -> None:
        """`visual_tokens` is their number per image. `system` is the system message of
        conversations that have none. Raises ValueError for a tokenizer without a template, and
        TemplateError for a template that nothing ends, or that a question does not pass."""
        if not tokenizer.chat_template:
            raise ValueError("the LLM's tokenizer has no chat template")
        self.tokenizer, self.visual_tokens, self.system = tokenizer, visual_tokens, system
        self.format = answer_format(tokenizer)
        self._encoder = PieceEncoder(tokenizer)
        self._rendered = functools.lru_cache(maxsize=256)(self._render)
        self._rendered(("user",), True, datetime.date.today())  # fails now, not after hours

    def __call__(self, messages: Sequence[PromptMessage], answer: bool = True) -> Prompt:
        """The prompt of a conversation. With `answer` it ends where the assistant's turn begins.

        Raises TemplateError.
        """
        return self._prompt(*self._pieces(messages, answer))

    def exchange(self, messages: Sequence[PromptMessage], answer: str) -> Exchange:
        """The prompt of a conversation and its answer, as the template writes it.

        Raises TemplateError.
        """
        pieces, contents = self._pieces(messages, answer=True)
        prompt = self._prompt(pieces, contents)
        contents = [*contents, PromptMessage(role="assistant", text=answer)]
        pieces = [*pieces[:-1], pieces[-1] + self.format.lead, str(len(contents) - 1)]
        whole = self._prompt(pieces, contents).ids
        # Where a token spans the end of the prompt, the answer is tokenized alone: the prompt must
        # be what the model reads when it is asked.
        length = len(prompt.ids)
        follows = whole[:length] == prompt.ids
        ids = whole[length:] if follows else self.answer_ids(answer)
        return Exchange(prompt, [*ids, self.format.end])

    def answer_ids(self, text: str) -> list[int]:
        """The token ids of a text where an answer begins, in which no special token is recognized,
        and without the end token."""
        return self._encoder.plain(self.format.lead + text)

    def _pieces(
        self, messages: Sequence[PromptMessage], answer: bool
    ) -> tuple[list[str], list[PromptMessage]]:
        """Template text and numbers of messages in turn, and the messages."""
        contents = list(messages)
        if self.system and not any(message.role == "system" for message in messages):
            contents.insert(0, PromptMessage(role="system", text=self.system))
        roles = tuple(message.role for message in contents)
        # Templates may write the day.
        return self._rendered(roles, answer, datetime.date.today()), contents

    def _render(self, roles: tuple[Role, ...], answer: bool, day: datetime.date) -> list[str]:
        """The template's text for messages of some roles, split at their contents.

        The template sees markers instead of contents, so the text depends on roles alone.
        """
        refused: TemplateError | None = None
        for turns in arrangements(roles):
            marked = [
                {
                    "role": turn.role,
                    "content": "\n\n".join(f"\ue000{i}\ue001" for i in turn.messages),
                }
                for turn in turns
            ]
            try:
                text = render(self.tokenizer, marked, answer)
            except TemplateError as error:
                refused = refused or error
                continue
            rendered = sorted(int(number) for number in _CONTENT_MARKER.findall(text))
            if rendered == list(range(len(roles))):
                return _CONTENT_MARKER.split(text)
            refused = refused or TemplateError(
                "the chat template leaves out a message, or repeats one"
            )
        raise refused or TemplateError("a conversation without a message")

    def _prompt(self, pieces: Sequence[str], contents: Sequence[PromptMessage]) -> Prompt:
        encoder, positions, ids = self._encoder, list[int](), list[int]()
        text = ""  # what is not encoded yet
        for i, piece in enumerate(pieces):
            if i % 2 == 0:  # re.split alternates between template text and message numbers
                text += piece
                continue
            message = contents[int(piece)]
            if message.images:
                ids += encoder(text, first=not ids)
                text = ""
            for _ in range(message.images):
                positions.append(len(ids))
                ids += [0] * self.visual_tokens
            content = "\n" + message.text if message.images else message.text
            if encoder.holds_special(content):
                ids += encoder(text, first=not ids) + encoder.plain(content)
                text = ""
            else:
                text += content
        ids += encoder(text, first=not ids)
        bos = encoder.missing_bos(ids)
        shift = len(bos)
        return Prompt(ids=bos + ids, image_positions=[p + shift for p in positions])
