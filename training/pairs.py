"""Image-caption pairs from WebDataset shards. B batch, R stored side, S model side, T tokens."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from bundle.manifest import Preprocessing
from training.augment import AugmentConfig, augment
from training.data.shards import read_split

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's pixel statistics."""


def preprocessing(size: int) -> Preprocessing:
    """What a bundle does to a picture: the evaluation view."""
    return Preprocessing(size=size, mean=MEAN, std=STD)


class Encode(Protocol):
    """An open_clip tokenizer: texts to token ids (B, T)."""

    def __call__(self, texts: str | list[str]) -> Tensor: ...


class Batch(NamedTuple):
    """One step's input."""

    pixels: Float[Tensor, "B 3 S S"]
    tokens: Int[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Which pairs to train on."""

    path: str = "data/build/demo"
    """A data set's folder, as `sparseclip data build` writes it; SPARSECLIP_DATA overrides it."""
    split: str = "train"
    canonical: float = 0.5
    """Probability of an item's first caption; the others share the rest."""
    stream_pairs: int = 0
    """More than 0: read the folder's shards as they are needed, and count so many pairs an
    epoch. 0: hold the split in memory."""
    stream_shuffle: int = 10_000
    """Pairs held back to mix a stream."""
    workers: int = 4
    """Processes that decode a stream."""

    @property
    def folder(self) -> Path:
        """Where the shards are."""
        return Path(os.environ.get("SPARSECLIP_DATA", self.path))


class Pairs:
    """A split held in memory as (N, 4, R, R) uint8, with every caption's tokens."""

    def __init__(self, folder: Path, split: str, encode: Encode, limit: int | None = None) -> None:
        samples = []
        for sample in read_split(folder, split):
            samples.append(sample)
            if limit is not None and len(samples) >= limit:
                break
        self.meta: list[dict[str, Any]] = [dict(s.meta) for s in samples]
        self.rgba = torch.from_numpy(np.stack([_rgba(s.png) for s in samples]))
        captions = [c for m in self.meta for c in m["captions"]]
        counts = [len(m["captions"]) for m in self.meta]
        self.first = torch.tensor([0, *np.cumsum(counts)[:-1]])
        self.counts = torch.tensor(counts)
        self.tokens = torch.cat(
            [encode(captions[i : i + 4096]) for i in range(0, len(captions), 4096)]
        )

    def __len__(self) -> int:
        return len(self.meta)

    def batch(
        self,
        index: Tensor,
        size: int,
        config: AugmentConfig,
        canonical: float,
        generator: torch.Generator,
    ) -> Batch:
        """Random views and captions of the items `index` (B,)."""
        pixels = augment(self.rgba[index], size, config, generator)
        other = torch.rand(len(index), 2, generator=generator)
        spare = (self.counts[index] - 1).clamp(min=0)
        pick = torch.where(other[:, 0] < canonical, 0, 1 + (other[:, 1] * spare).long())
        pick = torch.minimum(pick, spare)
        return Batch(standardize(pixels), self.tokens[self.first[index] + pick])

    def batches(
        self,
        start: int,
        size: int,
        batch: int,
        seed: int,
        config: PairsConfig,
        views: AugmentConfig,
    ) -> Iterator[Batch]:
        """Batches from step `start` on, for ever; a batch depends on the seed and its step only."""
        per_epoch = len(self) // batch
        for epoch in count(start // per_epoch):
            order = torch.randperm(len(self), generator=_generator(seed, -1 - epoch))
            for i in range(start % per_epoch, per_epoch):
                yield self.batch(
                    order[i * batch : (i + 1) * batch],
                    size,
                    views,
                    config.canonical,
                    _generator(seed, epoch * per_epoch + i),
                )
            start = 0


def _generator(seed: int, place: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + place)


def standardize(pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 S S"]:
    """[0, 1] to CLIP's mean and deviation."""
    mean = torch.tensor(MEAN, device=pixels.device)[:, None, None]
    return (pixels - mean) / torch.tensor(STD, device=pixels.device)[:, None, None]


def _rgba(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGBA")).transpose(2, 0, 1).copy()
