"""Image-caption pairs streamed from shards, for sets that do not fit into memory. S image side."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from bundle.image import ImageError, ImageLimits, decode_image
from training.data.data_recipe import DataError
from training.loading.pairs import PairBatch, Tokenize
from training.model.pixels import standardize

MAX_UNREADABLE = 0.1
"""A larger fraction of unreadable pairs ends the run."""

MIN_PAIRS = 1000
"""Pairs that are read before that fraction is judged."""


class PairStream(IterableDataset[tuple[Tensor, Tensor]]):
    """One rank's batches, without end: epoch after epoch, each in another order.

    Shards are WebDataset tars with `jpg`, `png` or `webp` beside `txt` or `json` (a `caption`).
    The order depends on seed, epoch, rank and worker only, so a resumed run skips the pairs that it
    has read without decoding them. Unreadable pairs are counted and left out; as skipping does not
    notice them, a resumed run reads as many pairs once more.
    """

    def __init__(
        self,
        folder: Path,
        tokenize: Tokenize,
        *,
        size: int,
        batch_size: int,
        seed: int,
        rank: int,
        ranks: int,
        shuffle: int,
        start: int,
    ) -> None:
        self.shards = sorted(str(p) for p in folder.glob("*.tar"))
        if not self.shards:
            raise DataError(f"data.path: {folder.name} holds no .tar shards")
        self.tokenize, self.size, self.batch_size = tokenize, size, batch_size
        self.seed, self.rank, self.ranks, self.shuffle = seed, rank, ranks, shuffle
        self.start = start
        self.read_pairs = self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        info = torch.utils.data.get_worker_info()
        worker_id, workers = (info.id, info.num_workers) if info else (0, 1)
        # Worker i % workers makes batch i of the run. The loader asks its workers in turn, starting
        # with the one of id 0, which in a resumed run stands in for worker start % workers.
        worker = (worker_id + self.start) % workers
        skip = len(range(worker, self.start, workers)) * self.batch_size
        part = self.rank * workers + worker
        pairs = self._decoded(islice(self._raw(part, self.ranks * workers), skip, None))
        while True:
            pixels, captions = zip(*islice(pairs, self.batch_size), strict=True)
            yield torch.stack(pixels), self.tokenize(list(captions))

    def _raw(self, part: int, parts: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Undecoded pairs of one part of the data, shuffled, with their epoch."""
        import webdataset

        for epoch in count():
            order = random.Random(f"{self.seed}/{epoch}")
            shards = list(self.shards)
            order.shuffle(shards)
            # With fewer shards than parts, every part reads all shards and keeps every n-th pair.
            by_shard = len(shards) >= parts
            own_shards = shards[part::parts] if by_shard else shards
            mixer = random.Random(f"{self.seed}/{epoch}/{part}")
            buffer: list[dict[str, Any]] = []
            # No splitters: the shards are divided among ranks and workers already.
            source = webdataset.WebDataset(
                own_shards,
                shardshuffle=False,
                empty_check=False,
                nodesplitter=None,
                workersplitter=None,
            )
            for i, sample in enumerate(source):
                if not by_shard and i % parts != part:
                    continue
                buffer.append(sample)
                if len(buffer) > self.shuffle:
                    picked = mixer.randrange(len(buffer))
                    buffer[picked], buffer[-1] = buffer[-1], buffer[picked]
                    yield buffer.pop(), epoch
            mixer.shuffle(buffer)
            yield from ((sample, epoch) for sample in buffer)

    def _decoded(self, raw: Iterator[tuple[dict[str, Any], int]]) -> Iterator[tuple[Tensor, str]]:
        for sample, epoch in raw:
            self.read_pairs += 1
            view = random.Random(f"{self.seed}/{epoch}/{sample['__key__']}")
            try:
                yield random_crop(_image(sample), self.size, view), _caption(sample)
            except (ImageError, ValueError, KeyError):
                self.unreadable += 1
                enough = self.read_pairs >= MIN_PAIRS
                if enough and self.unreadable > MAX_UNREADABLE * self.read_pairs:
                    raise DataError(
                        f"data.path: {self.unreadable} of {self.read_pairs} pairs are unreadable"
                    ) from None


def stream_batches(stream: PairStream, workers: int) -> Iterator[PairBatch]:
    """Batches decoded by `workers` processes ahead of time."""
    loader = DataLoader(
        stream, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    for pixels, tokens in loader:
        yield PairBatch(pixels, tokens)


def random_crop(image: Image.Image, size: int, view: random.Random) -> Tensor:
    """open_clip's training view, (3, S, S): 90 to 100% of the area, at 3:4 to 4:3, resized."""
    image = image.convert("RGB")
    width, height = image.size
    area = width * height * view.uniform(0.9, 1.0)
    aspect = np.exp(view.uniform(np.log(3 / 4), np.log(4 / 3))) * 1.0
    w = min(width, round((area * aspect) ** 0.5))
    h = min(height, round((area / aspect) ** 0.5))
    left, top = view.randint(0, width - w), view.randint(0, height - h)
    box = (left, top, left + max(w, 1), top + max(h, 1))
    resized = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / 255)
    return standardize(pixels)


def _image(sample: dict[str, Any]) -> Image.Image:
    data = next((sample[k] for k in ("jpg", "jpeg", "png", "webp") if k in sample), None)
    if data is None:
        raise KeyError("image")
    return decode_image(data, ImageLimits())


def _caption(sample: dict[str, Any]) -> str:
    if "txt" in sample:
        return str(sample["txt"].decode())
    return str(json.load(io.BytesIO(sample["json"]))["caption"])
