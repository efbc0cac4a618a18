"""Image-caption pairs from WebDataset shards. B batch, R stored side, S model side, T tokens."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from training.core.seeds import derive_seed
from training.data.shards import read_split
from training.loading.views import Views


class Encode(Protocol):
    """An open_clip tokenizer: texts to token ids (B, T)."""

    def __call__(self, texts: str | list[str]) -> Tensor: ...


class Batch(NamedTuple):
    """One step's input."""

    pixels: Float[Tensor, "B 3 S S"]
    """Or what the tower's frozen layers gave for them."""
    tokens: Int[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Which pairs to train on."""

    path: str = "data/build/demo"
    """A data set's folder, as `sparseclip data build` writes it; SPARSECLIP_DATA overrides it."""
    split: str = "train"
    canonical: float = 0.5
    """Probability of an item's first caption; the others share the rest."""
    weights: dict[str, float] = field(default_factory=dict)
    """How often an epoch shows each image of a style; once for styles not named here."""
    stream_pairs: int = 0
    """More than 0: read the folder's shards as they are needed, and count so many pairs an
    epoch. 0: hold the split in memory."""
    stream_shuffle: int = 10_000
    """Pairs held back to mix a stream."""
    workers: int = 4
    """Processes that decode a stream."""
    cached_views: int = 0
    """With `start.freeze_image`: random views of an image that go through the frozen layers once
    and are kept beside the data; fewer for a style of weight below 1. Steps draw from them. 0: each
    step makes views of its own."""

    @property
    def folder(self) -> Path:
        """Where the shards are."""
        return Path(os.environ.get("SPARSECLIP_DATA", self.path))


class Pairs:
    """A split held in memory, with every caption's tokens."""

    def __init__(self, folder: Path, split: str, encode: Encode, limit: int | None = None) -> None:
        samples = []
        for sample in read_split(folder, split):
            samples.append(sample)
            if limit is not None and len(samples) >= limit:
                break
        self.meta: list[dict[str, Any]] = [dict(s.meta) for s in samples]
        self._pngs = [s.png for s in samples]
        captions = [c for m in self.meta for c in m["captions"]]
        counts = [len(m["captions"]) for m in self.meta]
        self.first = torch.tensor([0, *np.cumsum(counts)[:-1]])
        self.counts = torch.tensor(counts)
        self.tokens = torch.cat(
            [encode(captions[i : i + 4096]) for i in range(0, len(captions), 4096)]
        )

    def __len__(self) -> int:
        return len(self.meta)

    @cached_property
    def rgba(self) -> UInt8[Tensor, "N 4 R R"]:
        """The images, decoded when first asked for: cached views can do without."""
        return torch.from_numpy(np.stack([_rgba(png) for png in self._pngs]))

    def batch(
        self,
        index: Int[Tensor, " B"],
        views: Views,
        canonical: float,
        generator: torch.Generator,
        share: tuple[int, int] = (0, 1),
    ) -> Batch:
        """Random views and captions of the items `index` (B,), or of the i-th of n equal parts of
        them, `share` being (i, n): a part's views and captions are those of the whole."""
        part, parts = share
        mine = slice(len(index) * part // parts, len(index) * (part + 1) // parts)
        other = torch.rand(len(index), 2, generator=generator)[mine]
        index = index[mine]
        spare = (self.counts[index] - 1).clamp(min=0)
        pick = torch.where(other[:, 0] < canonical, 0, 1 + (other[:, 1] * spare).long())
        pick = torch.minimum(pick, spare)
        tokens = self.tokens[self.first[index] + pick]
        return Batch(views(index, generator, share), tokens)

    def epoch_size(self, weights: Mapping[str, float]) -> int:
        """Images an epoch shows, by the weights of their styles."""
        return round(float(self._weights(weights).sum()))

    def epoch(self, weights: Mapping[str, float], seed: int, epoch: int) -> Int[Tensor, " M"]:
        """The images of an epoch in random order: a style of weight 2.5 gives each of its
        images twice, and half of them a third time."""
        generator = _generator(seed, -1 - epoch)
        weight = self._weights(weights)
        times = weight.floor().long()
        spare = (weight - times) * torch.rand(len(self), generator=generator)
        extra = self.epoch_size(weights) - int(times.sum())
        times[spare.argsort(descending=True)[:extra]] += 1
        index = torch.repeat_interleave(torch.arange(len(self)), times)
        return index[torch.randperm(len(index), generator=generator)]

    def _weights(self, weights: Mapping[str, float]) -> Float[Tensor, " N"]:
        return torch.tensor([float(weights.get(m["style"], 1.0)) for m in self.meta])

    def batches(
        self,
        start: int,
        batch: int,
        seed: int,
        config: PairsConfig,
        views: Views,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:
        """Batches from step `start` on, for ever; a batch depends on the seed and its step only.

        `share` (i, n) gives the i-th of n equal parts of each batch.
        """
        per_epoch = self.epoch_size(config.weights) // batch
        for epoch in count(start // per_epoch):
            order = self.epoch(config.weights, seed, epoch)
            for i in range(start % per_epoch, per_epoch):
                step = epoch * per_epoch + i
                index = order[i * batch : (i + 1) * batch]
                generator = _generator(seed, step)
                yield self.batch(index, views, config.canonical, generator, share)
            start = 0


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, number))


def to_device(pixels: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """A batch where the model is; maps (B, channels, height, width) with channels last if asked."""
    pixels = pixels.to(device, non_blocking=True)
    if channels_last and pixels.ndim == 4:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    return pixels


def _rgba(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGBA")).transpose(2, 0, 1).copy()
