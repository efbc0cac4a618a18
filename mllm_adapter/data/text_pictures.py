"""Text codes of phrases as codes of patches, put where a caller's edit puts them.

N phrases, P patches, C concepts, K slots.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.phrase_concepts import PhraseConcepts
from mllm_adapter.data.texts_config import TextsConfig
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.text_to_concepts import SUPPRESSED_CONCEPTS
from training.data.data_recipe import DataError

LEAST_PART = 0.25
"""A phrase that is not on all patches is on at least this share of them."""


class LabelledRow(NamedTuple):
    """An image whose caption can be suppressed."""

    row: int
    """In a table of codes."""
    label: int
    """The row of its caption."""


class TextPictures:
    """Draws pictures of phrases."""

    def __init__(
        self,
        codes: PhraseConcepts,
        config: TextsConfig,
        table: CodeTable,
        labels: PhraseConcepts,
        images: Sequence[LabelledRow],
        grid: tuple[int, int],
    ) -> None:
        """`images` are those of `table` on which phrases are put, and `labels` has the codes of
        their captions. Raises DataError."""
        self.codes, self.config = codes, config
        self._table, self._labels, self._images = table, labels, images
        rows, columns = grid
        if table.patches == 1 and (config.pairs or config.part):
            raise DataError("texts.pairs, texts.part: must be 0 for a bundle with one patch")
        numbers = np.arange(table.patches).reshape(rows, columns)
        self._orders = (numbers.ravel(), numbers.T.ravel())
        """All patches from the top, and from the left."""

    def __call__(self, phrases: Sequence[int], rng: random.Random) -> PatchCodes:
        """A picture with some phrases, by their rows: none, one, or two on parts of the patches,
        the first of which is on top or on the left. (1, P, K)"""
        patches = self._table.patches
        slots = 0 if phrases else 1
        base = PatchCodes(torch.zeros(1, patches, slots).long(), torch.zeros(1, patches, slots))
        if phrases and rng.random() < self.config.kept:
            base = self._without_label(rng.choice(self._images))
        indices, values = base.indices[0].numpy(), base.values[0].numpy()
        for phrase, part in zip(phrases, self._parts(len(phrases), rng), strict=True):
            concepts, strength = self._drawn(phrase, rng)
            # SET: what the patches had of these concepts is replaced.
            replaced = part[:, None] & np.isin(indices, concepts)
            values = np.where(replaced, 0, values)
            shape = (patches, len(concepts))
            indices = np.concatenate([indices, np.broadcast_to(concepts, shape)], axis=1)
            values = np.concatenate([values, part[:, None] * strength], axis=1, dtype=np.float32)
        return PatchCodes(torch.from_numpy(indices)[None], torch.from_numpy(values)[None])

    def _without_label(self, image: LabelledRow) -> PatchCodes:
        """An image's codes without the concepts of its caption, as when a caller suppresses it."""
        base, label = self._table.codes([image.row]), image.label
        suppressed = self._labels.indices[label][self._labels.values[label] > 0]
        is_suppressed = torch.isin(base.indices, torch.from_numpy(suppressed))
        return PatchCodes(base.indices, base.values.masked_fill(is_suppressed, 0))

    def _drawn(
        self, phrase: int, rng: random.Random
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """A phrase's concepts and their values."""
        low, high = np.log(self.config.strength)
        strength = np.exp(rng.uniform(low, high))
        used = self.codes.values[phrase] > 0
        noise = np.exp([rng.gauss(0, self.config.noise) for _ in range(int(used.sum()))])
        values = (strength * noise * self.codes.values[phrase][used]).astype(np.float32)
        return self.codes.indices[phrase][used], values

    def _parts(self, count: int, rng: random.Random) -> list[NDArray[np.bool_]]:
        """For each phrase, which patches it is on."""
        patches = self._table.patches
        everywhere = np.ones(patches, dtype=bool)
        if count == 0 or (count == 1 and rng.random() >= self.config.part):
            return [everywhere] * count
        least = max(1, round(LEAST_PART * patches))
        size = rng.randint(min(least, patches - 1), max(1, patches - least))
        order = rng.choice(self._orders)
        if count == 1 and rng.random() < 0.5:
            order = np.array(rng.sample(range(patches), patches))
        first = np.zeros(patches, dtype=bool)
        first[order[:size]] = True
        return [first, ~first][:count]


def text_pictures(
    phrases: Sequence[str],
    concepts: PhraseConcepts,
    config: TextsConfig,
    table: CodeTable,
    meta: Sequence[Mapping[str, Any] | None],
    grid: tuple[int, int],
) -> TextPictures:
    """Pictures of phrases upon the images of `table` that `meta` knows. `concepts` has those of all
    phrases and captions. Raises DataError."""
    known = [(row, m["caption"]) for row, m in enumerate(meta) if m is not None]
    labels = {c: row for row, c in enumerate(dict.fromkeys(caption for _, caption in known))}
    label_codes = concepts.taken([*labels], SUPPRESSED_CONCEPTS)
    images = [LabelledRow(row, labels[caption]) for row, caption in known]
    codes = concepts.taken(phrases, config.top)
    return TextPictures(codes, config, table, label_codes, images, grid)
