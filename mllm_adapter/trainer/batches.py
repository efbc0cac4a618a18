"""Training batches: codes of images, and conversations about them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.instructions import Instructions, QuestionAnswer
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.model.prompt import PromptBuilder
from mllm_adapter.trainer.conversations import TokenBatch, TokenizedConversation, collate, encode
from training.core.seeds import derive_seed

CONVERSATIONS_PER_BATCH = 32
"""Conversations per forward pass; all are padded to the longest of them."""


class ConversationBatch(NamedTuple):
    """Conversations that go through the LLM in one forward pass."""

    codes: PatchCodes
    text: TokenBatch

    def to(self, device: torch.device) -> ConversationBatch:
        """Copies the batch to a device."""
        return ConversationBatch(
            PatchCodes(*(x.to(device) for x in self.codes)),
            TokenBatch(*(x.to(device) for x in self.text)),
        )


class EasyVqaMix(NamedTuple):
    """Questions of easy-vqa that are mixed into the training conversations."""

    table: CodeTable | None
    """The codes of easy-vqa's images; None without a share."""
    questions: Sequence[tuple[int, QuestionAnswer]]
    """Pairs of an image's row in `table` and a question about it."""
    share: float
    """The probability that a conversation is one of these questions."""


class _ConversationSample(NamedTuple):
    """One conversation, and the image that it is about."""

    table: CodeTable
    image: int
    """The image's row in `table`."""
    text: TokenizedConversation


class ConversationSampler:
    """Draws the batches of a split. A batch depends only on the seed and its step."""

    def __init__(
        self,
        meta: Sequence[Mapping[str, Any]],
        tables: Sequence[CodeTable],
        build: PromptBuilder,
        easy_vqa: EasyVqaMix,
        *,
        seed: int,
    ) -> None:
        self._instructions = Instructions(meta)
        self._meta, self._tables = meta, tables
        self._build, self._easy_vqa = build, easy_vqa
        self._seed = seed
        self._epoch = -1

    def batch(self, step: int, size: int) -> list[ConversationBatch]:
        """The batch of a step, counted from 0, split into parts of similar length."""
        rng = random.Random(derive_seed(self._seed, step))
        rows = [
            row
            for i in range(size)
            for row in (
                self._easy_vqa_sample(rng)
                if rng.random() < self._easy_vqa.share
                else self._sample(self._image_at(step * size + i), rng)
            )
        ]
        rows.sort(key=lambda row: len(row.text.ids))
        return [
            _collate(rows[i : i + CONVERSATIONS_PER_BATCH])
            for i in range(0, len(rows), CONVERSATIONS_PER_BATCH)
        ]

    def _easy_vqa_sample(self, rng: random.Random) -> list[_ConversationSample]:
        table = self._easy_vqa.table
        assert table is not None
        image, turn = rng.choice(self._easy_vqa.questions)
        return [_ConversationSample(table, image, row) for row in encode([turn], self._build)]

    def _sample(self, image: int, rng: random.Random) -> list[_ConversationSample]:
        turns = self._instructions.conversation(self._meta[image], rng)
        table = rng.choice(self._tables)
        return [_ConversationSample(table, image, row) for row in encode(turns, self._build)]

    def _image_at(self, position: int) -> int:
        """The image at a position of the run: epoch after epoch, each shuffled anew."""
        epoch, i = divmod(position, len(self._meta))
        if epoch != self._epoch:
            self._epoch = epoch
            generator = np.random.default_rng([self._seed, epoch])
            self._shuffled = generator.permutation(len(self._meta))
        return int(self._shuffled[i])


def _collate(rows: Sequence[_ConversationSample]) -> ConversationBatch:
    parts = [row.table.codes([row.image]) for row in rows]
    slots = max(part.indices.shape[2] for part in parts)
    padded = [[F.pad(x, (0, slots - x.shape[2])) for x in part] for part in parts]
    codes = PatchCodes(*(torch.cat(column) for column in zip(*padded, strict=True)))
    return ConversationBatch(codes, collate([row.text for row in rows]))
