"""Training batches: images' codes and conversations about them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mllm_adapter.data.code_cache import CodeTable
from mllm_adapter.data.instructions import Instructions, Turn
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.model.prompt import PromptBuilder
from mllm_adapter.trainer.conversations import Encoded, TextBatch, collate, encode

GROUP = 32
"""Conversations that go through the LLM together, the longest deciding how far they are padded."""


class Batch(NamedTuple):
    """Conversations that go through the LLM together."""

    codes: PatchCodes
    text: TextBatch

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(
            PatchCodes(*(x.to(device) for x in self.codes)),
            TextBatch(*(x.to(device) for x in self.text)),
        )


class Shapes(NamedTuple):
    """easy-vqa's questions with the codes of its images, mixed in at some share."""

    table: CodeTable | None
    questions: Sequence[tuple[int, Turn]]
    share: float


class _Row(NamedTuple):
    """One conversation to be."""

    table: CodeTable
    image: int
    text: Encoded


class Samples:
    """Batches of a split; a batch depends on the seed and its step only."""

    def __init__(
        self,
        meta: Sequence[Mapping[str, Any]],
        tables: Sequence[CodeTable],
        build: PromptBuilder,
        shapes: Shapes,
        *,
        seed: int,
    ) -> None:
        self._instructions = Instructions(meta)
        self._meta, self._tables = meta, tables
        self._build, self._shapes = build, shapes
        self._seed = seed
        self._epoch = -1

    def batch(self, step: int, size: int) -> list[Batch]:
        """The batch of a step counted from 0, in parts of like lengths."""
        rng = random.Random(self._seed * 1_000_003 + step)
        rows = [
            self._shape(rng)
            if rng.random() < self._shapes.share
            else self._image(self._order(step * size + i), rng)
            for i in range(size)
        ]
        rows.sort(key=lambda row: len(row.text.ids))
        return [_collate(rows[i : i + GROUP]) for i in range(0, size, GROUP)]

    def _shape(self, rng: random.Random) -> _Row:
        assert self._shapes.table is not None
        image, turn = rng.choice(self._shapes.questions)
        return _Row(self._shapes.table, image, encode([turn], self._build))

    def _image(self, image: int, rng: random.Random) -> _Row:
        turns = self._instructions.conversation(self._meta[image], rng)
        return _Row(rng.choice(self._tables), image, encode(turns, self._build))

    def _order(self, place: int) -> int:
        """The image at a place: epoch after epoch, each in an order of its own."""
        epoch, i = divmod(place, len(self._meta))
        if epoch != self._epoch:
            self._epoch = epoch
            shuffle = np.random.default_rng([self._seed, epoch])
            self._shuffled = shuffle.permutation(len(self._meta))
        return int(self._shuffled[i])


def _collate(rows: Sequence[_Row]) -> Batch:
    parts = [row.table.codes([row.image]) for row in rows]
    slots = max(part.indices.shape[2] for part in parts)
    padded = [[F.pad(x, (0, slots - x.shape[2])) for x in part] for part in parts]
    codes = PatchCodes(*(torch.cat(column) for column in zip(*padded, strict=True)))
    return Batch(codes, collate([row.text for row in rows]))
