"""Image-caption pairs from WebDataset shards. B batch, R stored side, S model side, T tokens."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from bundle.image import ImageLimits, decode_image
from bundle.schema import Fraction, NonNegativeInt
from training.core.seeds import derive_seed
from training.data.shards import read_split
from training.loading.augment import WHOLE, BatchPart
from training.loading.caption_numbers import caption_numbers, joined_numbers
from training.loading.held_out_rule import HeldOutRule
from training.loading.pair_data import PairData
from training.loading.sources import AUTO
from training.loading.sources.base import Columns
from training.loading.views import Views
from training.model.tokenizer import CaptionTokens

log = logging.getLogger(__name__)


class Tokenize(Protocol):
    """Captions to token ids (B, T), and how many were cut."""

    def __call__(self, captions: list[str]) -> CaptionTokens: ...


class PairBatch(NamedTuple):
    """Pairs of one step, those of this rank or of all."""

    pixels: Float[Tensor, "B 3 S S"]
    """With cached views: the output of the image tower's frozen layers for the pixels."""
    tokens: Int[Tensor, "B T"]
    captions: Int[Tensor, " B"] | None = None
    """A number for each caption, where equal tokens do not tell which are equal."""
    ground: Bool[Tensor, "B P"] | None = None
    """The patches that show the views' ground alone, where a loss asks for them."""


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Which pairs a run trains on, and how it reads them."""

    path: str = "data/build/demo"
    """Folder or file of pairs: a data set that `sparseclip data build` wrote, or pairs of your own.
    $SPARSECLIP_DATA overrides it."""
    split: str = "train"
    """Data without splits of their own have `train`, `held_out` (one pair in twenty) and `all`."""
    held_out: HeldOutRule = "auto"
    """How data without splits of their own are split. `groups` reads all pairs once, so that images
    that look alike and equal captions are not on both sides; `image` goes by a digest of each image
    alone. `auto` is `groups` up to 16 GiB."""
    kind: str = AUTO
    """Kind of the data: webdataset, list, table, huggingface, files or classes. `auto` is what
    their files tell."""
    image_column: str = ""
    """Column of a table or a list that holds the images; empty for one with a usual name."""
    caption_column: str = ""
    """Column that holds the captions."""
    canonical: Fraction = 0.5
    """Probability that a view has its image's first caption; the other captions are equally
    likely."""
    weights: dict[str, float] = field(default_factory=dict)
    """Style -> how often an epoch shows each of its images; once for styles that are not listed."""
    stream_pairs: NonNegativeInt = 0
    """Above 0, pairs are read as they are needed, and an epoch has this many pairs. 0 holds a split
    that `sparseclip data build` wrote in memory, and counts the pairs of other data first."""
    stream_shuffle: NonNegativeInt = 10_000
    """Size of the buffer in which streamed pairs are shuffled."""
    workers: NonNegativeInt = 4
    """Processes that decode streamed pairs."""
    cached_views: NonNegativeInt = 0
    """With `start.freeze_image`, this many random views of each image pass through the frozen
    layers once; the outputs are kept beside the data, and steps draw from them. A style with a
    weight below 1 has proportionally fewer. 0 makes new views at each step."""

    @property
    def folder(self) -> Path:
        """The folder of the data: SPARSECLIP_DATA, or `path`."""
        return Path(os.environ.get("SPARSECLIP_DATA", self.path))

    def open(self) -> PairData:
        """The data, not read yet. Raises DataError."""
        columns = Columns(image=self.image_column, caption=self.caption_column)
        return PairData(self.folder, kind=self.kind, columns=columns, held_out=self.held_out)


def resolve_held_out(config: PairsConfig, begun: PairsConfig | None) -> HeldOutRule:
    """Turns `auto` into the rule with which a run was begun, or into that which the size of its
    data asks for. Data with splits of their own need none. Raises DataError."""
    if config.held_out != "auto":
        return config.held_out
    if begun is not None:
        return begun.held_out
    data = config.open()
    return "auto" if data.has_splits else data.held_out_rule


class PairsInMemory:
    """A split of N images held in memory, with the tokens of every caption."""

    def __init__(
        self, folder: Path, split: str, tokenize: Tokenize, limit: int | None = None
    ) -> None:
        samples = []
        for sample in read_split(folder, split):
            samples.append(sample)
            if limit is not None and len(samples) >= limit:
                break
        self.meta: list[dict[str, Any]] = [dict(s.meta) for s in samples]
        self._pngs = [s.png for s in samples]
        self.captions: list[str] = [c for m in self.meta for c in m["captions"]]
        self.tokenize, self._has_cut = tokenize, False
        captions = self.captions
        counts = [len(m["captions"]) for m in self.meta]
        # Image i has captions first[i] to first[i] + counts[i] - 1 of `captions` and `tokens`.
        self.first = torch.tensor([0, *np.cumsum(counts)[:-1]])
        self.counts = torch.tensor(counts)
        self.tokens, cut = tokenize(captions)
        if cut:
            context = self.tokens.shape[1]
            log.warning("%d of %d captions are cut at %d tokens", cut, len(captions), context)

    def __len__(self) -> int:
        return len(self.meta)

    @cached_property
    def rgba(self) -> UInt8[Tensor, "N 4 R R"]:
        """The images, decoded at the first access: a run with cached views never needs them."""
        return torch.from_numpy(np.stack([_rgba(png) for png in self._pngs]))

    def batch(
        self,
        index: Int[Tensor, " B"],
        views: Views,
        canonical: float,
        generator: torch.Generator,
        part: BatchPart = WHOLE,
    ) -> PairBatch:
        """Random views and captions of a part of the images `index` (B,), the same as in the whole.

        `canonical` is the probability of an image's first caption.
        """
        rows = part.slice_of(len(index))
        # Drawn for the whole batch, so that a run's captions do not depend on its ranks.
        draws = torch.rand(len(index), 2, generator=generator)[rows]
        own = index[rows]
        others = (self.counts[own] - 1).clamp(min=0)  # captions beside the first
        caption = torch.where(draws[:, 0] < canonical, 0, 1 + (draws[:, 1] * others).long())
        caption = self.first[own] + torch.minimum(caption, others)
        drawn = views(index, generator, part)
        if drawn.partners is None:
            return PairBatch(drawn.pixels, self.tokens[caption], None, drawn.ground)
        joined = self._joined(caption, self.first[own], drawn.partners)
        return PairBatch(drawn.pixels, *joined, drawn.ground)

    def _joined(
        self, caption: Int[Tensor, " b"], own: Int[Tensor, " b"], partners: Int[Tensor, " b"]
    ) -> tuple[Int[Tensor, "b T"], Int[Tensor, " b"]]:
        """The tokens of captions, by their place in `captions`, and their numbers. Where there is a
        partner, they are the first captions of both images, `own` and the partner's: `A and B`.
        Others would rarely come again, and a frozen sentence encoder reads a text only once."""
        tokens = self.tokens[caption]
        numbers = caption_numbers(tokens)
        rows = (partners >= 0).nonzero()[:, 0]
        if len(rows) == 0:
            return tokens, numbers
        own, first = own[rows], self.first[partners[rows]]
        pairs = zip(own.tolist(), first.tolist(), strict=True)
        found, cut = self.tokenize([f"{self.captions[a]} and {self.captions[b]}" for a, b in pairs])
        tokens[rows] = found
        numbers[rows] = joined_numbers(
            caption_numbers(self.tokens[own]), caption_numbers(self.tokens[first])
        )
        if cut and not self._has_cut:
            self._has_cut = True
            log.warning("some captions of two images are cut at %d tokens", tokens.shape[1])
        return tokens, numbers

    def epoch_size(self, weights: Mapping[str, float]) -> int:
        """Images per epoch: the sum of the weights of their styles."""
        return round(float(self._weights(weights).sum()))

    def epoch(self, weights: Mapping[str, float], seed: int, epoch: int) -> Int[Tensor, " M"]:
        """The images of an epoch in random order. Each image of a style of weight 2.5 appears
        twice, and half of them a third time."""
        generator = _generator(seed, -1 - epoch)  # steps have the numbers from 0 on
        weight = self._weights(weights)
        times = weight.floor().long()
        # Fractional weights give some images one more turn: as many as the epoch has room for.
        priority = (weight - times) * torch.rand(len(self), generator=generator)
        extra = self.epoch_size(weights) - int(times.sum())
        times[priority.argsort(descending=True)[:extra]] += 1
        index = torch.repeat_interleave(torch.arange(len(self)), times)
        return index[torch.randperm(len(index), generator=generator)]

    def _weights(self, weights: Mapping[str, float]) -> Float[Tensor, " N"]:
        return torch.tensor([float(weights.get(m["style"], 1.0)) for m in self.meta])

    def batches(
        self,
        start: int,
        batch_size: int,
        seed: int,
        config: PairsConfig,
        views: Views,
        part: BatchPart = WHOLE,
    ) -> Iterator[PairBatch]:
        """A part of each batch from step `start` on, without end. A batch depends on the seed and
        its step only."""
        per_epoch = self.epoch_size(config.weights) // batch_size
        for epoch in count(start // per_epoch):
            order = self.epoch(config.weights, seed, epoch)
            for i in range(start % per_epoch, per_epoch):
                step = epoch * per_epoch + i
                index = order[i * batch_size : (i + 1) * batch_size]
                generator = _generator(seed, step)
                yield self.batch(index, views, config.canonical, generator, part)
            start = 0


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, number))


def to_device(pixels: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """Moves a batch to the model's device. With `channels_last`, 4-dimensional ones also get that
    memory format."""
    pixels = pixels.to(device, non_blocking=True)
    if channels_last and pixels.ndim == 4:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    return pixels


def _rgba(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = decode_image(png, ImageLimits())
    return np.asarray(image.convert("RGBA")).transpose(2, 0, 1).copy()
