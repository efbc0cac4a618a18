"""Cached embeddings as a head is trained on them. N images, M texts, V of a vocabulary, D width."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.core.seeds import derive_seed
from training.data.data_recipe import DataError
from training.sparsify.embeddings.embedding_cache import EmbeddedSplit

NEAREST = 16
"""Texts of the vocabulary nearest to an image, from which a step without captions draws one."""

FIRST_CAPTION = 0.5
"""Probability of an image's first caption; its others are equally likely."""

SAMPLE = 8192
"""Rows by which biases and shifts are set."""

_BLOCK = 2048


@dataclass(frozen=True, kw_only=True)
class HeadBatch:
    """Unit embeddings of one step."""

    images: Float[Tensor, "B D"]
    texts: Float[Tensor, "M D"]
    """One caption of each image, or texts that were drawn for themselves."""
    captions: Int[Tensor, " M"]
    """A number for each text, equal for equal ones."""


@dataclass(frozen=True, kw_only=True)
class HeadData:
    """Unit embeddings of a training split and of texts."""

    images: NDArray[np.float16]
    """(N, D)"""
    texts: Float[Tensor, "M D"]
    caption_rows: NDArray[np.int64]
    """The rows in `texts` of all captions of all images."""
    first: NDArray[np.int64]
    """(N + 1,): image i has the captions first[i] to first[i + 1]."""
    vocabulary: NDArray[np.int64]
    """(V,): the rows in `texts` that are drawn for themselves."""

    @classmethod
    def of(
        cls, split: EmbeddedSplit, rows: dict[str, int], texts: Tensor, vocabulary: Sequence[str]
    ) -> HeadData:
        """`rows` says where each text is in `texts`; captions that are not there are left out.

        Raises DataError where one image, or one text, is all that there is: a head learns from what
        tells them apart."""
        captions = [[rows[c] for c in meta["captions"] if c in rows] for meta in split.metas]
        caption_rows = np.array([row for own in captions for row in own], dtype=np.int64)
        if len(split.vectors) < 2:
            raise DataError(f"data.path: one good pair of {split.name} is too little to learn from")
        if len(np.unique(caption_rows)) == 1:
            raise DataError(
                "data.path: all captions are equal; --images-only reads a folder of images alone"
            )
        if len(vocabulary) < 2:
            raise DataError("vocabulary: one text is too little to learn from")
        return cls(
            images=split.vectors,
            texts=texts,
            caption_rows=caption_rows,
            first=np.cumsum([0, *map(len, captions)]),
            vocabulary=np.array([rows[text] for text in vocabulary], dtype=np.int64),
        )

    @property
    def has_captions(self) -> bool:
        """Whether any image has one."""
        return len(self.caption_rows) > 0

    @cached_property
    def digest(self) -> str:
        """Another one for other data: of all of them, as one caption more or less is another run.
        About a second for each gigabyte."""
        arrays = (self.images, self.texts.numpy(), self.caption_rows, self.first, self.vocabulary)
        total = hashlib.blake2b(digest_size=8)
        for array in arrays:
            total.update(str(array.shape).encode())
            total.update(np.ascontiguousarray(array).reshape(-1).data)
        return total.hexdigest()

    @cached_property
    def with_captions(self) -> NDArray[np.int64]:
        """The images that have a caption."""
        return np.flatnonzero(np.diff(self.first))

    @cached_property
    def nearest(self) -> NDArray[np.int64]:
        """(N, NEAREST): for each image the rows of the nearest texts of the vocabulary."""
        texts, count = self.texts[self.vocabulary], min(NEAREST, len(self.vocabulary))
        found = []
        for start in range(0, len(self.images), _BLOCK):
            found.append((self._images(slice(start, start + _BLOCK)) @ texts.T).topk(count).indices)
        rows: NDArray[np.int64] = self.vocabulary[torch.cat(found).numpy()]
        return rows

    @cached_property
    def sample(self) -> tuple[Float[Tensor, "N D"], Float[Tensor, "M D"]]:
        """At most SAMPLE embeddings of images, and of captions, or else of the vocabulary."""
        texts = np.unique(self.caption_rows) if self.has_captions else self.vocabulary
        return self._images(_even(len(self.images))), self.texts[texts[_even(len(texts))]]

    @cached_property
    def image_mean(self) -> Float[Tensor, " D"]:
        """The mean of the images of `sample`."""
        return self.sample[0].mean(0)

    def batch(
        self, step: int, size: int, texts: int, seed: int, *, captions: bool, mixing: float = 0.0
    ) -> HeadBatch:
        """The embeddings of a step, which depend on the seed and the step alone.

        With `captions`, one caption for each image. Without, one of the texts nearest to each image
        and `texts` others. With `mixing`, each image is moved towards another one, by its distance
        from the mean times a number from 0 to `mixing` (a mixup, arXiv 1710.09412, that keeps the
        caption). New images are farther from their texts than those that the towers or the head
        have learned from: a head learns to tell apart such ones as well.
        """
        images = self.with_captions if captions else np.arange(len(self.images))
        size = min(size, len(images))
        epoch, place = divmod(step * size, len(images))
        index = np.concatenate(
            [_order(len(images), seed, epoch), _order(len(images), seed, epoch + 1)]
        )[place : place + size]
        index = np.sort(images[index])  # in the order of the file
        generator = np.random.default_rng([seed, step])
        if captions:
            rows = self._captions(index, generator)
        else:
            others = generator.choice(self.vocabulary, min(texts, len(self.vocabulary)), False)
            column = generator.integers(self.nearest.shape[1], size=size)
            rows = np.union1d(self.nearest[index, column], others)
        return HeadBatch(
            images=self.mixed(self._images(index), mixing, generator),
            texts=self.texts[rows],
            captions=torch.from_numpy(rows),
        )

    def mixed(
        self, images: Float[Tensor, "B D"], mixing: float, generator: np.random.Generator
    ) -> Float[Tensor, "B D"]:
        """Images that are moved towards others; see `batch`."""
        if not mixing:
            return images
        chosen = np.sort(generator.integers(len(self.images), size=len(images)))
        others = self._images(chosen)[generator.permutation(len(images))]
        far = torch.from_numpy(generator.uniform(0, mixing, (len(images), 1)).astype(np.float32))
        return F.normalize(images + far * (others - self.image_mean))

    def _captions(
        self, index: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        counts = self.first[index + 1] - self.first[index]
        others = np.maximum(counts - 1, 1)
        other = 1 + generator.integers(np.iinfo(np.int32).max, size=len(index)) % others
        is_first = generator.random(len(index)) < FIRST_CAPTION
        chosen = np.where(is_first, 0, np.minimum(other, counts - 1))
        rows: NDArray[np.int64] = self.caption_rows[self.first[index] + chosen]
        return rows

    def _images(self, rows: NDArray[np.int64] | slice) -> Float[Tensor, "B D"]:
        return torch.from_numpy(self.images[rows].astype(np.float32))


def _even(count: int) -> NDArray[np.int64]:
    """At most SAMPLE numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(np.int64))


def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng(abs(derive_seed(seed, -1 - epoch))).permutation(count)
