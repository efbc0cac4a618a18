"""Training batches: pictures' codes, plans that steer some of them, conversations about them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bundle.codes import SparseCodes
from mllm_adapter.codes import CodeTable
from mllm_adapter.conversations import Encoded, TextBatch, collate, encode
from mllm_adapter.instructions import Instructions, Turn
from mllm_adapter.projector import PatchCodes
from mllm_adapter.prompt import PromptBuilder
from mllm_adapter.recipe import SteeringConfig
from mllm_adapter.steering import SteeringBatch, SteeringPlan
from mllm_adapter.words import Encode, WordEdit, expand

GROUP = 32
"""Conversations that go through the LLM together, the longest deciding how far they are padded."""

SUPPRESSED = 32
"""Concepts of the old label that are set to 0, at least."""


class Batch(NamedTuple):
    """Conversations that go through the LLM together."""

    codes: PatchCodes
    edits: SteeringBatch
    text: TextBatch

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(
            PatchCodes(*(x.to(device) for x in self.codes)),
            SteeringBatch(*(x.to(device) for x in self.edits)),
            TextBatch(*(x.to(device) for x in self.text)),
        )


class Labels:
    """Text codes of phrases, each encoded once, so that a plan costs no run of the text tower."""

    def __init__(self, encode: Encode, concepts: int) -> None:
        self._encode, self._concepts = encode, concepts
        self._rows: dict[str, tuple[NDArray[np.uint32], NDArray[np.float32]]] = {}

    def learn(self, phrases: Iterable[str]) -> None:
        """Encodes those that are new."""
        new = sorted(set(phrases) - self._rows.keys())
        for start in range(0, len(new), 1024):
            part = new[start : start + 1024]
            codes = SparseCodes.from_dense(self._encode(part))
            self._rows.update((phrase, codes.row(b)) for b, phrase in enumerate(part))

    def encode(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """Codes of phrases, (B, C)."""
        self.learn(phrases)
        codes = np.zeros((len(phrases), self._concepts), dtype=np.float32)
        for row, phrase in enumerate(phrases):
            indices, values = self._rows[phrase]
            codes[row, indices] = values
        return codes

    def known(self, phrase: str) -> bool:
        """The text tower has concepts for it."""
        return bool((self.encode([phrase]) > 0).any())

    def swap(
        self, old: str | None, new: str, top: int, strength: float, *, even: bool = False
    ) -> SteeringPlan:
        """The paper's edit (arXiv 2601.20075, section 5): the old label's concepts to 0, unless it
        is None, and the new label's to a strength; `even` gives each of them the same."""
        edits = [WordEdit(word=new, op="SET", value=strength, top=top, even=even)]
        if old is not None:
            edits.append(WordEdit(word=old, op="ABLATE", top=SUPPRESSED))
        return SteeringPlan(edits=expand(edits, self.encode))


class Shapes(NamedTuple):
    """easy-vqa's questions with the codes of its pictures, mixed in at some share."""

    table: CodeTable | None
    questions: Sequence[tuple[int, Turn]]
    share: float


class _Row(NamedTuple):
    """One conversation to be."""

    table: CodeTable
    picture: int
    plan: SteeringPlan | None
    text: Encoded


class Samples:
    """Batches of a split; a batch depends on the seed and its step only."""

    def __init__(
        self,
        meta: Sequence[Mapping[str, Any]],
        tables: Sequence[CodeTable],
        labels: Labels,
        build: PromptBuilder,
        steering: SteeringConfig,
        shapes: Shapes,
        *,
        system: str,
        seed: int,
    ) -> None:
        self._instructions = Instructions(meta)
        self._meta, self._tables, self._labels = meta, tables, labels
        self._build, self._steering, self._shapes = build, steering, shapes
        self._system, self._seed = system, seed
        self._of_caption: dict[str, list[int]] = {}
        for i, m in enumerate(meta):
            self._of_caption.setdefault(m["caption"], []).append(i)
        self._captions = sorted(self._of_caption)
        self._epoch = -1

    def batch(self, step: int, size: int) -> list[Batch]:
        """The batch of a step counted from 0, in parts of like lengths."""
        rng = random.Random(self._seed * 1_000_003 + step)
        rows = [
            self._shape(rng)
            if rng.random() < self._shapes.share
            else self._picture(self._order(step * size + i), rng)
            for i in range(size)
        ]
        rows.sort(key=lambda row: len(row.text.ids))
        return [_collate(rows[i : i + GROUP]) for i in range(0, size, GROUP)]

    def _shape(self, rng: random.Random) -> _Row:
        assert self._shapes.table is not None
        picture, turn = rng.choice(self._shapes.questions)
        return _Row(self._shapes.table, picture, None, self._encode([turn]))

    def _picture(self, picture: int, rng: random.Random) -> _Row:
        plan, about = None, picture
        if rng.random() < self._steering.share:
            caption = rng.choice(self._captions)
            about = rng.choice(self._of_caption[caption])
            phrase = caption if rng.random() < 0.5 else rng.choice(self._meta[about]["captions"])
            plan = self._plan(self._meta[picture]["caption"], phrase, rng)
        turns = self._instructions.conversation(about, rng)
        return _Row(rng.choice(self._tables), picture, plan, self._encode(turns))

    def _encode(self, turns: Sequence[Turn]) -> Encoded:
        return encode(turns, self._build, self._system)

    def _order(self, place: int) -> int:
        """The picture at a place: epoch after epoch, each in an order of its own."""
        epoch, i = divmod(place, len(self._meta))
        if epoch != self._epoch:
            self._epoch = epoch
            shuffle = np.random.default_rng([self._seed, epoch])
            self._shuffled = shuffle.permutation(len(self._meta))
        return int(self._shuffled[i])

    def _plan(self, old: str, new: str, rng: random.Random) -> SteeringPlan:
        low, high = self._steering.strength
        strength = math.exp(rng.uniform(math.log(low), math.log(high)))
        top = rng.choice(self._steering.top)
        stays = rng.random() < self._steering.kept
        return self._labels.swap(None if stays else old, new, top, strength)


def _collate(rows: Sequence[_Row]) -> Batch:
    parts = [row.table.codes([row.picture]) for row in rows]
    slots = max(part.indices.shape[2] for part in parts)
    padded = [[F.pad(x, (0, slots - x.shape[2])) for x in part] for part in parts]
    codes = PatchCodes(*(torch.cat(column) for column in zip(*padded, strict=True)))
    edits = SteeringBatch.of([row.plan for row in rows], codes.indices.shape[1])
    return Batch(codes, edits, collate([row.text for row in rows]))
